"""Sagas: steps in a row and in a graph, backwards and forward, with results of earlier steps."""

import json

import pytest

from harness.participant import Answer, Gate
from harness.wait import wait_until

QUICK = {"initial_ms": 10, "cap_ms": 100, "alert_after": 3}


def saga(part, *names, payloads=None, **members):
    steps = [part.branch(n) for n in names]
    for name, payload in (payloads or {}).items():
        steps[names.index(name)]["payload"] = payload
    return dict({"mode": "saga", "retry": QUICK, "branches": steps}, **members)


def submit(api, gid, body, wait=20, **kw):
    return api.put(gid, body, headers={"Prefer": "wait=%d" % wait}, **kw)


def heard(part, gid):
    """In the order of arrival; repetitions count once."""
    found = []
    for call in part.calls(gid=gid):
        if (call.name, call.op) not in found:
            found.append((call.name, call.op))
    return found


def states(txn):
    return {b["id"]: b["state"] for b in txn["branches"]}


def test_steps_in_a_row(api, part, gid):
    reply = submit(api, gid, saga(part, "stock", "account", "coupon"))
    assert (reply.status, reply["state"], reply["outcome"]) == (200, "committed", "committed")
    assert heard(part, gid) == [(n, "action") for n in ("stock", "account", "coupon")]
    for call in part.calls(gid=gid):
        assert (call.headers["Assent-Mode"], call.headers["Assent-Op"]) == ("saga", "action")
        assert call.headers["Idempotency-Key"].endswith('/action"')


def test_the_next_waits(api, part, gid):
    gate = Gate()
    part.on("one", "action", Answer(200, gate=gate))
    assert submit(api, gid, saga(part, "one", "two"), wait=1).status == 202
    part.wait_calls(1, "one", "action")
    assert api.txn(gid)["state"] == "running"
    assert part.calls("two") == []
    gate.open()
    assert api.ended(gid)["outcome"] == "committed"


@pytest.mark.parametrize("answer", [Answer(409, '{"reason":"no"}'), Answer(404)])
def test_a_refusal_compensates_backwards(api, part, gid, answer):
    part.on("three", "action", answer)
    part.on("two", "compensate", Answer(503), Answer(200))
    reply = submit(api, gid, saga(part, "one", "two", "three", "four"))
    assert (reply["state"], reply["outcome"]) == ("aborted", "aborted")
    assert heard(part, gid) == [("one", "action"), ("two", "action"), ("three", "action"),
                                ("three", "compensate"), ("two", "compensate"),
                                ("one", "compensate")]
    assert set(states(reply.json).values()) == {"aborted"}


def test_the_deadline_compensates_a_step_without_an_answer(api, part, gid):
    gate = Gate()
    part.on("two", "action", Answer(200, gate=gate))
    reply = submit(api, gid, saga(part, "one", "two", timeout_ms=1000))
    assert reply["outcome"] == "aborted"
    assert heard(part, gid)[2:] == [("two", "compensate"), ("one", "compensate")]


def test_what_will_not_be_undone_is_mixed(api, part, gid):
    part.on("three", "action", Answer(409))
    part.on("two", "compensate", Answer(409, '{"outcome":"committed"}'))
    reply = submit(api, gid, saga(part, "one", "two", "three"))
    assert (reply["state"], states(reply.json)) == (
        "mixed", {"one": "aborted", "two": "heuristic_committed", "three": "aborted"})


def test_a_graph(api, part, gid):
    body = saga(part, "last", "left", "right", "first")
    body["branches"][0]["after"] = ["left", "right"]
    body["branches"][1]["after"] = body["branches"][2]["after"] = ["first"]
    part.on("last", "action", Answer(409))
    assert submit(api, gid, body)["outcome"] == "aborted"
    calls = [name for name, _ in heard(part, gid)]
    assert (calls[0], sorted(calls[1:3]), calls[3:5]) == ("first", ["left", "right"],
                                                          ["last", "last"])
    assert (sorted(calls[5:7]), calls[7:]) == (["left", "right"], ["first"])


def test_forward_never_goes_back(api, part, gid):
    answers = [Answer(409), Answer(503), Answer(404), Answer(200)]
    part.on("two", "action", *answers)
    reply = submit(api, gid, saga(part, "one", "two", recovery="forward", timeout_ms=50))
    assert (reply["outcome"], heard(part, gid)) == ("committed", [("one", "action"),
                                                                  ("two", "action")])
    calls = part.calls("two", "action", gid)
    assert len(calls) == 4
    assert all(int(c.headers["Assent-Timeout-Ms"]) > 1000 and not c.headers["Assent-Deadline"]
               for c in calls)


# --- results -------------------------------------------------------------------------------------


def bodies(part, gid, name):
    return {c.op: c.body.decode() for c in part.calls(name, gid=gid)}


