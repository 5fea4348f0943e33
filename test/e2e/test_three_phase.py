"""Three-phase commit: asked, pre-committed, committed; what is no decision yet, what participants say
that have ended by themselves, and kill -9 in every state."""

import json

import pytest

from harness.load import crash
from harness.participant import Answer, Gate
from harness.signature import signature
from harness.system import Assentd
from harness.tokens import write_secret
from harness.wait import wait_until
from test_config import Configured

QUICK = {"initial_ms": 10, "cap_ms": 100, "alert_after": 3}
AMPLE_MS = 60000  # no deadline passes because the machine is busy
ALL = ["can_commit", "pre_commit", "do_commit"]
NO = Answer(409, '{"reason":"no"}')
VOUCHED = Answer(409, '{"outcome":"pre_committed"}')
COMMITTED = Answer(409, '{"outcome":"committed"}')
ABORTED = Answer(409, '{"outcome":"aborted"}')


def three(part, *names, **members):
    return dict({"mode": "3pc", "retry": QUICK, "timeout_ms": AMPLE_MS,
                 "phase_timeout_ms": AMPLE_MS, "branches": [part.branch(n) for n in names]},
                **members)


def submit(api, gid, body, wait=20):
    return api.put(gid, body, headers={"Prefer": "wait=%d" % wait})


def heard(part, gid):
    """By participant, in the order of arrival; repetitions count once. An intent is "intent"."""
    found = {}
    for call in part.calls(gid=gid):
        ops = found.setdefault(call.name, [])
        op = "intent" if call.headers["Assent-Intent"] == "true" else call.op
        if op not in ops:
            ops.append(op)
    return found


def intents(part, gid, name=None):
    return [c for c in part.calls(name, "abort", gid) if c.headers["Assent-Intent"] == "true"]


def states(txn):
    return {b["id"]: b["state"] for b in txn["branches"]}


def in_state(api, gid, state, deadline_s=15):
    wait_until(lambda: api.txn(gid)["state"] == state, deadline_s,
               lambda: "%s, not %s" % (state, api.txn(gid)))
    return api.txn(gid)


def post(api, gid, what, body=None, wait=None, **kw):
    headers = {"Prefer": "wait=%d" % wait} if wait else {}
    return api.request("POST", "/v1/transactions/%s/%s" % (gid, what), body, headers=headers, **kw)


def alerts(api, gid):
    found = api.get("/v1/admin/alerts", query={"state": "open", "limit": 100})["alerts"]
    return [a for a in found if a["gid"] == gid]


# --- all goes well -----------------------------------------------------------------------------


def test_three_phases(api, part, gid):
    reply = submit(api, gid, three(part, "stock", "account"))
    assert (reply.status, reply["state"], reply["outcome"]) == (200, "committed", "committed")
    assert heard(part, gid) == {"stock": ALL, "account": ALL}
    assert states(reply.json) == {"stock": "committed", "account": "committed"}
    assert {(a["branch"], a["op"], a["verdict"]) for a in api.history(gid)["attempts"]} == {
        (b, op, v) for b in ("stock", "account")
        for op, v in (("can_commit", "yes"), ("pre_commit", "yes"), ("do_commit", "done"))}


