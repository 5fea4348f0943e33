"""What participants can answer, sensible or not, and what becomes of it."""

import json

import pytest

from harness.participant import Answer, Gate, Participant
from harness.wait import wait_until

FAST = {"initial_ms": 10, "cap_ms": 100}


def two(part, **members):
    return dict({"mode": "2pc", "retry": FAST,
                 "branches": [part.branch("a"), part.branch("b")]}, **members)


def one(part, **members):
    return dict({"mode": "2pc", "retry": FAST, "branches": [part.branch("a")]}, **members)


def states(txn):
    return {b["id"]: b["state"] for b in txn["branches"]}


def verdicts(api, gid, branch, op, n):
    """The first n verdicts; history is written lazily, so it may take a moment."""
    def look():
        found = [(a["status"], a["verdict"]) for a in api.history(gid)["attempts"]
                 if (a["branch"], a["op"]) == (branch, op)]
        return found if len(found) >= n else None
    return wait_until(look, 10, "%d attempts of %s/%s" % (n, branch, op))


@pytest.mark.parametrize("status", [200, 201, 204, 206, 299])
def test_success(api, part, gid, status):
    part.on("a", "prepare", Answer(status))
    part.on("a", "commit", Answer(status))
    assert api.put(gid, two(part), wait=10)["outcome"] == "committed"
    assert len(part.calls("a")) == 2


@pytest.mark.parametrize("body, error", [
    ('{"reason":"not enough \\"tea\\""}', 'not enough "tea"'),
    ('{"reason":"a\\nb\\u00e9"}', "a b\u00e9"),
    ('{"reason":"%s"}' % ("\u00e9" * 99 + "x"), "\u00e9" * 99 + "x"),
    ('{"reason":"%s"}' % ("\u00e9" * 100), "\u00e9" * 98 + "..."),
    ('{"reason":""}', None), ('{"reason":["x"]}', None), ('["reason"]', None), ('{"reason":"x"', None), ("", None)])
def test_reason_is_for_people(api, part, gid, body, error):
    """A refusal's reason stands in the history; of a failure as well."""
    part.on("a", "prepare", Answer(500, body), Answer(409, body))
    assert api.put(gid, two(part), wait=10)["outcome"] == "aborted"
    verdicts(api, gid, "a", "prepare", 2)
    assert [a["error"] for a in api.history(gid)["attempts"]
            if (a["branch"], a["op"]) == ("a", "prepare")] == [error, error]


@pytest.mark.parametrize("status", [202, 425])
@pytest.mark.parametrize("op", ["prepare", "commit"])
def test_still_working(api, part, gid, op, status):
    """Asked again at a fixed interval; not a failure, however often."""
    part.on("a", op, *[Answer(status)] * 8, Answer(200))
    body = two(part, timeout_ms=60000,
               retry={"initial_ms": 20, "factor": 10, "cap_ms": 60000, "alert_after": 1})
    assert api.put(gid, body, wait=10)["outcome"] == "committed"
    calls = part.calls("a", op)
    assert len(calls) == 9
    # With backoff the ninth call would come after hours.
    assert calls[-1].at - calls[0].at < 30
    assert verdicts(api, gid, "a", op, 9) == [(status, "working")] * 8 + [
        (200, "yes" if op == "prepare" else "done")]


@pytest.mark.parametrize("op", ["prepare", "commit"])
@pytest.mark.parametrize("status", [500, 502, 503, 504, 429, 599])
def test_unknown_is_asked_again(api, part, gid, op, status):
    part.on("a", op, Answer(status), Answer(status), Answer(200))
    assert api.put(gid, two(part), wait=10)["outcome"] == "committed"
    assert [v for _, v in verdicts(api, gid, "a", op, 3)] == [
        "unknown", "unknown", "yes" if op == "prepare" else "done"]
    assert len(part.calls("b")) == 2


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("op", ["prepare", "commit"])
def test_retry_after_is_honoured(api, part, gid, op, status):
    part.on("a", op, Answer(status, headers={"Retry-After": "1"}), Answer(200))
    assert api.put(gid, two(part), wait=10)["outcome"] == "committed"
    first, second = part.calls("a", op)
    assert second.at - first.at >= 0.95


@pytest.mark.parametrize("value", ["", "soon", "-5", "1e3", "0", "99999999999999999999"])
def test_odd_retry_after(api, part, gid, value):
    """Nonsense is ignored; a number beyond all bounds does not wrap around or crash."""
    part.on("a", "prepare", Answer(503, headers={"Retry-After": value}), Answer(200))
    beyond = value in ("1e3", "99999999999999999999")
    reply = api.put(gid, two(part, timeout_ms=1500 if beyond else 60000), wait=20)
    # Where a number can be read into it, waiting until the vote deadline is right, too.
    assert reply["outcome"] == "committed" or beyond and reply["outcome"] == "aborted"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 418, 422, 451])
