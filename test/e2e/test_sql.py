"""The views people look at with psql say the same, in the same words, as the API."""

import pytest

from harness.contract import CONTRACT
from harness.participant import Answer, Gate
from harness.wait import wait_until


def same(shared, gid):
    """The API's transaction; the views are held against it. Retried: it may be moving. Answers of
    single branches are recorded with the next step, so until the end the views may lag there."""
    txn = shared.client.txn(gid)
    rows = shared.db.query(
        "SELECT gid, mode, state, outcome,"
        " to_char(created_at AT TIME ZONE 'UTC', %s), to_char(deadline_at AT TIME ZONE 'UTC', %s),"
        " to_char(decided_at AT TIME ZONE 'UTC', %s), to_char(ended_at AT TIME ZONE 'UTC', %s)"
        " FROM assent.transactions WHERE gid = %s", *[TIME] * 4, gid)
    names = ("gid", "mode", "state", "outcome", "created_at", "deadline_at", "decided_at",
             "ended_at")
    branches = shared.db.query(
        "SELECT branch, participant, state FROM assent.branches WHERE gid = %s ORDER BY n", gid)
    shown = [(b["id"], b["participant"], b["state"]) for b in txn["branches"]]
    if not txn["ended_at"]:
        branches, shown = [b[:2] for b in branches], [b[:2] for b in shown]
    return rows == [tuple(txn[n] for n in names)] and branches == shown


TIME = 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'


@pytest.mark.parametrize("script, branches, state", [
    ({}, "ab", "committed"),
    ({("b", "prepare"): [Answer(409)]}, "ab", "aborted"),
    ({("b", "prepare"): [Answer(200, '{"vote":"read_only"}')]}, "ab", "committed"),
    ({("b", "commit"): [Answer(409, '{"outcome":"aborted"}')]}, "ab", "mixed"),
    ({("b", "prepare"): [Answer(409)],
      ("a", "rollback"): [Answer(409, '{"outcome":"committed"}')]}, "ab", "mixed"),
    ({}, "a", "committed"),
    ({("b", "commit"): [Answer(503)]}, "ab", "committing"),
    ({("b", "prepare"): [Answer(409)], ("b", "rollback"): [Answer(503)]}, "ab", "aborting"),
    ({("b", "prepare"): [Answer(503)]}, "ab", "preparing"),
    ({("a", "commit"): [Answer(503)]}, "a", "one_phase"),
    ({("a", "commit"): [Answer(409)], ("a", "rollback"): [Answer(503)]}, "a", "arbitrating"),
])
def test_views(shared, part, gid, script, branches, state):
    for (name, op), answers in script.items():
        part.on(name, op, *answers)
    shared.client.put(gid, {
        "mode": "2pc", "timeout_ms": 3000000,
        "branches": [part.branch(n, payload={"q": '"'}) for n in branches]})
    shared.wait_state(gid, state)
    wait_until(lambda: same(shared, gid), what="the view and the API to agree")


@pytest.mark.parametrize("payload", ['"\\u0000"', '"\\\\\\u0000\\u0000"', '"\\\\u0000"',
                                     '"\\ud800"', '"\\udc00\\ud800"', '1e999999', '"\x7f"'])
def test_payloads_do_not_matter(shared, part, gid, payload):
    """PostgreSQL's json functions refuse some of what JSON allows."""
    body = ('{"mode":"2pc","branches":[{"id":"a","participant":"%s","payload":%s},'
            '{"id":"b","participant":"%s"}]}' % (part.url("a"), payload, part.url("b")))
    assert shared.client.put(gid, body, wait=10)["outcome"] == "committed"
    wait_until(lambda: same(shared, gid), what="the view and the API to agree")


def test_escaped_names(shared, part, gid):
    """JSON may write the same characters in other ways; the views show the characters."""
    body = ('{"mode":"2pc","branches":[{"\\u0069d":"\\u0061.b","participant":"%s"},'
            '{"id":"b","participant":"%s"}]}' % (
                part.url("a").replace("/", "\\/"), part.url("b")))
    assert shared.client.put(gid, body, wait=10)["outcome"] == "committed"
    wait_until(lambda: same(shared, gid), what="the view and the API to agree")


def test_attempts(shared, part, gid):
    part.on("a", "prepare", Answer(503), Answer(200))
    part.on("b", "prepare", Answer(kind="reset"), Answer(200))
    shared.client.put(gid, {"mode": "2pc", "retry": {"initial_ms": 10},
                            "branches": [part.branch("a"), part.branch("b")]}, wait=10)
    history = wait_until(
        lambda: (lambda h: h if len(h) == 6 else None)(shared.client.history(gid)["attempts"]),
        what="six attempts")
    rows = shared.db.query(
        "SELECT branch, op, attempt, status, verdict, error, node FROM assent.attempts"
        " WHERE gid = %s ORDER BY started_at", gid)
    names = ("branch", "op", "attempt", "status", "verdict", "error", "node")
    assert sorted(rows) == sorted(tuple(a[n] for n in names) for a in history)


def test_names_are_the_contracts(shared):
    """Every number has a name, every name is in the contract, and none is missing."""
    for kind, schema in (("state", "TransactionState"), ("outcome", "Outcome"),
                         ("branch", "BranchState"), ("op", "Operation"), ("verdict", "Verdict")):
        rows = shared.db.query("SELECT name FROM assent.name WHERE kind = %s", kind)
        assert {r[0] for r in rows} == set(CONTRACT.schema(schema)["enum"]), kind
    modes = shared.db.query("SELECT name FROM assent.name WHERE kind = 'mode'")
    assert [r[0] for r in modes] == CONTRACT.schema("Transaction")["properties"]["mode"]["enum"]


def test_nothing_is_shown_before_it_is_stored(shared, part, gid):
    """The API never runs ahead of the table."""
    hold = Gate()
    part.on("b", "commit", Answer(gate=hold))
    shared.client.put(gid, {"mode": "2pc", "branches": [part.branch("a"), part.branch("b")]})
    wait_until(lambda: shared.client.txn(gid)["outcome"] == "committed", what="the decision")
    assert shared.state(gid) == "committing"
    hold.open()
    shared.client.ended(gid)