def test_headers(api, part, gid):
    """Each is told the times, what it may do when they are over, and whom it can ask then."""
    branches = [
        part.branch("a", on_timeout="wait"),
        part.branch("b", ops={"pre_commit": part.url("b", "hold"),
                              "status": part.url("b", "how,is,it")}),
        part.branch("c"), part.branch("reader")]
    part.on("reader", "can_commit", Answer(200, '{"vote":"read_only"}'))
    body = three(part, timeout_ms=40000, phase_timeout_ms=20000, hold_ms=90000, branches=branches)
    assert submit(api, gid, body)["outcome"] == "committed"
    status = {n: "%s=%s" % (n, part.url(n, "status")) for n in "ac"}
    status["b"] = "b=" + part.url("b", "how%2Cis%2Cit")
    peers = {"a": [status["b"], status["c"]], "b": [status["a"], status["c"]],
             "c": [status["a"], status["b"]]}
    for call in part.calls(gid=gid):
        op = call.headers["Assent-Op"]
        left = int(call.headers["Assent-Timeout-Ms"])
        promise = op in ("can_commit", "pre_commit")
        assert call.headers["Assent-Mode"] == "3pc" and call.headers["Assent-Intent"] is None
        assert call.headers["Idempotency-Key"].endswith('/%s/%s"' % (call.name, op))
        assert call.headers["Assent-Hold-Ms"] == {
            "can_commit": "60000", "pre_commit": "90000"}.get(op)
        assert call.headers["Assent-On-Timeout"] == (
            None if not promise else "wait" if call.name == "a" else "commit")
        if op == "pre_commit":
            assert call.headers["Assent-Peers"].split(",") == peers[call.name]
            assert 0 < left <= 20000 and call.op == ("hold" if call.name == "b" else op)
        else:
            assert call.headers["Assent-Peers"] is None
            assert 0 < left <= (40000 if promise else 3000)
    assert [c.op for c in part.calls("reader", gid=gid)] == ["can_commit"]


def test_alone(api, part, gid):
    """Nobody but itself decides when it cannot reach us: it has no peers."""
    assert submit(api, gid, three(part, "stock"))["outcome"] == "committed"
    assert heard(part, gid) == {"stock": ALL}
    assert part.calls("stock", "pre_commit", gid)[0].headers["Assent-Peers"] is None
    assert part.calls("stock", "pre_commit", gid)[0].headers["Assent-Hold-Ms"] == str(4 * AMPLE_MS)


def test_readers_alone(api, part, gid):
    for name in ("a", "b"):
        part.on(name, "can_commit", Answer(200, '{"vote":"read_only"}'))
    assert submit(api, gid, three(part, "a", "b"))["outcome"] == "committed"
    assert heard(part, gid) == {"a": ["can_commit"], "b": ["can_commit"]}


def test_a_peer_without_an_address_is_not_left_out(guard, part, gids):
    """Its address went with the configuration: the others would decide without it."""
    stock, account = ("participant.%s = %s" % (n, part.url(u)) for n, u in (
        ("stock", "s"), ("account", "deep/er")))
    daemon = Configured(guard, stock, account).start()
    hold, body = Gate(), three(part, branches=[
        {"id": "a", "participant": "stock", "timeout_ms": AMPLE_MS},
        {"id": "b", "participant": "account"}])
    part.on("s", "can_commit", Answer(gate=hold), Answer(200))
    gid = gids()
    assert daemon.client.put(gid, body).status == 202
    part.wait_calls(1, "deep/er", "can_commit")
    wait_until(lambda: states(daemon.client.txn(gid))["b"] == "can_commit", 15, "the first yes")
    daemon.reload(stock)
    hold.open()
    wait_until(lambda: daemon.said("a peer of it has no address now"), 15, "a call not made")
    assert not part.calls("s", "pre_commit", gid)
    daemon.reload(stock, account)
    assert daemon.client.ended(gid)["outcome"] == "committed"
    call = part.calls("s", "pre_commit", gid)[0]
    assert call.headers["Assent-Peers"] == "b=" + part.url("deep/er", "status")


def test_an_intent_is_signed_as_one(guard, part, gid):
    """Repeated by somebody without its header it is not the decision that a vouched one obeys."""
    secret = "another-secret-of-a-service"
    path = write_secret(guard.path("secret"), secret)
    assentd = Assentd(guard, args=["--signing-secret-file", path]).start()
    part.on("b", "pre_commit", NO)
    part.on("a", "abort", Answer(503), Answer(200))
    assert submit(assentd.client, gid, three(part, "a", "b"))["outcome"] == "aborted"
    for call in part.calls(gid=gid):
        h, intent = call.headers, call.headers["Assent-Intent"]
        op = h["webhook-id"].split("/")[3]
        assert op == ("pre_abort" if intent else call.op)
        assert h["webhook-signature"] == signature(
            secret, h["webhook-id"], h["webhook-timestamp"], call.body)
    assert len({c.headers["webhook-id"] for c in part.calls(gid=gid)}) == len(part.calls(gid=gid))