def test_contract_error_while_voting_is_a_no(api, part, gid, status):
    part.on("a", "prepare", Answer(status))
    assert api.put(gid, two(part), wait=10)["outcome"] == "aborted"
    assert verdicts(api, gid, "a", "prepare", 1) == [(status, "contract")]
    # Also the one that answered: a proxy may have said so after the work ran.
    assert {c.name for c in part.calls(op="rollback")} == {"a", "b"}
    assert len(part.calls("a", "prepare")) == 1


@pytest.mark.parametrize("op", ["commit", "rollback"])
def test_contract_error_after_the_decision_is_repeated(api, part, gid, op):
    part.on("a", op, Answer(404), Answer(409), Answer(409, '{"outcome":"perhaps"}'), Answer(200))
    if op == "rollback":
        part.on("b", "prepare", Answer(409))
    outcome = "committed" if op == "commit" else "aborted"
    assert api.put(gid, two(part), wait=15)["outcome"] == outcome
    assert verdicts(api, gid, "a", op, 4) == [
        (404, "contract"), (409, "contract"), (409, "contract"), (200, "done")]


@pytest.mark.parametrize("body", [
    "", "{", "[]", "null", '{"vote":"yes"}', '{"vote":"YES"}', '{"outcome":"committed"}',
    "\x00\xff", '{"vote": 1}', "x" * 70000])
def test_a_409_is_a_no_whatever_else_it_says(api, part, gid, body):
    part.on("a", "prepare", Answer(409, body.encode("latin-1")))
    assert api.put(gid, two(part), wait=10)["outcome"] == "aborted"
    assert verdicts(api, gid, "a", "prepare", 1) == [(409, "no")]


@pytest.mark.parametrize("body", [
    '{"vote":"no"}', '{"vote":"refused"}', '{"vote":false}', '{"vote":"n\\u006f"}',
    '{"vote":"no","vote":"no"}', '{"vote":"no, for a reason that takes some words"}'])
def test_a_success_that_says_no_is_not_a_yes(api, part, gid, body):
    part.on("a", "prepare", Answer(200, body))
    assert api.put(gid, two(part), wait=10)["outcome"] == "aborted"
    assert verdicts(api, gid, "a", "prepare", 1) == [(200, "contract")]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("op", ["prepare", "commit"])
def test_redirects_are_not_followed(api, part, gid, op, status):
    other = Participant()
    try:
        part.on("a", op, Answer(status, headers={"Location": other.url("a", op)}), Answer(200))
        outcome = api.put(gid, two(part), wait=10)["outcome"]
        assert outcome == ("aborted" if op == "prepare" else "committed")
        assert not other.calls()
        assert verdicts(api, gid, "a", op, 1)[0] == (status, "contract")
    finally:
        other.close()


@pytest.mark.parametrize("kind", ["reset", "close", "half", "garbage"])
@pytest.mark.parametrize("op", ["prepare", "commit"])
def test_no_whole_answer_is_no_answer(api, part, gid, op, kind):
    broken = Answer(200, '{"vote":"read_only"}', kind=kind)
    part.on("a", op, broken, broken, Answer(200))
    reply = api.put(gid, two(part), wait=10)
    assert states(reply.json) == {"a": "committed", "b": "committed"}
    assert len(part.calls("a", op)) == 3
    # A connection from the pool that turns out to be dead is replaced within the same attempt.
    seen = verdicts(api, gid, "a", op, 3 if kind in ("half", "garbage") else 1)
    assert seen[-1] == (200, "yes" if op == "prepare" else "done")
    assert set(seen[:-1]) <= {(None, "unknown")}
    errors = [a["error"] for a in api.history(gid)["attempts"] if a["verdict"] == "unknown"]
    assert len(errors) == len(seen) - 1 and all(errors)


def test_nobody_listens(api, gid):
    gone = Participant()
    body = two(gone, timeout_ms=1500)
    gone.close()
    reply = api.put(gid, body)
    txn = wait_until(lambda: (lambda t: t if t["branches"][0]["last_error"] else None)(
        api.txn(gid)), what="the first error")
    assert reply.status == 202 and txn["branches"][0]["state"] == "pending"
    wait_until(lambda: api.txn(gid)["outcome"] == "aborted", what="the deadline")
    assert api.decision(gid)["decision"] == "abort"