RESULT = '{"id":12345678901234567890,"price":19.90,"tags":["a",{"b":true}],"s":"x\\"y","o":{}}'


@pytest.mark.parametrize("payload, built", [
    ('{"a": "{{steps.one.result.id}}"}', '{"a": 12345678901234567890}'),
    ('["{{steps.one.result.price}}","{{steps.one.result.s}}"]', '[19.90,"x\\"y"]'),
    ('"{{steps.one.result.tags.1.b}}"', "true"),
    ('{"x":"n-{{steps.one.result.id}}-{{steps.one.result.s}}.", "y": {}}',
     '{"x":"n-12345678901234567890-x\\"y.", "y": {}}'),
    ('{"{{steps.one.result.price}}":"{{steps.one.result.o}}"}', '{"19.90":{}}'),
    ('"{{steps.one.result}}"', RESULT),
    ('{"a":"{{ steps.one.result.id }} {{other}}","b":"\\\\"}',
     '{"a":"{{ steps.one.result.id }} {{other}}","b":"\\\\"}'),
])
def test_results_in_later_payloads(api, part, gid, payload, built):
    part.on("one", "action", Answer(200, RESULT))
    part.on("three", "action", Answer(409))
    body = json.dumps(saga(part, "one", "two", "three", payloads={"two": "@"}))
    assert submit(api, gid, body.replace('"@"', payload))["outcome"] == "aborted"
    assert bodies(part, gid, "two") == {"action": built, "compensate": built}


@pytest.mark.parametrize("result, path", [
    ('{"a":1}', "b"), ("", "a"), ("not json", "a"), ('[1]', "1"), ('{"a":null}', "a}}-{{steps.one"
     ".result.a"), ('{"a":{}}', "a}} "), ('{"a":"%s"}' % ("x" * 17000), "a"), ('7', "a")])
def test_a_result_that_is_not_there_refuses_the_step(api, part, gid, result, path):
    part.on("one", "action", Answer(200, result))
    reference = "{{steps.one.result.%s" % path + ("" if path.endswith(" ") else "}}")
    reply = submit(api, gid, saga(part, "one", "two", "three", payloads={"two": {"x": reference}}))
    assert reply["outcome"] == "aborted"
    assert heard(part, gid) == [("one", "action"), ("one", "compensate")]
    error = [b["last_error"] for b in reply["branches"] if b["id"] == "two"]
    attempts = api.history(gid)["attempts"]
    assert [(a["op"], a["verdict"], a["error"]) for a in attempts if a["branch"] == "two"] == [
        ("action", "contract", "an earlier step gave no such result"),
        ("compensate", "done", "an earlier step gave no such result")], (error, attempts)


def test_results_that_make_a_payload_too_long(api, part, gid):
    part.on("one", "action", Answer(200, '{"a":"%s"}' % ("x" * 16000)))
    reply = submit(api, gid, saga(part, "one", "two", payloads={
        "two": ["{{steps.one.result.a}}"] * 66}))
    assert (reply["outcome"], heard(part, gid)) == ("aborted", [("one", "action"),
                                                                ("one", "compensate")])
    assert [(a["op"], a["verdict"], a["error"]) for a in api.history(gid)["attempts"]
            if a["branch"] == "two"] == [
        ("action", "contract", "results of earlier steps make it too long"),
        ("compensate", "done", "results of earlier steps make it too long")]
    reply = api.put(gid + "-many", saga(part, "one", "two", payloads={
        "two": ["{{steps.one.result.a}}"] * 257}))
    assert (reply.status, reply["code"]) == (422, "invalid_order"), reply


@pytest.mark.parametrize("payloads, pointer", [
    ({"one": "{{steps.two.result.a}}"}, "/branches/0/payload"),
    ({"two": {"x": ["{{steps.two.result.a}}"]}}, "/branches/1/payload"),
    ({"two": "a {{steps.nobody.result.a}}"}, "/branches/1/payload"),
    ({"two": "{{steps.one.results}}"}, "/branches/1/payload"),
    ({"two": "{{steps.one.result.a"}, "/branches/1/payload"),
])
def test_a_reference_to_what_does_not_run_before(api, part, gid, payloads, pointer):
    reply = api.put(gid, saga(part, "one", "two", payloads=payloads))
    assert (reply.status, reply["code"], reply["errors"][0]["pointer"]) == (
        422, "invalid_order", pointer), reply
    assert api.get("/v1/transactions/" + gid).status == 404