# --- it does not -------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [NO, Answer(404), ABORTED])
def test_a_no_before_anybody_has_pre_committed_is_a_decision(api, part, gid, answer):
    part.on("account", "can_commit", answer)
    reply = submit(api, gid, three(part, "stock", "account"))
    assert (reply["state"], reply["outcome"]) == ("aborted", "aborted")
    assert heard(part, gid) == {n: ["can_commit", "abort"] for n in ("stock", "account")}


def test_so_is_the_deadline(api, part, gid):
    part.on("account", "can_commit", Answer(503))
    reply = submit(api, gid, three(part, "stock", "account", timeout_ms=1000))
    assert reply["outcome"] == "aborted"
    assert heard(part, gid) == {n: ["can_commit", "abort"] for n in ("stock", "account")}


@pytest.mark.parametrize("answer", [NO, Answer(404), Answer(200, '{"vote":"read_only"}'), ABORTED])
def test_a_no_to_pre_commit_is_an_intent(api, part, gid, answer):
    """Pending until one has taken it, for those who ask, too; then the others are told."""
    gate, slow = Gate(), Gate()
    part.on("account", "pre_commit", answer)
    part.on("account", "abort", Answer(200, gate=gate), Answer(200))
    part.on("stock", "abort", Answer(503), Answer(200, gate=slow), Answer(200))
    api.put(gid, three(part, "stock", "account", branches=[
        part.branch(name, timeout_ms=AMPLE_MS) for name in ("stock", "account")]))
    txn = in_state(api, gid, "pre_aborting")
    part.wait_calls(1, "account", "abort")
    assert (txn["outcome"], txn["decided_at"]) == ("pending", None)
    assert api.decision(gid)["decision"] == "pending"
    assert states(txn)["account"] == "refused"
    assert "undecided" in txn["waiting_for"] and "pre_abort" in txn["waiting_for"]
    assert {c.headers["Assent-Intent"] for c in part.calls(op="abort", gid=gid)} == {"true"}
    key = part.calls("account", "abort", gid)[0].headers
    assert key["Idempotency-Key"].endswith('/account/pre_abort"') and key["Assent-Op"] == "abort"
    assert key["Assent-Peers"] is None and key["Assent-Hold-Ms"] is None
    gate.open()
    wait_until(lambda: api.decision(gid)["decision"] == "abort", 15, "the decision")
    slow.open()
    txn = api.ended(gid)
    assert (txn["outcome"], states(txn)) == ("aborted", {"stock": "aborted", "account": "aborted"})
    assert None in [c.headers["Assent-Intent"] for c in part.calls("stock", "abort", gid)]
    assert [c.headers["Assent-Intent"] for c in part.calls("account", "abort", gid)] == ["true"]


def test_so_is_the_phases_deadline(api, part, gid):
    part.on("account", "pre_commit", Answer(503))
    reply = submit(api, gid, three(part, "stock", "account", phase_timeout_ms=500))
    assert reply["outcome"] == "aborted"
    assert "intent" in {op for ops in heard(part, gid).values() for op in ops}
    assert reply["deadline_at"] > reply["created_at"]


def test_all_have_vouched(api, part, gid):
    """They have told each other that they are pre-committed, and may be committing."""
    part.on("account", "pre_commit", NO)
    for name in ("stock", "account"):
        part.on(name, "abort", VOUCHED)
    reply = submit(api, gid, three(part, "stock", "account"))
    assert (reply["outcome"], states(reply.json)) == (
        "committed", {"stock": "committed", "account": "committed"})
    assert heard(part, gid)["stock"] == ["can_commit", "pre_commit", "intent", "do_commit"]
    assert api.metric('assent_participant_calls_total{verdict="vouched"}') >= 2
    assert ("stock", "pre_abort", "vouched") in {
        (a["branch"], a["op"], a["verdict"]) for a in api.history(gid)["attempts"]}