def test_last_error_and_next_retry_are_shown(api, part, gid):
    part.on("a", "commit", Answer(503, headers={"Retry-After": "60"}))
    api.put(gid, two(part))
    def look():
        branch = api.txn(gid)["branches"][0]
        return branch if branch["next_retry_at"] else None
    branch = wait_until(look, what="a retry to be planned")
    assert (branch["state"], branch["op"], branch["attempts"]) == ("prepared", "commit", 2)
    assert "503" in branch["last_error"]
    txn = api.txn(gid)
    assert (txn["state"], txn["outcome"], txn["ended_at"]) == ("committing", "committed", None)
    assert api.decision(gid)["decision"] == "commit"


@pytest.mark.parametrize("op", ["prepare", "commit"])
def test_huge_answer(api, part, gid, op):
    """The body does not count, and is not kept; the status does."""
    part.on("a", op, Answer(200, b"x" * 10_000_000))
    assert api.put(gid, two(part), wait=20)["outcome"] == "committed"
    assert verdicts(api, gid, "a", op, 1)[0][0] == 200


def test_huge_headers(api, part, gid):
    part.on("a", "prepare", Answer(200, headers={"X-%d" % i: "y" * 8000 for i in range(100)}),
            Answer(200))
    assert api.put(gid, two(part), wait=20)["outcome"] in ("committed", "aborted")


@pytest.mark.parametrize("done", ["commit", "rollback"])
def test_heuristic_outcome_makes_it_mixed(api, part, gid, done):
    """A participant decided alone, against the decision."""
    other = "aborted" if done == "commit" else "committed"
    part.on("a", done, Answer(409, json.dumps({"outcome": other})))
    if done == "rollback":
        part.on("b", "prepare", Answer(409))
    reply = api.put(gid, two(part), wait=10)
    assert (reply["state"], reply["outcome"]) == ("mixed", "mixed")
    assert states(reply.json) == {
        "a": "heuristic_" + other, "b": "committed" if done == "commit" else "aborted"}
    assert verdicts(api, gid, "a", done, 1) == [(409, "found_" + other)]
    assert len(part.calls("b", done)) == 1
    # What was decided does not change, and the other branches may still ask.
    assert api.decision(gid)["decision"] == ("commit" if done == "commit" else "abort")


@pytest.mark.parametrize("done", ["commit", "rollback"])
def test_found_as_decided_is_done(api, part, gid, done):
    same = "committed" if done == "commit" else "aborted"
    part.on("a", done, Answer(409, '{"outcome":"%s"}' % same))
    if done == "rollback":
        part.on("b", "prepare", Answer(409))
    reply = api.put(gid, two(part), wait=10)
    assert (reply["outcome"], states(reply.json)["a"]) == (same, same)
    assert verdicts(api, gid, "a", done, 1) == [(409, "found_" + same)]


def test_deadline_rolls_back_everywhere(api, part, gid):
    gate = Gate()
    part.on("a", "prepare", Answer(gate=gate))
    reply = api.put(gid, two(part, timeout_ms=1000), wait=10)
    assert (reply["state"], reply["outcome"]) == ("aborted", "aborted")
    assert {c.name for c in part.calls(op="rollback")} == {"a", "b"}
    assert reply["decided_at"] >= reply["deadline_at"]
    assert part.calls("b", "rollback")[0].at - part.calls("b", "prepare")[0].at < 5
    gate.open()


def test_late_votes_change_nothing(api, part, gid):
    """The yes arrives after the deadline, when the rollback is already under way."""
    gate, rollback = Gate(), Gate()
    part.on("a", "prepare", Answer(gate=gate))
    part.on("b", "rollback", Answer(gate=rollback))
    api.put(gid, two(part, timeout_ms=1000))
    part.wait_calls(1, "b", "rollback")
    gate.open()
    part.wait_calls(1, "a", "rollback")
    rollback.open()
    txn = api.ended(gid)
    assert (txn["outcome"], states(txn)) == ("aborted", {"a": "aborted", "b": "aborted"})
    assert not part.calls(op="commit")


def test_call_timeout_is_per_branch(api, part, gid):
    """A call that hangs is given up and repeated; the answer to the first then counts no more."""
    gate = Gate()
    part.on("a", "prepare", Answer(409, gate=gate), Answer(200))
    branches = [part.branch("a", timeout_ms=500), part.branch("b", timeout_ms=60000)]
    reply = api.put(gid, two(part, branches=branches, timeout_ms=60000), wait=20)
    assert reply["outcome"] == "committed"
    first, second = part.calls("a", "prepare")[:2]
    assert 0.45 <= second.at - first.at < 3  # what it would be without its own
    assert second.headers["Assent-Attempt"] == "2"
    gate.open()
    assert api.txn(gid)["outcome"] == "committed"


def test_last_prepare_is_not_longer_than_the_deadline(api, part, gid):
    gate = Gate()
    part.on("a", "prepare", Answer(gate=gate))
    api.put(gid, two(part, timeout_ms=1000), wait=10)
    assert int(part.calls("a", "prepare")[0].headers["Assent-Timeout-Ms"]) <= 1000
    gate.open()


