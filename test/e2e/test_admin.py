"""What an operator sees: alerts that come and go with their causes, and figures that agree with
what was done."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.participant import Answer, Gate
from harness.system import Assentd
from harness.wait import wait_until

FAST = {"initial_ms": 10, "cap_ms": 100, "alert_after": 2}


def two(part, **members):
    return dict({"mode": "2pc", "retry": FAST, "timeout_ms": 60000,
                 "branches": [part.branch("a"), part.branch("b")]}, **members)


def host(part):
    return part.url("").rstrip("/")


def alerts(api, part=None, **query):
    if part:
        query["participant"] = host(part)
    reply = api.get("/v1/admin/alerts", query=query)
    assert reply.status == 200, reply
    return reply["alerts"]


def one_alert(api, part, n_open=1, **query):
    """The only open alert about this participant, once so many branches are concerned."""
    def look():
        found = alerts(api, part, state="open", **query)
        assert len(found) < 2, found
        return found[0] if found and found[0]["open"] == n_open else None
    return wait_until(look, 15, lambda: "an alert with %d open: %s" % (n_open, alerts(api, part)))


def no_open_alert(api, part):
    wait_until(lambda: not alerts(api, part, state="open"), 15, "alerts to close")


def open_count(api, kind):
    return api.metric('assent_alerts_open{kind="%s"}' % kind)


def test_exhausted_is_grouped_and_closes_itself(api, part, gids):
    first, second = gids(), gids()
    before = open_count(api, "exhausted")
    part.on("a", "commit", Answer(500))
    assert api.put(first, two(part)).status == 202
    alert = one_alert(api, part)
    assert (alert["kind"], alert["severity"]) == ("exhausted", "warning")
    assert (alert["error"], alert["detail"]) == ("HTTP 500", "commit: HTTP 500 (unknown)")
    assert (alert["gid"], alert["branch"], alert["count"]) == (first, "a", 1)
    assert alert["branches"] == [{"gid": first, "branch": "a"}]
    assert host(part) in alert["what"]
    assert api.put(second, two(part)).status == 202
    again = one_alert(api, part, 2)
    assert (again["id"], again["gid"], again["count"]) == (alert["id"], second, 2)
    assert [b["gid"] for b in again["branches"]] == [second, first]
    assert again["first_at"] == alert["first_at"] < again["last_at"]
    wait_until(lambda: open_count(api, "exhausted") == before + 1, what="the gauge to say so")
    part.on("a", "commit", Answer(200))
    assert {api.ended(g)["outcome"] for g in (first, second)} == {"committed"}
    no_open_alert(api, part)
    closed = alerts(api, part, state="closed")
    assert [(c["id"], c["count"], c["open"]) for c in closed] == [(alert["id"], 2, 0)]
    assert closed[0]["closed_at"] >= closed[0]["last_at"]
    assert len(closed[0]["branches"]) == 2
    wait_until(lambda: open_count(api, "exhausted") == before, what="the gauge to go down")


def test_one_through_leaves_the_alert_open(api, part, gids):
    first, second = gids(), gids()
    for g, name in ((first, "x"), (second, "y")):
        part.on(name, "commit", Answer(500))
        api.put(g, dict(two(part), branches=[part.branch(name), part.branch("b")]))
    assert one_alert(api, part, 2)["count"] == 2
    part.on("x", "commit", Answer(200))
    assert api.ended(first)["outcome"] == "committed"
    assert one_alert(api, part)["branches"] == [{"gid": second, "branch": "y"}]
    part.on("y", "commit", Answer(200))
    assert api.ended(second)["outcome"] == "committed"
    no_open_alert(api, part)


def test_contract_error_at_once(api, part, gid):
    part.on("a", "commit", Answer(404), Answer(200))
    body = two(part, retry=dict(FAST, alert_after=1000))
    assert api.put(gid, body, wait=10)["outcome"] == "committed"
    part.wait_calls(2, "a", "commit")
    no_open_alert(api, part)
    found = alerts(api, part, kind="contract", severity="error")
    assert [(a["error"], a["gid"], a["count"]) for a in found] == [("HTTP 404", gid, 1)]


@pytest.mark.parametrize("others", [Answer(200), Answer(500)])
def test_heuristic_stays(api, part, gid, others):
    """Neither the end of the transaction nor the other branches' success closes it."""
    part.on("a", "commit", Answer(409, '{"outcome":"aborted"}'))
    part.on("b", "commit", others, others, Answer(200))
    assert api.put(gid, two(part), wait=10)["outcome"] == "mixed"
    alert = one_alert(api, part, kind="heuristic")
    assert (alert["severity"], alert["error"]) == ("critical", "heuristic_aborted")
    assert alert["branches"] == [{"gid": gid, "branch": "a"}]
    wait_until(lambda: [a["kind"] for a in alerts(api, part, state="open")] == ["heuristic"],
               what="the others' alert to be closed")