def test_one_vouched_one_silent(api, part, gid):
    """It is neither committed nor aborted; a person is told, and it goes on asking."""
    part.on("account", "pre_commit", NO)
    part.on("stock", "abort", VOUCHED)
    part.on("account", "abort", Answer(503))
    api.put(gid, three(part, "stock", "account"))
    wait_until(lambda: alerts(api, gid), 15, "an alert")
    txn = api.txn(gid)
    assert (txn["state"], txn["outcome"], states(txn)) == (
        "pre_aborting", "pending", {"stock": "vouched", "account": "refused"})
    assert len(intents(part, gid, "stock")) == 1
    part.on("account", "abort", Answer(200))
    part.on("stock", "abort", Answer(200))
    txn = api.ended(gid)
    assert txn["outcome"] == "aborted" and not alerts(api, gid)


# --- participants that ended by themselves -----------------------------------------------------


def test_found_committed_by_an_intent(api, part, gid):
    part.on("account", "pre_commit", NO)
    part.on("account", "abort", COMMITTED)
    part.on("stock", "abort", Answer(503))
    reply = submit(api, gid, three(part, "stock", "account"))
    assert (reply["outcome"], states(reply.json)) == (
        "committed", {"stock": "committed", "account": "committed"})
    assert heard(part, gid)["account"][-1] == "intent"
    assert heard(part, gid)["stock"][-1] == "do_commit"


def test_found_committed_while_pre_committing(api, part, gid):
    """No deadline any more: the other one is asked until it has answered."""
    part.on("account", "pre_commit", COMMITTED)
    part.on("stock", "pre_commit", Answer(503))
    api.put(gid, three(part, "stock", "account", phase_timeout_ms=2500))
    wait_until(lambda: alerts(api, gid), 15, "an alert")
    wait_until(lambda: "account has committed by itself" in api.txn(gid)["waiting_for"], 15,
               lambda: api.txn(gid))
    assert api.decision(gid)["decision"] == "pending"
    last = part.calls("stock", "pre_commit", gid)[-1]
    assert int(last.headers["Assent-Timeout-Ms"]) == 3000  # of the call: nothing else ends
    part.on("stock", "pre_commit", Answer(200))
    txn = api.ended(gid)
    assert txn["outcome"] == "committed" and not alerts(api, gid)
    assert not part.calls(op="abort", gid=gid)
    assert heard(part, gid)["account"] == ["can_commit", "pre_commit"]


def test_mixed_says_who_did_what(api, part, gid):
    """One has committed by itself, its peer had not pre-committed: nobody can mend that here."""
    part.on("account", "pre_commit", Answer(
        409, '{"outcome":"committed","heuristic":true,"reason":"stock was not reached"}'))
    hold = Gate()
    part.on("stock", "pre_commit", Answer(409, '{"outcome":"aborted"}', gate=hold))
    part.on("stock", "do_commit", Answer(
        409, '{"outcome":"aborted","heuristic":true,"reason":"told mail so"}'))
    api.put(gid, three(part, "mail", "stock", "account"))
    wait_until(lambda: states(api.txn(gid)).get("account") == "committed", 15, "the finding")
    hold.open()
    txn = api.ended(gid)
    assert (txn["state"], txn["outcome"]) == ("mixed", "mixed")
    assert states(txn) == {"account": "committed", "stock": "heuristic_aborted",
                           "mail": "committed"}
    assert api.decision(gid)["decision"] == "commit"
    (alert,) = alerts(api, gid)
    assert (alert["kind"], alert["branch"], alert["error"]) == (
        "heuristic", "stock", "heuristic_aborted")
    assert "account: committed (ended by itself: stock was not reached)" in alert["detail"]
    assert "stock: heuristic_aborted (ended by itself: told mail so)" in alert["detail"]
    errors = {(a["branch"], a["op"]): a["error"] for a in api.history(gid)["attempts"]}
    assert errors["account", "pre_commit"] == "ended by itself: stock was not reached"
    assert errors["stock", "do_commit"] == "ended by itself: told mail so"
    assert errors["mail", "do_commit"] is None


@pytest.mark.parametrize("body, said", [
    ('{"heuristic":true}', "ended by itself"),
    ('{"heuristic":true,"reason":"%s"}' % ("x" * 500),
     "ended by itself: " + "x" * 196 + "..."),
    ('{"heuristic":true,"reason":7}', "ended by itself"),
    ('{"heuristic":"true","reason":"no"}', None),
    ('{"heuristic":false,"reason":"no"}', None)])
