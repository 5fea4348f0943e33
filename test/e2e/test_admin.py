"""What an operator sees: alerts that come and go with their causes, and figures that agree with
what was done."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.participant import Answer
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
    text = api.get("/metrics").body.decode()
    line = [l for l in text.splitlines() if l.startswith('assent_alerts_open{kind="%s"}' % kind)]
    return int(line[0].split()[-1])


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
    assert not [a for a in alerts(api, part, state="open") if a["kind"] != "heuristic"]


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