def test_other_cause_other_alert(api, part, gids):
    part.on("a", "commit", Answer(500))
    part.on("b", "commit", Answer(503))
    api.put(gids(), two(part))
    found = wait_until(lambda: len(alerts(api, part, state="open")) == 2 and alerts(api, part),
                       what="two alerts")
    assert {(a["branch"], a["error"]) for a in found} == {("a", "HTTP 500"), ("b", "HTTP 503")}
    pages, cursor = [], {}
    while cursor is not None:
        reply = api.get("/v1/admin/alerts", query=dict(cursor, limit=1, participant=host(part)))
        pages += [a["id"] for a in reply["alerts"]]
        cursor = reply["next_cursor"] and {"cursor": reply["next_cursor"]}
    assert pages == [a["id"] for a in found]
    for name in ("a", "b"):
        part.on(name, "commit", Answer(200))
    no_open_alert(api, part)


@pytest.mark.parametrize("query", [
    {"state": "ajar"}, {"kind": "odd"}, {"severity": "bad"}, {"limit": "0"}, {"limit": "201"},
    {"limit": "x"}, {"cursor": "x"}])
def test_alerts_refuse(api, query):
    reply = api.get("/v1/admin/alerts", query=query, valid=False)
    assert (reply.status, reply["code"]) == (400, "invalid_query")


def test_alerts_survive_kills(fresh, part, gids):
    """Killed at any moment: each finding has its alert, what was delivered has none open, and
    nothing is counted twice."""
    mixed, late = [gids() for _ in range(12)], [gids() for _ in range(6)]
    part.on("late", "commit", Answer(500))
    part.on("alone", "commit", Answer(409, '{"outcome":"aborted"}'))

    def submit(gid, name):
        body = dict(two(part), branches=[part.branch(name), part.branch("b")])
        while True:
            try:
                if fresh.client.put(gid, body, timeout=5).status in (200, 202):
                    return
            except OSError:
                pass

    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(submit, g, "late") for g in late]
        for i in range(6):
            jobs += [pool.submit(submit, g, "alone") for g in mixed[2 * i:2 * i + 2]]
            part.wait_calls(2 * i + 1, "alone", "commit", 20)
            fresh.kill9()
            fresh.start()
        for job in jobs:
            job.result(30)
    for g in mixed:
        assert fresh.client.ended(g, 30)["outcome"] == "mixed"
    alert = one_alert(fresh.client, part, 12, kind="heuristic")
    assert alert["count"] == 12
    assert {b["gid"] for b in alert["branches"]} == set(mixed)
    assert one_alert(fresh.client, part, 6, kind="exhausted")["count"] == 6
    part.on("late", "commit", Answer(200))
    for _ in range(3):
        fresh.kill9()
        fresh.start()
    for g in late:
        assert fresh.client.ended(g, 30)["outcome"] == "committed"
    wait_until(lambda: not alerts(fresh.client, part, state="open", kind="exhausted"), 15,
               "alerts to close")
    assert [a["open"] for a in alerts(fresh.client, part, state="open")] == [12]
    assert fresh.db.value("SELECT count(*) FROM assent.alert_member WHERE closed_at IS NULL") == 12