def test_a_report_in_an_agreeing_answer(api, part, gid, body, said):
    before = api.metric("assent_participant_heuristics_total")
    part.on("stock", "do_commit", Answer(200, body))
    assert submit(api, gid, three(part, "stock", "account"))["outcome"] == "committed"
    (attempt,) = [a for a in api.history(gid)["attempts"]
                  if (a["branch"], a["op"]) == ("stock", "do_commit")]
    assert (attempt["verdict"], attempt["error"]) == ("done", said)
    assert api.metric("assent_participant_heuristics_total") == before + (said is not None)


@pytest.mark.parametrize("op, answer, state", [
    ("do_commit", ABORTED, "heuristic_aborted"), ("abort", COMMITTED, "heuristic_committed")])
def test_against_the_decision(api, part, gid, op, answer, state):
    part.on("stock", op, answer)
    if op == "abort":
        part.on("account", "can_commit", NO)
    reply = submit(api, gid, three(part, "stock", "account"))
    assert (reply["outcome"], states(reply.json)["stock"]) == ("mixed", state)


# --- kill -9 -----------------------------------------------------------------------------------


# In which state; which call is under way, without an answer; what it is answered afterwards; the other
# branch's answers to the same; what comes of it.
KILLED = (
    ("asking", "can_commit", Answer(200), Answer(200), "committed"),
    ("asking", "can_commit", NO, Answer(200), "aborted"),
    ("pre_committing", "pre_commit", Answer(200), Answer(200), "committed"),
    ("pre_committing", "pre_commit", COMMITTED, Answer(200), "committed"),
    ("pre_committing", "pre_commit", Answer(200), COMMITTED, "committed"),
    ("pre_committing", "pre_commit", NO, Answer(200), "aborted"),
    ("pre_aborting", "abort", VOUCHED, VOUCHED, "committed"),
    ("pre_aborting", "abort", COMMITTED, VOUCHED, "committed"),
    ("pre_aborting", "abort", Answer(200), VOUCHED, "aborted"),
    ("committing", "do_commit", Answer(200), Answer(200), "committed"),
    ("aborting", "abort", Answer(200), Answer(200), "aborted"),
)


def test_killed_in_every_state(fresh, part, gids):
    """Asked again; pre_committing with a fresh deadline, however long it was away."""
    hold, found = Gate(), []
    for i, (state, op, answer, other, outcome) in enumerate(KILLED):
        gid, a, b = gids(), "a%d" % i, "b%d" % i
        part.on(a, op, other)
        part.on(b, op, Answer(gate=hold), answer, Answer(200))
        if state == "pre_aborting":
            part.on(a, op, other, other, Answer(200))  # before, after, and when it is decided
            part.on(b, "pre_commit", NO)
        elif state == "aborting":
            part.on(a, "can_commit", NO)
        fresh.client.put(gid, three(part, branches=[
            part.branch(a), part.branch(b, timeout_ms=AMPLE_MS)]))
        found.append((gid, a, b, state, op, outcome))
    for gid, a, b, state, op, _ in found:
        part.wait_calls(1, b, op)
        part.wait_calls(1, a, op)
        assert fresh.state(gid) == state
    fresh.kill9()
    fresh.db.query("UPDATE assent.txn SET deadline_at = now() - interval '1 hour'"
                   " WHERE state = 16")
    n = {b: len(part.calls(b)) for _, _, b, _, _, _ in found}
    fresh.start()
    hold.open()
    for gid, a, b, state, op, outcome in found:
        txn = fresh.client.ended(gid)
        assert (txn["outcome"], states(txn)) == (outcome, {a: outcome, b: outcome}), (state, txn)
        again = part.calls(b)[n[b]]
        assert again.op == op, (state, part.calls(b))
        if state == "pre_committing":
            assert again.headers["Assent-Peers"] == "%s=%s" % (a, part.url(a, "status"))
            assert int(again.headers["Assent-Timeout-Ms"]) > AMPLE_MS / 2
        assert bool(intents(part, gid)) == (state == "pre_aborting" or (
            state == "pre_committing" and outcome == "aborted")), state


