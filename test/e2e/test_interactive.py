"""Transactions that grow: begin, enlist, commit or rollback, and the initiator who disappears."""

import json
from concurrent.futures import ThreadPoolExecutor, TimeoutError

import pytest

from harness.client import Client
from harness.participant import Answer, Gate
from harness.postgres import connect
from harness.system import Assentd
from harness.wait import wait_until


def begin(api, gid, **members):
    reply = api.put(gid, dict({"mode": "2pc", "interactive": True}, **members))
    assert reply.status == 202, reply
    assert (reply["state"], reply["outcome"], reply["interactive"]) == ("active", "pending", True)
    return reply


def enlist(api, gid, body, valid=True):
    return api.request("POST", "/v1/transactions/%s/branches" % gid, body, valid=valid)


def close(api, gid, how, wait=10, **kw):
    headers = {"Prefer": "wait=%d" % wait} if wait else {}
    return api.request("POST", "/v1/transactions/%s/%s" % (gid, how), headers=headers, **kw)


def refused(reply, status, code):
    assert (reply.status, reply["code"]) == (status, code), reply


def ids(txn):
    return [b["id"] for b in txn["branches"]]


def test_begin_enlist_commit(api, part, gid):
    begin(api, gid, labels={"order": "7"})
    assert ids(enlist(api, gid, part.branch("stock", payload={"n": 1})).json) == ["stock"]
    assert ids(enlist(api, gid, part.branch("account")).json) == ["stock", "account"]
    assert part.calls(gid=gid) == []
    reply = close(api, gid, "commit")
    assert (reply.status, reply["state"], reply["outcome"]) == (200, "committed", "committed")
    assert sorted((c.name, c.op) for c in part.calls(gid=gid)) == [
        ("account", "commit"), ("account", "prepare"), ("stock", "commit"), ("stock", "prepare")]


def test_payload_of_an_enlisted_branch_survives(api, part, gid):
    payload = '{"a": 19.99, "b": 12345678901234567890, "c": "\\u0000",  "d":[ ]}'
    begin(api, gid)
    body = json.dumps(part.branch("stock"))[:-1] + ', "payload": %s}' % payload
    assert enlist(api, gid, body).status == 200
    enlist(api, gid, part.branch("account"))
    close(api, gid, "commit")
    assert {c.body for c in part.calls(name="stock", gid=gid)} == {payload.encode()}


def test_rollback(api, part, gid):
    begin(api, gid)
    for name in ("stock", "account"):
        enlist(api, gid, part.branch(name))
    reply = close(api, gid, "rollback")
    assert (reply.status, reply["outcome"]) == (200, "aborted")
    assert sorted((c.name, c.op) for c in part.calls(gid=gid)) == [
        ("account", "rollback"), ("stock", "rollback")]


def test_a_no_rolls_back(api, part, gid):
    part.on("account", "prepare", Answer(409))
    begin(api, gid)
    for name in ("stock", "account"):
        enlist(api, gid, part.branch(name))
    assert close(api, gid, "commit")["outcome"] == "aborted"


@pytest.mark.parametrize("how, outcome", [("commit", "committed"), ("rollback", "aborted")])
def test_without_branches(api, gid, how, outcome):
    begin(api, gid)
    assert close(api, gid, how)["outcome"] == outcome


def test_a_single_branch_commits_in_one_phase(api, part, gid):
    begin(api, gid)
    enlist(api, gid, part.branch("stock"))
    assert close(api, gid, "commit")["outcome"] == "committed"
    assert [(c.op, c.headers["Assent-One-Phase"]) for c in part.calls(gid=gid)] == [
        ("commit", "true")]


def test_deadline_rolls_back_what_was_left_behind(api, part, gid):
    begin(api, gid, timeout_ms=1000)
    enlist(api, gid, part.branch("stock"))
    assert api.ended(gid)["outcome"] == "aborted"
    assert [c.op for c in part.calls(gid=gid)] == ["rollback"]
    refused(enlist(api, gid, part.branch("account")), 409, "wrong_state")
    refused(close(api, gid, "commit"), 409, "wrong_state")
    assert close(api, gid, "rollback")["outcome"] == "aborted"