def participant(api, part):
    found = [p for p in api.get("/v1/admin/participants")["participants"]
             if p["participant"] == host(part)]
    assert len(found) < 2
    return found[0] if found else None


def test_participant_figures(api, part, gids):
    assert participant(api, part) is None
    for g in (gids(), gids()):
        assert api.put(g, two(part), wait=10)["outcome"] == "committed"
    seen = participant(api, part)
    assert {v: n for v, n in seen["calls"].items() if n} == {"yes": 4, "done": 4}
    assert (seen["health"], seen["errors_last_minute"], seen["waiting"]) == ("ok", 0, 0)
    assert (seen["in_flight"], seen["queued"], seen["oldest_waiting"]) == (0, 0, None)
    assert (seen["last_error"], seen["last_error_at"]) == (None, None)
    assert seen["last_success_at"]
    latency = seen["latency"]
    assert latency["calls"] == 8
    assert 0 < latency["p50_ms"] <= latency["p95_ms"] <= latency["p99_ms"]
    assert 0 < latency["mean_ms"] <= latency["p99_ms"]


def test_participant_in_trouble(api, part, gid):
    gate = Gate()
    part.on("a", "commit", Answer(503), Answer(503), Answer(200, gate=gate))
    body = two(part, branches=[part.branch("a", timeout_ms=60000), part.branch("b")])
    assert api.put(gid, body).status == 202
    part.wait_calls(3, "a", "commit")
    # The other branch may still be at it.
    wait_until(lambda: participant(api, part)["waiting"] == 1, what="b to have committed")
    seen = participant(api, part)
    assert (seen["calls"]["unknown"], seen["errors_last_minute"]) == (2, 2)
    assert (seen["in_flight"], seen["waiting"]) == (1, 1)
    oldest = seen["oldest_waiting"]
    assert (oldest["gid"], oldest["branch"]) == (gid, "a")
    # Since the first attempt, not since the one under way.
    assert oldest["since"] <= seen["last_error_at"]
    assert seen["last_error"] == "HTTP 503 (unknown)"
    assert seen["health"] in ("failing", "unsteady")
    mine = [p for p in api.get("/v1/admin/overview")["participants"]
            if p["participant"] == host(part)]
    assert mine == [{"participant": host(part), "health": seen["health"], "waiting": 1}]
    gate.open()
    assert api.ended(gid)["outcome"] == "committed"
    after = participant(api, part)
    assert (after["in_flight"], after["waiting"], after["oldest_waiting"]) == (0, 0, None)
    assert after["health"] == "unsteady"


def test_participants_are_bounded(fresh, gids):
    """Beyond 256 addresses that are waited for, further ones are counted together."""
    for i in range(5):
        branches = [{"id": "b%d" % k, "participant": "http://127.0.0.1:%d/x" % (1 + 60 * i + k)}
                    for k in range(60)]
        body = {"mode": "2pc", "branches": branches, "timeout_ms": 60000,
                "retry": dict(FAST, cap_ms=60000, factor=10)}
        assert fresh.client.put(gids(), body).status == 202

    def look():
        return {p["participant"]: p["waiting"] for p in fresh.client.get(
            "/v1/admin/participants")["participants"]}
    wait_until(lambda: sum(look().values()) == 300, 30, "each to be called")
    found = look()
    assert len(found) == 257
    assert found["other"] == 300 - 256