def test_killed_with_one_found_committed(fresh, part, gid):
    """It is remembered that no deadline runs: nobody is sent an intent."""
    part.on("a", "pre_commit", COMMITTED, Answer(200))
    part.on("b", "pre_commit", Answer(503))
    fresh.client.put(gid, three(part, "a", "b", phase_timeout_ms=10000))
    wait_until(lambda: states(fresh.client.txn(gid))["a"] == "committed", 15, "the finding")
    wait_until(lambda: b"\x04" in bytes(fresh.db.value("SELECT branch_state FROM assent.txn")), 15,
               "its record")
    crash(fresh)
    n = len(part.calls("b", "pre_commit"))
    wait_until(lambda: len(part.calls("b", "pre_commit")) > n + 1, 15, "more calls")
    part.on("b", "pre_commit", Answer(200))
    assert fresh.client.ended(gid)["outcome"] == "committed"
    assert len(part.calls("a")) == 2 and not part.calls(op="abort")


# --- interactive -------------------------------------------------------------------------------


def begin(api, gid, **members):
    reply = api.put(gid, dict({"mode": "3pc", "interactive": True, "retry": QUICK}, **members))
    assert (reply.status, reply["state"], reply["mode"]) == (202, "active", "3pc"), reply


def test_interactive(api, part, gid):
    begin(api, gid, vote_timeout_ms=AMPLE_MS, phase_timeout_ms=AMPLE_MS)
    for name in ("stock", "account"):
        assert post(api, gid, "branches", part.branch(name, on_timeout="wait")).status == 200
    reply = post(api, gid, "commit", wait=20)
    assert (reply.status, reply["outcome"]) == (200, "committed")
    assert heard(part, gid) == {"stock": ALL, "account": ALL}
    call = part.calls("stock", "pre_commit", gid)[0].headers
    assert (call["Assent-On-Timeout"], call["Assent-Peers"]) == (
        "wait", "account=" + part.url("account", "status"))
    assert part.calls("stock", "can_commit", gid)[0].headers["Assent-Hold-Ms"] == str(2 * AMPLE_MS)


def test_interactive_rollback_and_late_rollback(api, part, gids):
    gid = gids()
    begin(api, gid)
    post(api, gid, "branches", part.branch("stock"))
    assert post(api, gid, "rollback", wait=20)["outcome"] == "aborted"
    assert heard(part, gid) == {"stock": ["abort"]} and not intents(part, gid)
    gid, hold = gids(), Gate()
    part.on("stock", "pre_commit", Answer(gate=hold))
    begin(api, gid, phase_timeout_ms=AMPLE_MS)
    post(api, gid, "branches", part.branch("stock", timeout_ms=AMPLE_MS))
    assert post(api, gid, "commit").status == 202
    in_state(api, gid, "pre_committing")
    assert post(api, gid, "rollback").status == 409
    hold.open()
    assert api.ended(gid)["outcome"] == "committed"


# --- what is refused ---------------------------------------------------------------------------


def long_ids(part, n, **members):
    return [dict(part.branch("p" * 120, branch_id="%s%02d" % ("b" * 28, i)), **members)
            for i in range(n)]