def test_votes_have_their_own_time(api, shared, part, gid):
    """It begins with the commit, and is what a restart would go by."""
    part.on("account", "prepare", *[Answer(503)] * 3 + [Answer(200)])
    begin(api, gid, timeout_ms=20000, vote_timeout_ms=600000)
    for name in ("stock", "account"):
        enlist(api, gid, part.branch(name))
    reply = close(api, gid, "commit", wait=20)
    assert reply["outcome"] == "committed"
    stored = "SELECT extract(epoch FROM deadline_at - created_at) FROM assent.txn WHERE gid = %s"
    assert 600 <= shared.db.value(stored, gid) < 620


def test_every_call_may_be_repeated(api, part, gid):
    first = begin(api, gid)
    assert api.put(gid, {"mode": "2pc", "interactive": True}).json == first.json
    branch = json.dumps(part.branch("stock"))
    for _ in range(3):
        reply = enlist(api, gid, branch)
        assert (reply.status, ids(reply.json)) == (200, ["stock"])
    refused(enlist(api, gid, part.branch("stock", payload=2)), 422, "branch_conflict")
    enlist(api, gid, part.branch("account"))
    for _ in range(3):
        assert close(api, gid, "commit")["outcome"] == "committed"
    api.ended(gid)
    assert close(api, gid, "commit")["outcome"] == "committed"
    assert enlist(api, gid, branch).status == 200
    refused(close(api, gid, "rollback"), 409, "wrong_state")
    refused(enlist(api, gid, part.branch("late")), 409, "wrong_state")
    assert len(part.calls(name="stock", op="prepare", gid=gid)) == 1


def test_unknown_and_coordinated(api, part, gid):
    refused(enlist(api, gid, part.branch("stock")), 404, "unknown_transaction")
    refused(close(api, gid, "commit"), 404, "unknown_transaction")
    api.put(gid, {"mode": "2pc", "branches": [part.branch("stock"), part.branch("account")]}, wait=10)
    for reply in (enlist(api, gid, part.branch("more")), close(api, gid, "commit"),
                  close(api, gid, "rollback")):
        refused(reply, 409, "wrong_state")


@pytest.mark.parametrize("body, status, code, pointer", [
    ("{", 400, "malformed_json", None),
    ('{"id":"a","participant":"http://127.0.0.1:1/"}]}', 400, "malformed_json", None),
    ('[]', 422, "wrong_type", None),
    ('{"participant":"http://127.0.0.1:1/a"}', 422, "missing_member", "/id"),
    ('{"id":"a"}', 422, "missing_member", "/participant"),
    ('{"id":"a b","participant":"http://127.0.0.1:1/a"}', 422, "invalid_identifier", "/id"),
    ('{"id":"a","participant":"http://example.com/a"}', 422, "participant_not_allowed",
     "/participant"),
    ('{"id":"a","participant":"http://127.0.0.1:1/a","timeout_ms":0}', 422, "out_of_range",
     "/timeout_ms"),
    ('{"id":"a","participant":"http://127.0.0.1:1/a","paylod":0}', 422, "unknown_member", "/paylod"),
])
def test_bad_branches(api, gid, body, status, code, pointer):
    begin(api, gid)
    reply = enlist(api, gid, body, valid=False)
    refused(reply, status, code)
    if pointer:
        assert reply["errors"][0]["pointer"] == pointer
    assert api.txn(gid)["branches"] == []


def test_vote_timeout_belongs_to_interactive(api, part, gid):
    reply = api.put(gid, {"mode": "2pc", "vote_timeout_ms": 5, "branches": [part.branch("a")]},
                    valid=False)
    refused(reply, 422, "unknown_member")


def test_sixty_four_branches(api, part, gid):
    begin(api, gid)
    for i in range(64):
        assert enlist(api, gid, part.branch("p", branch_id="b%d" % i)).status == 200
    refused(enlist(api, gid, part.branch("p", branch_id="b64")), 422, "branch_count")
    assert close(api, gid, "commit", wait=30)["outcome"] == "committed"
    assert len(part.calls(op="commit", gid=gid)) == 64


