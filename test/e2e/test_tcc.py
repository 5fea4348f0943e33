"""Try, confirm, cancel: coordinated and interactive, in order and not, undone and killed."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest

from harness.client import Client
from harness.participant import Answer, Gate
from harness.wait import wait_until

QUICK = {"initial_ms": 10, "cap_ms": 100, "alert_after": 3}


def tcc(part, *names, **members):
    return dict({"mode": "tcc", "retry": QUICK, "branches": [part.branch(n) for n in names]},
                **members)


def submit(api, gid, body, wait=20):
    return api.put(gid, body, headers={"Prefer": "wait=%d" % wait})


def heard(part, gid):
    """By participant, in the order of arrival; repetitions count once."""
    found = {}
    for call in part.calls(gid=gid):
        ops = found.setdefault(call.name, [])
        if call.op not in ops:
            ops.append(call.op)
    return found


def states(txn):
    return {b["id"]: b["state"] for b in txn["branches"]}


def post(api, gid, what, body=None, wait=None, **kw):
    headers = {"Prefer": "wait=%d" % wait} if wait else {}
    return api.request("POST", "/v1/transactions/%s/%s" % (gid, what), body, headers=headers, **kw)


def seconds_of(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def begin(api, gid, **members):
    reply = api.put(gid, dict({"mode": "tcc", "interactive": True, "retry": QUICK}, **members))
    assert (reply.status, reply["state"], reply["mode"]) == (202, "active", "tcc"), reply
    return reply


def test_all_try_then_all_confirm(api, part, gid):
    reply = submit(api, gid, tcc(part, "stock", "account"))
    assert (reply.status, reply["state"], reply["outcome"]) == (200, "committed", "committed")
    assert heard(part, gid) == {n: ["try", "confirm"] for n in ("stock", "account")}
    for call in part.calls(gid=gid):
        assert (call.headers["Assent-Mode"], call.headers["Assent-Op"]) == ("tcc", call.op)
        assert call.headers["Idempotency-Key"].endswith('/%s"' % call.op)
        assert call.headers["Assent-May-Be-Confirmed"] is None
        assert call.headers["Assent-One-Phase"] is None


def test_nobody_confirms_before_all_have_tried(api, part, gid):
    gate = Gate()
    part.on("account", "try", Answer(200, gate=gate))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(submit, Client(api.base), gid, tcc(part, "stock", "account"))
        part.wait_calls(1, "account", "try")
        part.wait_calls(1, "stock", "try")
        wait_until(lambda: states(api.txn(gid))["stock"] == "tried", 10, "the first to try")
        assert api.txn(gid)["state"] == "trying"
        assert part.calls(op="confirm", gid=gid) == []
        gate.open()
        assert answer.result()["outcome"] == "committed"


@pytest.mark.parametrize("answer", [Answer(409, '{"reason":"no"}'), Answer(404)])
def test_a_refusal_cancels_all(api, part, gid, answer):
    part.on("account", "try", answer)
    reply = submit(api, gid, tcc(part, "stock", "account"))
    assert (reply["state"], reply["outcome"]) == ("aborted", "aborted")
    assert heard(part, gid) == {n: ["try", "cancel"] for n in ("stock", "account")}


def test_the_deadline_cancels_a_try_without_an_answer(api, part, gid):
    gate = Gate()
    part.on("account", "try", Answer(200, gate=gate))
    reply = submit(api, gid, tcc(part, "stock", "account", timeout_ms=1000))
    assert reply["outcome"] == "aborted"
    assert heard(part, gid) == {n: ["try", "cancel"] for n in ("stock", "account")}


def test_a_branch_alone_is_tried_as_well(api, part, gid):
    assert submit(api, gid, tcc(part, "stock"))["outcome"] == "committed"
    assert heard(part, gid) == {"stock": ["try", "confirm"]}


def test_read_only_gets_neither(api, part, gid):
    part.on("stock", "try", Answer(200, '{"vote":"read_only"}'))
    assert submit(api, gid, tcc(part, "stock", "account"))["outcome"] == "committed"
    assert heard(part, gid) == {"stock": ["try"], "account": ["try", "confirm"]}


def test_a_confirm_is_repeated(api, part, gid):
    part.on("stock", "confirm", *[Answer(503)] * 4 + [Answer(409)] + [Answer(200)])
    reply = submit(api, gid, tcc(part, "stock", "account"))
    assert reply["outcome"] == "committed"
    assert len(part.calls("stock", "confirm", gid)) == 6
    attempts = api.history(gid)["attempts"]
    assert {(a["branch"], a["op"]) for a in attempts} == {
        (b, op) for b in ("stock", "account") for op in ("try", "confirm")}
    assert [a["verdict"] for a in attempts if a["branch"] == "stock" and a["op"] == "confirm"] == [
        "unknown"] * 4 + ["no", "done"]


@pytest.mark.parametrize("mode, op, outcome", [
    ("tcc", "confirm", "committed"), ("tcc", "cancel", "aborted"), ("saga", "compensate", "aborted"),
    ("saga", "action", "committed")])
def test_exhausted_attempts_are_an_alert_and_go_on(api, part, gid, mode, op, outcome):
    part.on("stock", op, *[Answer(503)] * 6 + [Answer(200)])
    part.on("account", {"cancel": "try", "compensate": "action"}.get(op, "nothing"), Answer(409))
    body = tcc(part, "stock", "account", mode=mode, timeout_ms=60000)
    if op == "action":
        body["recovery"] = "forward"
    assert submit(api, gid, body)["outcome"] == outcome
    assert len(part.calls("stock", op, gid)) == 7

    def closed():
        found = api.get("/v1/admin/alerts", query={"state": "closed",
                                                   "participant": part.url("").rstrip("/")})
        return [(a["kind"], a["branch"]) for a in found["alerts"] if a["gid"] == gid]
    wait_until(lambda: closed() == [("exhausted", "stock")], 10, closed)


def test_found_cancelled(api, part, gid):
    part.on("stock", "confirm", Answer(409, '{"outcome":"aborted"}'))
    reply = submit(api, gid, tcc(part, "stock", "account"))
    assert (reply["state"], states(reply.json)) == (
        "mixed", {"stock": "heuristic_aborted", "account": "committed"})


# --- in order ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode, first, second", [("tcc", "try", "confirm"),
                                                 ("2pc", "prepare", "commit")])
def test_first_calls_come_after_others(api, part, gid, mode, first, second):
    body = tcc(part, "last", "one", "two", mode=mode)
    body["branches"][0]["after"] = ["two", "one"]
    body["branches"][2]["after"] = ["one"]
    assert submit(api, gid, body)["outcome"] == "committed"
    calls = [(c.name, c.op) for c in part.calls(gid=gid)]
    assert calls[:3] == [("one", first), ("two", first), ("last", first)]
    assert sorted(calls[3:]) == [("last", second), ("one", second), ("two", second)]


def test_who_was_not_called_is_not_cancelled(api, part, gid):
    part.on("one", "try", Answer(409))
    body = tcc(part, "one", "two")
    body["branches"][1]["after"] = ["one"]
    reply = submit(api, gid, body)
    assert (reply["outcome"], states(reply.json)) == ("aborted", {"one": "aborted",
                                                                  "two": "aborted"})
    assert heard(part, gid) == {"one": ["try", "cancel"]}


def test_confirms_are_not_in_order(api, part, gid):
    part.on("one", "confirm", Answer(503))
    body = tcc(part, "one", "two")
    body["branches"][1]["after"] = ["one"]
    assert submit(api, gid, body, wait=1).status in (200, 202)
    part.wait_calls(1, "two", "confirm")
    part.on("one", "confirm", Answer(200))
    assert api.ended(gid)["outcome"] == "committed"


@pytest.mark.parametrize("after, pointer", [
    ({0: ["b"], 1: ["a"]}, "/branches/0/after"),
    ({0: ["a"]}, "/branches/0/after/0"),
    ({1: ["a", "nobody"]}, "/branches/1/after/1"),
    ({0: ["c"], 1: ["a"], 2: ["b"]}, "/branches/0/after"),
])
@pytest.mark.parametrize("mode", ["2pc", "tcc", "saga"])
def test_no_such_order(api, part, gid, mode, after, pointer):
    body = tcc(part, "a", "b", "c", mode=mode)
    for i, ids in after.items():
        body["branches"][i]["after"] = ids
    reply = api.put(gid, body)
    assert (reply.status, reply["code"], reply["errors"][0]["pointer"]) == (
        422, "invalid_order", pointer), reply
    assert api.get("/v1/transactions/" + gid).status == 404


# --- what belongs to another mode ----------------------------------------------------------------


@pytest.mark.parametrize("members, pointer", [
    ({"mode": "2pc", "on_confirm_failure": "cancel"}, "/on_confirm_failure"),
    ({"on_confirm_failure": "undo"}, "/on_confirm_failure"),
    ({"on_confirm_failure": True}, "/on_confirm_failure"),
    ({"interactive": True, "vote_timeout_ms": 1000}, "/vote_timeout_ms"),
    ({"interactive": True, "after": ["x"]}, "/branches/0/after"),
    ({"ops": {"prepare": "http://127.0.0.1:1/x"}}, "/branches/0/ops/prepare"),
    ({"mode": "2pc", "ops": {"try": "http://127.0.0.1:1/x"}}, "/branches/0/ops/try"),
    ({"after": "x"}, "/branches/0/after"),
    ({"after": [7]}, "/branches/0/after/0"),
    ({"mode": "tccc"}, "/mode"),
])
def test_of_another_mode(api, part, gid, members, pointer):
    of_branch = {k: v for k, v in members.items() if k in ("ops", "after")}
    body = dict(tcc(part), branches=[part.branch("stock", **of_branch), part.branch("x")])
    body.update({k: v for k, v in members.items() if k not in of_branch})
    reply = api.put(gid, body, valid=False)
    assert (reply.status, reply["errors"][0]["pointer"]) == (422, pointer), reply
    assert api.get("/v1/transactions/" + gid).status == 404


def test_operations_with_addresses_of_their_own(api, part, gid):
    body = tcc(part, "stock")
    body["branches"][0]["ops"] = {"try": part.url("freeze", "now"), "cancel": part.url("x", "y")}
    assert submit(api, gid, body)["outcome"] == "committed"
    assert [(c.name, c.op) for c in part.calls(gid=gid)] == [("freeze", "now"),
                                                             ("stock", "confirm")]


# --- interactive ---------------------------------------------------------------------------------


def test_initiator_tries(api, part, gid):
    begin(api, gid)
    for name in ("stock", "account"):
        assert post(api, gid, "branches", part.branch(name)).status == 200
    assert part.calls(gid=gid) == []
    reply = post(api, gid, "commit", wait=10)
    assert (reply["state"], states(reply.json)) == (
        "committed", {"stock": "committed", "account": "committed"})
    assert heard(part, gid) == {"stock": ["confirm"], "account": ["confirm"]}
    for _ in range(2):
        assert post(api, gid, "commit")["outcome"] == "committed"
    assert post(api, gid, "rollback")["code"] == "wrong_state"


def test_initiator_rolls_back(api, part, gid):
    begin(api, gid)
    for name in ("stock", "account"):
        post(api, gid, "branches", part.branch(name))
    assert post(api, gid, "rollback", wait=10)["outcome"] == "aborted"
    assert heard(part, gid) == {"stock": ["cancel"], "account": ["cancel"]}
    assert post(api, gid, "commit")["code"] == "wrong_state"


def test_initiator_goes_away(api, part, gid):
    begin(api, gid, timeout_ms=1000)
    body = json.dumps(part.branch("stock"))
    assert post(api, gid, "branches", body).status == 200
    assert api.ended(gid)["outcome"] == "aborted"
    assert heard(part, gid) == {"stock": ["cancel"]}
    assert post(api, gid, "branches", part.branch("account"))["code"] == "wrong_state"
    assert post(api, gid, "branches", body).status == 200  # repeated: it was in
    assert post(api, gid, "commit")["code"] == "wrong_state"


def test_a_joining_branch_has_the_modes_operations(api, part, gid):
    begin(api, gid)
    reply = post(api, gid, "branches", part.branch("stock", ops={"prepare": part.url("x", "y")}))
    assert (reply.status, reply["errors"][0]["pointer"]) == (422, "/ops/prepare")
    assert post(api, gid, "branches",
                part.branch("stock", ops={"confirm": part.url("x", "y")})).status == 200
    post(api, gid, "commit", wait=10)
    assert [(c.name, c.op) for c in part.calls(gid=gid)] == [("x", "y")]


def test_everybody_who_was_told_that_he_is_in_is_cancelled(api, part, gids):
    """Enlists that race with the deadline."""
    for _ in range(3):
        gid = gids()
        begin(api, gid, timeout_ms=500)
        assert post(api, gid, "branches", part.branch("race", "first")).status == 200
        told = ["first"]
        soon = api.txn(gid)["deadline_at"]
        wait_until(lambda at=seconds_of(soon): time.time() > at - 0.04, 10, "the deadline")
        for i in range(60):
            reply = post(api, gid, "branches", part.branch("race", "b%d" % i))
            if reply.status == 409:
                break
            told.append("b%d" % i)
        assert len(told) <= 60 and api.ended(gid)["outcome"] == "aborted"
        assert {c.headers["Assent-Branch"] for c in part.calls("race", "cancel", gid)} == set(told)


# --- confirms that can be undone -----------------------------------------------------------------


def undoable(part, *names):
    return tcc(part, *names, on_confirm_failure="cancel")


def test_committed_when_all_have_confirmed(api, part, gid):
    gate = Gate()
    part.on("account", "confirm", Answer(200, gate=gate))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(submit, Client(api.base), gid, undoable(part, "stock", "account"))
        wait_until(lambda: part.calls("account", "confirm", gid)
                   and states(api.txn(gid))["stock"] == "confirmed", 10, "one to confirm")
        seen = api.txn(gid)
        assert (seen["state"], seen["outcome"], seen["decided_at"]) == ("confirming", "pending",
                                                                        None)
        assert api.decision(gid)["decision"] == "pending"
        gate.open()
        assert answer.result()["outcome"] == "committed"
    assert states(api.txn(gid)) == {"stock": "committed", "account": "committed"}
    assert all(c.headers["Assent-May-Be-Confirmed"] == ("true" if c.op == "confirm" else None)
               for c in part.calls(gid=gid))


@pytest.mark.parametrize("answer", [Answer(409), Answer(503), Answer(400),
                                    Answer(409, '{"outcome":"aborted"}')])
def test_one_confirm_that_cannot_be_had_cancels_all(api, part, gid, answer):
    part.on("account", "confirm", answer)
    reply = submit(api, gid, undoable(part, "stock", "account"))
    assert (reply["state"], reply["outcome"]) == ("aborted", "aborted")
    assert heard(part, gid) == {n: ["try", "confirm", "cancel"] for n in ("stock", "account")}
    assert len(part.calls("account", "confirm", gid)) == (1 if answer.status == 409 else 3)
    assert {c.headers["Assent-May-Be-Confirmed"] for c in part.calls(op="cancel", gid=gid)} == {
        "true"}


def test_what_cannot_be_undone_is_mixed(api, part, gid):
    part.on("account", "confirm", Answer(409))
    part.on("stock", "cancel", Answer(409, '{"outcome":"committed"}'))
    reply = submit(api, gid, undoable(part, "stock", "account"))
    assert (reply["state"], states(reply.json)) == (
        "mixed", {"stock": "heuristic_committed", "account": "aborted"})
    assert api.decision(gid)["decision"] == "abort"


# --- seen from outside, repeated, killed ---------------------------------------------------------


def test_the_same_again(api, part, gid):
    body = json.dumps(tcc(part, "stock", "account"))
    first = submit(api, gid, body)
    assert (submit(api, gid, body).json, first.status) == (first.json, 200)
    assert len(part.calls(gid=gid)) == 4
    reply = api.put(gid, json.dumps({"mode": "tcc", "branches": []}), valid=False)
    assert (reply.status, reply["code"]) == (422, "branch_count")
    reply = submit(api, gid, tcc(part, "stock"))
    assert (reply.status, reply["code"]) == (422, "gid_conflict")


def test_seen_in_lists_metrics_and_sql(api, shared, part, gid):
    part.on("stock", "confirm", Answer(503))
    assert submit(api, gid, tcc(part, "stock", labels={"of": "seen"}), wait=1).status \
        == 202
    shared.wait_state(gid, "confirming")
    found = api.get("/v1/transactions", query={"mode": "tcc", "state": "confirming",
                                               "label.of": "seen"})
    assert [t["gid"] for t in found["transactions"]] == [gid]
    by_state = api.get("/v1/admin/overview")["in_flight"]["by_state"]
    assert {"mode": "tcc", "state": "confirming", "n": 1} in by_state
    assert shared.db.query("SELECT mode, state FROM assent.transactions WHERE gid = %s", gid) == [
        ("tcc", "confirming")]
    assert shared.db.value("SELECT state FROM assent.branches WHERE gid = %s", gid) == "tried"
    part.on("stock", "confirm", Answer(200))
    assert api.ended(gid)["outcome"] == "committed"
    assert api.metric(
        'assent_transactions_ended_by_mode_total{mode="tcc",outcome="committed"}') >= 1


def stuck(fresh, part, gids):
    """One in each state that a restart has to go on from."""
    part.on("slow", "try", Answer(503))
    part.on("deaf", "confirm", Answer(503))
    part.on("deaf", "cancel", Answer(503))
    part.on("no", "try", Answer(409))
    api = fresh.client
    trying, confirming, cancelling, undo, active, ordered = (gids() for _ in range(6))
    ample = {"timeout_ms": 600000}
    endless = dict(QUICK, alert_after=1000)
    order = tcc(part, "one", "slow", **ample)
    order["branches"][1]["after"] = ["one"]
    submit(api, trying, tcc(part, "slow", "one", **ample), wait=1)
    submit(api, ordered, order, wait=1)
    submit(api, confirming, tcc(part, "deaf", "one", **ample), wait=1)
    submit(api, cancelling, tcc(part, "deaf", "no", **ample), wait=1)
    submit(api, undo, dict(undoable(part, "one", "deaf"), retry=endless, **ample), wait=1)
    begin(api, active, **ample)
    post(api, active, "branches", part.branch("one"))
    wanted = {trying: "trying", ordered: "trying", confirming: "confirming",
              cancelling: "cancelling", undo: "confirming", active: "active"}
    for gid, state in wanted.items():
        wait_until(lambda: api.txn(gid)["state"] == state, 10, "%s to be %s" % (gid, state))
    return wanted, active


@pytest.mark.parametrize("times", [1, 2])
def test_goes_on_after_kill_9(fresh, part, gids, times):
    wanted, active = stuck(fresh, part, gids)
    for _ in range(times):
        fresh.kill9()
        fresh.start()
    api = fresh.client
    for gid, state in wanted.items():
        assert api.txn(gid)["state"] == state
    for name, op in (("slow", "try"), ("deaf", "confirm"), ("deaf", "cancel")):
        part.on(name, op, Answer(200))
    assert post(api, active, "commit", wait=20)["outcome"] == "committed"
    for gid, state in wanted.items():
        outcome = "aborted" if state == "cancelling" else "committed"
        assert api.ended(gid)["outcome"] == outcome
        ops = {op for name in heard(part, gid).values() for op in name}
        assert not {"confirm", "cancel"} <= ops