def refusals(part):
    def one(**members):
        return three(part, branches=[part.branch("a", **members), part.branch("b")])

    def other(mode, **members):
        return dict({"mode": mode, "branches": [part.branch("a"), part.branch("b")]}, **members)

    ops = {op: part.url("a", op) for op in ALL + ["abort"]}
    yield "/hold_ms", three(part, "a", phase_timeout_ms=5000, hold_ms=9999)
    yield "/hold_ms", three(part, "a", hold_ms=86400001)
    yield "/hold_ms", three(part, "a", hold_ms="1")
    yield "/phase_timeout_ms", three(part, "a", phase_timeout_ms=0)
    yield "/phase_timeout_ms", three(part, "a", phase_timeout_ms=600001)
    yield "/branches/0/on_timeout", one(on_timeout="abort")
    yield "/branches/0/on_timeout", one(on_timeout=True)
    yield "/branches/0/after", one(after=["b"])
    yield "/branches/0/after", one(after=[])
    yield "/branches/0/ops", one(ops=ops)
    yield "/branches/0/ops", one(ops={"abort": part.url("a", "x")})
    yield "/branches/0/ops/pre_abort", one(ops={"pre_abort": part.url("a", "x")})
    yield "/branches/0/ops/commit", one(ops={"commit": part.url("a", "x")})
    yield "/branches/0/ops/status", one(ops={"status": "http://192.0.2.1/status"})
    yield "/branches/0/ops/status", one(ops={"status": "stock"})
    yield "/branches/0/ops/status", one(ops={"status": 1})
    yield "/branches", three(part, branches=long_ids(part, 64))
    yield "/on_confirm_failure", three(part, "a", on_confirm_failure="retry")
    yield "/recovery", three(part, "a", recovery="forward")
    yield "/vote_timeout_ms", three(part, "a", vote_timeout_ms=1000)
    for mode in ("2pc", "tcc", "saga"):
        yield "/phase_timeout_ms", other(mode, phase_timeout_ms=5000)
        yield "/hold_ms", other(mode, hold_ms=20000)
        yield "/branches/1/on_timeout", other(mode, branches=[
            part.branch("a"), part.branch("b", on_timeout="wait")])
        yield "/branches/0/ops/status", other(mode, branches=[
            part.branch("a", ops={"status": part.url("a", "status")})])


def test_refused_with_a_pointer_and_nothing_stored(api, part, gids):
    for pointer, body in refusals(part):
        gid = gids()
        reply = api.put(gid, body, valid=False)
        assert reply.status == 422, (pointer, reply)
        assert [e["pointer"] for e in reply["errors"]] == [pointer], reply
        assert api.get("/v1/transactions/" + gid).status == 404
    assert part.calls() == []


def test_at_the_limits(api, part, gids):
    for members in ({"phase_timeout_ms": 5000, "hold_ms": 10000},
                    {"phase_timeout_ms": 600000, "hold_ms": 86400000}):
        assert submit(api, gids(), three(part, "a", **members))["outcome"] == "committed"
    gid, n = gids(), 0
    entry = len("%s=%s," % ("b" * 30, part.url("p" * 120, "status")))
    n = 8193 // entry + 1  # itself not among them, and no comma at the end
    body = three(part, branches=long_ids(part, n))
    assert submit(api, gid, body)["outcome"] == "committed"
    peers = part.calls(op="pre_commit", gid=gid)[0].headers["Assent-Peers"]
    assert len(peers) == (n - 1) * entry - 1 <= 8192
    assert api.put(gids(), three(part, branches=long_ids(part, n + 1)), valid=False).status == 422


def test_a_joining_branch_is_refused_as_one_of_a_submission(api, part, gid):
    begin(api, gid)
    for members, pointer in (({"after": ["x"]}, "/after"), ({"on_timeout": "no"}, "/on_timeout"),
                             ({"ops": {"abort": part.url("a", "x")}}, "/ops")):
        reply = post(api, gid, "branches", part.branch("a", **members), valid=False)
        assert reply.status == 422, reply
        assert [e["pointer"] for e in reply["errors"]] == [pointer]
    refused = None
    for branch in long_ids(part, 64):
        reply = post(api, gid, "branches", branch)
        if reply.status != 200:
            refused = reply
            break
    assert refused.status == 422 and "peers" in json.dumps(refused.json), refused
    assert post(api, gid, "rollback", wait=20)["outcome"] == "aborted"


def test_lists_and_metrics_know_the_mode(api, part, gid):
    before = api.metric('assent_transactions_ended_by_mode_total{mode="3pc",outcome="committed"}')
    submit(api, gid, three(part, "a", "b"))
    query = {"mode": "3pc", "state": "committed", "limit": 100}
    wait_until(lambda: gid in [t["gid"] for t in api.get("/v1/transactions", query=query)[
        "transactions"]], 15, "the end to be stored")
    after = api.metric('assent_transactions_ended_by_mode_total{mode="3pc",outcome="committed"}')
    assert after >= before + 1