def test_commit_is_repeated_for_ever(api, part, gid):
    """Beyond the vote deadline, and beyond alert_after."""
    gate = Gate()
    part.on("a", "commit", *[Answer(500)] * 60, Answer(gate=gate))
    api.put(gid, two(part, timeout_ms=1000, retry={"initial_ms": 25, "factor": 1, "cap_ms": 100,
                                                   "alert_after": 2}))
    calls = part.wait_calls(61, "a", "commit", 30)
    assert calls[-1].at - calls[0].at > 1
    assert api.txn(gid)["state"] == "committing"
    gate.open()
    assert api.ended(gid)["outcome"] == "committed"


def test_one_slow_participant_does_not_slow_the_others(api, part, gids):
    """Dozens of calls hang at one address while another address is served at once."""
    gate, slow = Gate(), Participant()
    try:
        slow.on("s", "prepare", Answer(gate=gate))
        waiting = [gids() for _ in range(40)]
        for g in waiting:
            api.put(g, two(part, branches=[slow.branch("s"), part.branch("a")], timeout_ms=60000))
        quick = [gids() for _ in range(10)]
        for g in quick:
            assert api.put(g, two(part), wait=20).status == 200
        gate.open()
        for g in waiting:
            api.ended(g, 20)
    finally:
        slow.close()


def test_second_phases_overtake_first_phases(api, part, gids):
    """Prepares that hang (as on locks) must not keep out the commit that would free them."""
    gate, hold = Gate(), Gate()
    first = gids()
    part.on("b", "prepare", Answer(gate=hold))
    api.put(first, two(part, timeout_ms=60000))
    part.wait_calls(1, "b", "prepare")
    part.on("x", "prepare", Answer(gate=gate))
    part.on("y", "prepare", Answer(gate=gate))
    others = [gids() for _ in range(60)]
    for g in others:
        api.put(g, two(part, timeout_ms=60000, branches=[
            part.branch("x", timeout_ms=60000), part.branch("y", timeout_ms=60000)]))
    hold.open()
    assert api.ended(first, 10)["outcome"] == "committed"
    gate.open()
    for g in others:
        api.ended(g, 20)


def test_one_phase_silence_is_not_a_no(api, part, gid):
    """The branch may have committed: asked until the deadline, then its barrier decides."""
    part.on("a", "commit", Answer(500))
    part.on("a", "rollback", Answer(409, '{"outcome":"committed"}'))
    reply = api.put(gid, one(part, timeout_ms=1000), wait=10)
    assert (reply["state"], reply["outcome"]) == ("committed", "committed")
    assert len(part.calls("a", "commit")) > 1 and len(part.calls("a", "rollback")) == 1
    assert all(c.headers["Assent-One-Phase"] == "true" for c in part.calls("a", "commit"))


def test_one_phase_rolled_back_by_the_barrier(api, part, gid):
    part.on("a", "commit", Answer(500))
    reply = api.put(gid, one(part, timeout_ms=300), wait=10)
    assert (reply["state"], states(reply.json)) == ("aborted", {"a": "aborted"})


def test_one_phase_is_pending_while_nobody_knows(api, part, gid):
    gate = Gate()
    part.on("a", "commit", Answer(gate=gate))
    part.on("a", "rollback", Answer(503))
    api.put(gid, one(part, timeout_ms=1000))
    wait_until(lambda: api.txn(gid)["state"] == "arbitrating", what="the arbitration")
    assert api.txn(gid)["outcome"] == "pending"
    assert api.decision(gid)["decision"] == "pending"
    part.on("a", "rollback", Answer(409, '{"outcome":"committed"}'))
    assert api.ended(gid)["outcome"] == "committed"
    gate.open()


@pytest.mark.parametrize("status, body, outcome", [
    (409, '{"outcome":"committed"}', "committed"), (409, '{"outcome":"aborted"}', "aborted"),
    (200, '{"vote":"read_only"}', "committed")])
def test_one_phase_found(api, part, gid, status, body, outcome):
    part.on("a", "commit", Answer(status, body))
    assert api.put(gid, one(part), wait=10)["outcome"] == outcome
    assert len(part.calls()) == 1


def test_connection_is_reused(api, part, gids):
    """One connection per call would run out of ports under load."""
    ports = set()
    original = part.arrived

    def arrived(call):
        ports.add(call.client)
        return original(call)
    part.arrived = arrived
    for _ in range(10):
        assert api.put(gids(), two(part), wait=10)["outcome"] == "committed"
    assert len(part.calls()) == 40 and len(ports) < 12