def test_enlist_races_with_the_close(api, part, gid):
    """Either a branch is in, and hears of the outcome, or it was refused, and hears nothing."""
    for how, n in [("commit", 8), ("rollback", 8)]:
        name = "%s-%s" % (gid, how)
        begin(api, name)
        with ThreadPoolExecutor(n + 1) as pool:
            joins = {i: pool.submit(enlist, api, name, part.branch("p", branch_id="b%d" % i))
                     for i in range(n)}
            end = pool.submit(close, api, name, how, 20)
            joined = {"b%d" % i for i, f in joins.items() if f.result().status == 200}
            assert all(f.result().status in (200, 409) for f in joins.values())
            outcome = end.result()["outcome"]
        txn = api.ended(name)
        assert set(ids(txn)) == joined and txn["outcome"] == outcome
        last = {"committed": "commit", "aborted": "rollback"}[outcome]
        heard = {c.headers["Assent-Branch"] for c in part.calls(op=last, gid=name)}
        assert heard == joined
        assert {c.headers["Assent-Branch"] for c in part.calls(gid=name)} <= joined


def test_all_is_there_after_a_crash(guard, part):
    assentd = Assentd(guard).start()
    api = assentd.client
    begin(api, "open", timeout_ms=60000)
    begin(api, "closing", vote_timeout_ms=60000)
    for gid in ("open", "closing"):
        for name in ("stock", "account"):
            assert enlist(api, gid, part.branch(name, payload=[gid])).status == 200
    part.on("account", "prepare", *[Answer(503)] * 1000)
    assert close(api, "closing", "commit", wait=0).status == 202
    assentd.kill9()
    api = assentd.start().client
    assert ids(api.txn("open")) == ["stock", "account"]
    assert api.txn("open")["state"] == "active"
    assert enlist(api, "open", part.branch("coupon")).status == 200
    rows = assentd.db.query(
        "SELECT branch FROM assent.branches WHERE gid = 'open' ORDER BY n")
    assert [r[0] for r in rows] == ["stock", "account", "coupon"]
    part.on("account", "prepare", Answer(200))
    assert close(api, "open", "commit", wait=20)["outcome"] == "committed"
    wait_until(lambda: api.txn("closing")["outcome"] == "committed", 20, "the vote to go on")
    assert {c.body for c in part.calls(name="stock", gid="closing")} == {b'["closing"]'}
    assert assentd.stop() == 0


def test_a_refusal_waits_for_what_it_rests_on(fresh, part):
    """Told before the rollback is durable, and lost in a crash, it would be false."""
    api = fresh.client
    begin(api, "g")
    enlist(api, "g", part.branch("stock"))
    held = connect(fresh.dir + "/s")
    held.autocommit = False
    held.cursor().execute("LOCK TABLE assent.txn IN EXCLUSIVE MODE")
    with ThreadPoolExecutor(2) as pool:
        rollback = pool.submit(close, api, "g", "rollback")
        wait_until(lambda: waits_for_lock(fresh), what="the record of the rollback to be held up")
        commit = pool.submit(close, Client(fresh.url), "g", "commit")
        with pytest.raises(TimeoutError):
            commit.result(0.5)
        assert not rollback.done()
        held.rollback()
        refused(commit.result(), 409, "wrong_state")
        assert rollback.result()["outcome"] == "aborted"
    held.close()


def test_branches_do_not_tell_what_is_not_stored(fresh, part):
    """One refuses, the next one is not called any more: aborted, if only the record were there. It is
    lost, nobody refuses when asked again, and all is committed."""
    held = connect(fresh.dir + "/s")
    held.autocommit = False
    gate = Gate()
    part.on("b", "prepare", Answer(409, gate=gate), Answer(200))
    fresh.client.put("g", {"mode": "2pc", "timeout_ms": 60000, "branches": [
        part.branch("b"), part.branch("c", after=["b"]), part.branch("d", after=["c"])]})
    part.wait_calls(1, "b", "prepare")
    held.cursor().execute("LOCK TABLE assent.txn IN EXCLUSIVE MODE")
    gate.open()
    wait_until(lambda: waits_for_lock(fresh), what="the record of the abort to be held up")
    txn = fresh.client.txn("g")
    assert (txn["state"], txn["outcome"]) == ("preparing", "pending")
    assert [b["state"] for b in txn["branches"]] == ["refused", "pending", "pending"]
    fresh.kill9()
    fresh.db.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                   " WHERE application_name = 'assentd journal'")
    wait_until(lambda: not waits_for_lock(fresh), what="the record to be lost")
    held.close()
    fresh.start()
    assert fresh.client.ended("g")["outcome"] == "committed"


def waits_for_lock(assentd):
    return assentd.db.value("SELECT count(*) FROM pg_locks WHERE NOT granted")