def test_overview(fresh, part, gids):
    gate = Gate()
    first, second = gids(), gids()
    part.on("held", "prepare", Answer(200, gate=gate))
    part.on("no", "prepare", Answer(409))
    part.on("alone", "commit", Answer(409, '{"outcome":"aborted"}'))

    def put(gid, name, **kw):
        return fresh.client.put(gid, dict(
            two(part), branches=[part.branch(name), part.branch("b")]), **kw)

    empty = fresh.client.get("/v1/admin/overview").json
    assert empty["in_flight"] == {"total": 0, "by_state": [], "being_stored": 0}
    assert empty["oldest_in_doubt"] is None
    assert [n["state"] for n in empty["nodes"]] == ["ready"]
    for outcome, name, n in (("committed", "a", 3), ("aborted", "no", 2), ("mixed", "alone", 1)):
        for _ in range(n):
            assert put(gids(), name, wait=10)["outcome"] == outcome
    created = {g: put(g, "held")["created_at"] for g in (first, second)}
    part.wait_calls(2, "held", "prepare")
    look = fresh.client.get("/v1/admin/overview").json
    assert look["in_flight"]["by_state"] == [{"mode": "2pc", "state": "preparing", "n": 2}]
    assert {k: v["n"] for k, v in look["last_minute"].items()} == {
        "submitted": 8, "committed": 3, "aborted": 2, "mixed": 1}
    assert look["oldest_in_doubt"] == {
        "gid": first, "state": "preparing", "since": created[first]}
    assert look["cluster"] == fresh.client.decision(first)["cluster"]
    wait_until(lambda: fresh.client.get("/v1/admin/overview")["alerts_open"]["heuristic"] == 1,
               what="the alert to be counted")

    fresh.kill9()
    fresh.start()
    again = fresh.client.get("/v1/admin/overview").json
    assert again["in_flight"]["by_state"] == look["in_flight"]["by_state"]
    assert again["oldest_in_doubt"] == look["oldest_in_doubt"]
    mine = again["nodes"][0]
    assert mine["epoch"] == look["nodes"][0]["epoch"] + 1
    wait_until(lambda: fresh.client.get("/v1/admin/overview")["alerts_open"]["heuristic"] == 1,
               what="the alert to be counted again")
    gate.open()
    for g in created:
        assert fresh.client.ended(g)["outcome"] == "committed"
    wait_until(lambda: fresh.client.get("/v1/admin/overview")["in_flight"]["total"] == 0,
               what="nothing to be in flight")
    assert fresh.client.get("/v1/admin/overview")["oldest_in_doubt"] is None


def test_config(guard, part):
    named = Assentd(guard, args=["--participant.shop", part.url("shop"), "--in-flight-max", "77"])
    client = named.start().client
    options = {o["key"]: (o["value"], o["source"]) for o in client.get(
        "/v1/admin/config")["options"]}
    assert options["in_flight_max"] == ("77", "command line")
    assert options["participant_concurrency"] == ("64", "default")
    assert options["participant.shop"][0] == part.url("shop")
    body = dict(two(part), branches=[{"id": "a", "participant": "shop"},
                                     part.branch("shop/b"), part.branch("c")])
    part.on("shop", "commit", Answer(500))
    assert client.put("named", body).status == 202
    alert = wait_until(lambda: alerts(client, state="open"), what="an alert")[0]
    assert alert["participant"] == "shop"
    assert {p["participant"]: p["calls"]["yes"] for p in client.get(
        "/v1/admin/participants")["participants"]} == {"shop": 2, host(part): 1}
    part.on("shop", "commit", Answer(200))
    assert client.ended("named")["outcome"] == "committed"
    text = client.get("/metrics").body.decode()
    sample = 'assent_named_participant_calls_total{participant="%s",verdict="%s"} %d\n'
    assert sample % ("shop", "yes", 2) in text
    assert sample % ("other", "yes", 1) in text
    assert str(part.port) not in text
    assert named.stop() == 0


def test_active_leaves_nobody_in_doubt(fresh, gid):
    assert fresh.client.put(gid, {"mode": "2pc", "interactive": True}).status in (200, 201, 202)
    look = fresh.client.get("/v1/admin/overview").json
    assert look["in_flight"]["by_state"] == [{"mode": "2pc", "state": "active", "n": 1}]
    assert look["oldest_in_doubt"] is None