@pytest.mark.parametrize("whose, status", [("right", 422), ("last", 422), ("first", 202)])
def test_a_reference_in_a_graph(api, part, gid, whose, status):
    """To a step that runs before by way of others; not to one that runs beside it, or later."""
    body = saga(part, "first", "between", "left", "right", "last", payloads={
        "left": "{{steps.%s.result.a}}" % whose})
    for step, after in ((1, "first"), (2, "between"), (3, "first"), (4, "left")):
        body["branches"][step]["after"] = [after]
    part.on("first", "action", Answer(200, '{"a":1}'))
    reply = api.put(gid, body)
    assert reply.status == status, reply
    if status == 422:
        assert reply["errors"][0]["pointer"] == "/branches/2/payload", reply
        assert api.get("/v1/transactions/" + gid).status == 404
    else:
        assert api.ended(gid)["outcome"] == "committed"
        assert bodies(part, gid, "left") == {"action": "1"}


def test_the_result_is_stored_before_the_call_that_is_built_from_it(fresh, part, gid):
    """And survives: the second step is asked the same after a restart, and undone with it."""
    api, stuck = fresh.client, Answer(503)
    part.on("one", "action", Answer(200, '{"n": 7.10}'), Answer(200, '{"n": 8}'))
    part.on("two", "action", stuck)
    body = saga(part, "one", "two", "three", timeout_ms=600000,
                payloads={"two": "{{steps.one.result.n}}", "three": "{{steps.two.result.m}}"})
    assert submit(api, gid, body, wait=1).status == 202
    part.wait_calls(1, "two", "action")
    assert [bytes(b) for b in fresh.db.query("SELECT body FROM assent.result")[0]] == [
        b'{"n": 7.10}']
    fresh.kill9()
    part.forget()
    fresh.start()
    part.wait_calls(1, "two", "action")
    part.on("two", "action", Answer(200, '{"m":"z"}'))
    part.on("three", "action", Answer(409))
    assert fresh.client.ended(gid)["outcome"] == "aborted"
    assert bodies(part, gid, "two") == {"action": "7.10", "compensate": "7.10"}
    assert bodies(part, gid, "three") == {"action": '"z"', "compensate": '"z"'}
    assert "action" not in bodies(part, gid, "one")


# --- what belongs to another mode ----------------------------------------------------------------


@pytest.mark.parametrize("members, pointer", [
    ({"interactive": True}, "/interactive"),
    ({"vote_timeout_ms": 1000}, "/vote_timeout_ms"),
    ({"on_confirm_failure": "cancel"}, "/on_confirm_failure"),
    ({"recovery": "sideways"}, "/recovery"),
    ({"mode": "tcc", "recovery": "forward"}, "/recovery"),
    ({"ops": {"try": "http://127.0.0.1:1/x"}}, "/branches/0/ops/try"),
])
def test_of_another_mode(api, part, gid, members, pointer):
    of_branch = {k: v for k, v in members.items() if k == "ops"}
    body = dict(saga(part), branches=[part.branch("stock", **of_branch), part.branch("x")])
    body.update({k: v for k, v in members.items() if k not in of_branch})
    reply = api.put(gid, body, valid=False)
    assert (reply.status, reply["errors"][0]["pointer"]) == (422, pointer), reply
    assert api.get("/v1/transactions/" + gid).status == 404


def test_other_modes_do_not_build_payloads(api, part, gid):
    body = saga(part, "one", "two", mode="tcc", payloads={"two": "{{steps.nobody.result.a}}"})
    assert submit(api, gid, body)["outcome"] == "committed"
    assert bodies(part, gid, "two")["try"] == '"{{steps.nobody.result.a}}"'


# --- killed --------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 2])
def test_goes_on_after_kill_9(fresh, part, gids, times):
    part.on("slow", "action", Answer(503))
    part.on("deaf", "compensate", Answer(503))
    part.on("no", "action", Answer(409))
    api, ample = fresh.client, {"timeout_ms": 600000}
    running, compensating, forward = gids(), gids(), gids()
    submit(api, running, saga(part, "one", "slow", "three", **ample), wait=1)
    submit(api, compensating, saga(part, "one", "deaf", "no", **ample), wait=1)
    submit(api, forward, saga(part, "one", "no", recovery="forward", timeout_ms=100), wait=1)
    wanted = {running: "running", compensating: "compensating", forward: "running"}
    for _ in range(times):
        for gid, state in wanted.items():
            wait_until(lambda: api.txn(gid)["state"] == state, 10, "%s to be %s" % (gid, state))
        fresh.kill9()
        fresh.start()
        api = fresh.client
    part.on("slow", "action", Answer(200))
    part.on("no", "action", Answer(200))
    part.on("deaf", "compensate", Answer(200))
    assert api.ended(running)["outcome"] == "committed"
    assert api.ended(forward)["outcome"] == "committed"
    assert api.ended(compensating)["outcome"] == "aborted"
    undone = [name for name, op in heard(part, compensating) if op == "compensate"]
    assert undone == ["no", "deaf", "one"]
