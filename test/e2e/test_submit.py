"""What a client gets, and what participants are told, when everybody behaves."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.contract import CONTRACT
from harness.participant import Answer, Gate
from harness.postgres import connect
from harness.wait import wait_until


def two(part, **members):
    return dict({"mode": "2pc", "branches": [part.branch("stock"), part.branch("account")]},
                **members)


def states(txn):
    return {b["id"]: b["state"] for b in txn["branches"]}


def wait_verdict(api, gid, branch, verdict):
    """Votes are not recorded one by one: the history tells that one has arrived."""
    def look():
        return any((a["branch"], a["verdict"]) == (branch, verdict)
                   for a in api.history(gid)["attempts"])
    wait_until(look, what="%s of %s" % (verdict, branch))


def ops(part, gid=None):
    return sorted((c.name, c.op) for c in part.calls(gid=gid))


def test_commit(api, part, gid):
    reply = api.put(gid, two(part, labels={"order": "42"}), wait=10)
    assert reply.status == 200
    assert reply.headers["Location"] == "/v1/transactions/" + gid
    assert (reply["gid"], reply["state"], reply["outcome"]) == (gid, "committed", "committed")
    assert reply["labels"] == {"order": "42"}
    assert states(reply.json) == {"stock": "committed", "account": "committed"}
    assert all(b["op"] is None and b["last_error"] is None and b["next_retry_at"] is None
               for b in reply["branches"])
    assert reply["created_at"] <= reply["decided_at"] <= reply["ended_at"] < reply["deadline_at"]
    assert ops(part) == [("account", "commit"), ("account", "prepare"),
                         ("stock", "commit"), ("stock", "prepare")]
    # The record of the end is lazy: a GET may show it a moment later, with the same content.
    assert api.ended(gid) == reply.json


def test_prepares_end_before_any_commit(api, part, gid):
    gate = Gate()
    part.on("account", "prepare", Answer(gate=gate))
    api.put(gid, two(part))
    part.wait_calls(2)
    wait_verdict(api, gid, "stock", "yes")
    txn = api.txn(gid)
    assert (txn["state"], txn["outcome"], txn["decided_at"]) == ("preparing", "pending", None)
    assert states(txn)["account"] == "pending"
    assert not part.calls(op="commit")
    gate.open()
    assert api.ended(gid)["outcome"] == "committed"
    assert len(part.calls(op="commit")) == 2


def test_post_makes_a_gid(api, part):
    one, other = (api.submit(two(part), wait=10) for _ in range(2))
    assert one.status == other.status == 200
    assert one["gid"] != other["gid"]
    assert one.headers["Location"] == "/v1/transactions/" + one["gid"]
    assert len(part.calls(gid=one["gid"])) == len(part.calls(gid=other["gid"])) == 4


def test_post_with_a_gid(api, part, gid):
    body = two(part, gid=gid)
    one, other = (api.submit(body, wait=10) for _ in range(2))
    assert one["gid"] == gid and one.json == other.json
    assert len(part.calls()) == 4


def test_refused(api, part, gid):
    part.on("account", "prepare", Answer(409, '{"reason": "balance"}'))
    reply = api.put(gid, two(part), wait=10)
    assert (reply.status, reply["state"], reply["outcome"]) == (200, "aborted", "aborted")
    # The refuser too: its answer may come from a proxy after the work ran.
    assert sorted(c.name for c in part.calls(op="rollback")) == ["account", "stock"]
    assert not part.calls(op="commit")
    assert states(reply.json) == {"stock": "aborted", "account": "aborted"}


def test_read_only_branch_hears_no_more(api, part, gid):
    part.on("account", "prepare", Answer(200, '{"vote": "read_only"}'))
    reply = api.put(gid, two(part), wait=10)
    assert reply["outcome"] == "committed"
    assert states(reply.json) == {"stock": "committed", "account": "read_only"}
    assert ops(part) == [("account", "prepare"), ("stock", "commit"), ("stock", "prepare")]


def test_all_read_only_commits_at_once(api, part, gid):
    for name in ("stock", "account"):
        part.on(name, "prepare", Answer(200, '{"vote":"read_only"}'))
    reply = api.put(gid, two(part), wait=10)
    assert reply["outcome"] == "committed"
    assert {c.op for c in part.calls()} == {"prepare"}


def test_read_only_hears_no_rollback(api, part, gid):
    part.on("stock", "prepare", Answer(200, '{"vote":"read_only"}'))
    gate = Gate()
    part.on("account", "prepare", Answer(409, gate=gate))
    api.put(gid, two(part))
    wait_verdict(api, gid, "stock", "read_only")
    gate.open()
    assert api.ended(gid)["outcome"] == "aborted"
    assert ops(part) == [("account", "prepare"), ("account", "rollback"), ("stock", "prepare")]


def test_the_words_of_a_body_are_not_judged(api, part, gid):
    part.on("stock", "prepare", Answer(200, 'vote: "read_only" error no refused'))
    part.on("account", "prepare", Answer(200, '{"deep": {"vote": "read_only"}}'))
    reply = api.put(gid, two(part), wait=10)
    assert states(reply.json) == {"stock": "committed", "account": "committed"}


def test_one_phase(api, part, gid):
    body = {"mode": "2pc", "branches": [part.branch("stock")]}
    reply = api.put(gid, body, wait=10)
    assert (reply["state"], states(reply.json)) == ("committed", {"stock": "committed"})
    [call] = part.calls()
    assert call.op == "commit" and call.headers["Assent-One-Phase"] == "true"


def test_one_phase_refused(api, part, gid):
    part.on("stock", "commit", Answer(409))
    reply = api.put(gid, {"mode": "2pc", "branches": [part.branch("stock")]}, wait=10)
    assert (reply["state"], reply["outcome"]) == ("aborted", "aborted")
    # A 4xx may come from a proxy after the work ran: the rollback settles it.
    assert [c.op for c in part.calls()] == ["commit", "rollback"]


def test_sixty_four_branches(api, part, gid):
    branches = [part.branch("b%d" % i) for i in range(64)]
    reply = api.put(gid, {"mode": "2pc", "branches": branches}, wait=20)
    assert reply["outcome"] == "committed"
    assert [b["id"] for b in reply["branches"]] == [b["id"] for b in branches]
    assert len(part.calls(op="prepare")) == len(part.calls(op="commit")) == 64


def test_history(api, part, gid):
    part.on("stock", "prepare", Answer(503), Answer(200))
    api.put(gid, two(part, retry={"initial_ms": 10}), wait=10)
    history = wait_until(
        lambda: (lambda h: h if len(h["attempts"]) == 5 else None)(api.history(gid)),
        what="five attempts in the history")
    assert history["gid"] == gid and history["truncated"] is False
    seen = {(a["branch"], a["op"], a["attempt"]): a for a in history["attempts"]}
    assert {k: (a["status"], a["verdict"]) for k, a in seen.items()} == {
        ("stock", "prepare", 1): (503, "unknown"), ("stock", "prepare", 2): (200, "yes"),
        ("account", "prepare", 1): (200, "yes"), ("stock", "commit", 1): (200, "done"),
        ("account", "commit", 1): (200, "done")}
    assert all(a["started_at"] <= a["ended_at"] for a in history["attempts"])
    starts = [a["started_at"] for a in history["attempts"]]
    assert starts == sorted(starts)
    some = api.history(gid, limit=2)
    assert some["truncated"] is True and some["attempts"] == history["attempts"][:2]
    assert api.history(gid, limit=5)["truncated"] is False


def test_history_of_an_unknown_transaction(api):
    reply = api.get("/v1/transactions/never-heard-of/history")
    assert (reply.status, reply["code"]) == (404, "unknown_transaction")


def test_decision(api, part, gids):
    committed, aborted, pending = gids(), gids(), gids()
    gate = Gate()
    part.on("no", "prepare", Answer(409))
    part.on("slow", "prepare", Answer(gate=gate))
    api.put(committed, two(part), wait=10)
    api.put(aborted, {"mode": "2pc", "branches": [part.branch("stock"), part.branch("no")]},
            wait=10)
    api.put(pending, {"mode": "2pc", "branches": [part.branch("stock"), part.branch("slow")]})
    unknown = gids()
    answers = {g: api.decision(g) for g in (committed, aborted, pending, unknown)}
    assert {g: (a["decision"], a["presumed"]) for g, a in answers.items()} == {
        committed: ("commit", False), aborted: ("abort", False),
        pending: ("pending", False), unknown: ("abort", True)}
    assert all(a["gid"] == g for g, a in answers.items())
    clusters = {a["cluster"] for a in answers.values()}
    clusters |= {c.headers["Assent-Cluster"] for c in part.calls()}
    assert len(clusters) == 1
    gate.open()
    assert api.ended(pending)["outcome"] == "committed"


def test_asking_for_a_decision_changes_nothing(api, part, gid):
    """Presumed abort must not stand in the way of a submission that comes later."""
    assert api.decision(gid)["decision"] == "abort"
    reply = api.get("/v1/transactions/" + gid)
    assert (reply.status, reply["code"]) == (404, "unknown_transaction")
    assert api.put(gid, two(part), wait=10)["outcome"] == "committed"


def test_wait_ends_with_what_is_so_far(api, part, gid):
    gate = Gate()
    part.on("account", "prepare", Answer(gate=gate))
    body = two(part)
    for seconds in (0, 1):
        reply = api.put(gid, body, wait=seconds)
        assert (reply.status, reply["outcome"]) == (202, "pending")
        assert reply["state"] in ("active", "preparing")
    assert api.submit(body, method="PUT", gid=gid,
                      headers={"Prefer": "return=minimal"}).status == 202
    gate.open()
    api.ended(gid)
    assert api.put(gid, body).status == 200


def test_waiter_is_answered_at_the_end(api, part, gid):
    gate = Gate()
    part.on("account", "prepare", Answer(gate=gate))
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(api.put, gid, two(part), 30) for _ in range(2)]
        part.wait_calls(2)
        assert not any(w.done() for w in waiting)
        gate.open()
        assert [w.result(10).status for w in waiting] == [200, 200]


@pytest.mark.parametrize("prefer", ["wait=-1", "wait=61", "wait=x", "wait=1.5", "wait="])
def test_odd_preferences_do_no_harm(api, part, gid, prefer):
    """RFC 7240: what is not understood is ignored."""
    reply = api.submit(two(part), method="PUT", gid=gid, headers={"Prefer": prefer})
    assert reply.status in (200, 202)
    assert api.ended(gid)["outcome"] == "committed"


def test_repeated_put_is_the_same_transaction(api, part, gid):
    body = json.dumps(two(part))
    first = api.put(gid, body, wait=10)
    api.ended(gid)
    for _ in range(3):
        again = api.put(gid, body)
        assert (again.status, again.json) == (200, first.json)
    assert len(part.calls()) == 4


def test_repetition_waits_while_the_first_is_being_stored(api, shared, part, gid):
    """Nobody may be told of a transaction that is not yet on the disk."""
    body = json.dumps(two(part))
    lock = connect(shared.dir + "/s")
    lock.autocommit = False
    with ThreadPoolExecutor(6) as pool:
        try:
            lock.cursor().execute("LOCK TABLE assent.txn IN EXCLUSIVE MODE")
            puts = [pool.submit(api.put, gid, body, n % 2 * 10 or None) for n in range(6)]
            wait_until(lambda: shared.db.value(
                "SELECT count(*) FROM pg_locks WHERE relation = 'assent.txn'::regclass"
                " AND NOT granted") > 0, what="the insert to wait for the lock")
            wait_until(lambda: api.metric("assent_http_requests_open") == 7,
                       what="all of them to be asked, and this one")
            assert not any(p.done() for p in puts)
            assert not part.calls()
        finally:
            lock.rollback()
            lock.close()
        replies = [p.result(20) for p in puts]
    assert {r.status for r in replies[::2]} <= {200, 202}
    assert {r.status for r in replies[1::2]} == {200}
    assert len({r.body for r in replies[1::2]}) == 1
    api.ended(gid)
    assert len(part.calls()) == 4


def test_concurrent_identical_puts(api, part, gid):
    body = json.dumps(two(part))
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: api.put(gid, body, 10), range(24)))
    assert {r.status for r in replies} == {200}
    assert {r["created_at"] for r in replies} == {replies[0]["created_at"]}
    assert len(part.calls()) == 4


def test_concurrent_different_puts(api, part, gid):
    """One of them is the transaction; the others are told so."""
    bodies = [json.dumps(two(part, labels={"n": str(n)})) for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda b: api.put(gid, b, 10), bodies))
    codes = sorted("won" if r.status == 200 else r["code"] for r in replies)
    assert codes == ["gid_conflict"] * 7 + ["won"]
    assert len(part.calls()) == 4


def test_gid_conflict(api, part, gid):
    body = two(part)
    first = api.put(gid, body, wait=10)
    for other in (two(part, timeout_ms=9999), dict(body, labels={"a": "b"})):
        reply = api.put(gid, other)
        assert (reply.status, reply["code"]) == (422, "gid_conflict")
        assert reply["retryable"] is False
    assert api.ended(gid) == first.json
    assert len(part.calls()) == 4


def test_gid_conflict_with_what_only_the_database_knows(shared, api, part, gids):
    ended, later = gids(), gids()
    first = api.put(ended, two(part), wait=10)
    shared.wait_state(ended, "committed")
    # A later flush: the daemon has heard of the one before, and forgotten the transaction.
    assert api.put(later, two(part), wait=10)["outcome"] == "committed"
    reply = api.put(ended, two(part, timeout_ms=9999))
    assert (reply.status, reply["code"], reply["retryable"]) == (422, "gid_conflict", False)
    again = api.put(ended, two(part))
    assert (again.status, again["outcome"]) == (200, "committed") and again["gid"] == first["gid"]
    assert len(part.calls(gid=ended)) == 4


PAYLOADS = [
    '19.99', '123456789012345678901234567890', '-0', '1e400', '1E-7', '0.10', 'null', 'true',
    '"\\u0000"', '"a\\u0000b"', '"\\ud83d\\ude00"', '"\U0001f600 \u00e4\u20ac \u2028"', '"\\/"',
    '{}', '[]', '""', '{ "a" :\t1 ,\n "b": [ 1 , 2 ] }', '{"a": 1, "a": 2}',
    '{"price":19.990,"id":12345678901234567890,"text":"\\u0000","nested":[[[{"x":null}]]]}',
    '[' * 60 + ']' * 60, '"' + 'x' * 100000 + '"',
]


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda p: re.sub(r"[^ -~]", "?", p[:24]))
def test_payload_survives_byte_for_byte(api, part, gid, payload):
    body = ('{"mode":"2pc","branches":[{"id":"a","participant":"%s","payload":  %s  },'
            '{"participant":"%s","payload":%s,"id":"b"}]}' % (
                part.url("a"), payload, part.url("b"), payload))
    reply = api.put(gid, body, wait=10)
    assert reply["outcome"] == "committed", reply
    calls = part.calls()
    assert len(calls) == 4
    for call in calls:
        assert call.body == payload.encode("utf-8")
        assert call.headers["Content-Type"] == "application/json"


def test_each_branch_gets_its_own_payload(api, part, gid):
    """Members in any order, absent payloads in between, and one that looks like another branch."""
    body = json.dumps({"branches": [
        part.branch("a"), part.branch("b", payload=[{"id": "c", "payload": 5}]),
        part.branch("c"), dict({"payload": "last"}, **part.branch("d"))], "mode": "2pc"})
    assert api.put(gid, body, wait=10)["outcome"] == "committed"
    bodies = {c.name: c.body for c in part.calls(op="commit")}
    assert bodies == {"a": b"", "b": b'[{"id": "c", "payload": 5}]', "c": b"", "d": b'"last"'}


def test_headers_of_a_call(api, part, gid):
    body = {"mode": "2pc", "branches": [
        part.branch("stock", timeout_ms=2500, payload=1,
                    headers={"X-Tenant": "a", "X-Empty": "", "Authorization": "Bearer a+/=~"}),
        part.branch("account")]}
    api.put(gid, body, wait=10)
    for call in part.calls():
        h = call.headers
        assert call.method == "POST" and call.path == "/%s/%s" % (call.name, call.op)
        assert h["Assent-Gid"] == gid and h["Assent-Branch"] == call.name
        assert h["Assent-Op"] == call.op and h["Assent-Mode"] == "2pc"
        assert h["Assent-Attempt"] == "1" and h["Assent-Namespace"] == "default"
        assert re.fullmatch("[A-Za-z0-9]{8}", h["Assent-Cluster"])
        # A vote may take until the vote deadline, longer than one call waits for it.
        assert 0 < int(h["Assent-Timeout-Ms"]) <= (
            10000 if call.op == "prepare" else 2500 if call.name == "stock" else 3000)
        assert h["Idempotency-Key"] == '"%s/%s/%s/%s"' % (
            h["Assent-Cluster"], gid, call.name, call.op)
        CONTRACT.check_value(CONTRACT.schema("Time"), h["Assent-Deadline"], "Assent-Deadline")
        assert "Assent-One-Phase" not in h and "Expect" not in h
        if call.name == "stock":
            assert h["X-Tenant"] == "a" and h["X-Empty"] == ""
            assert h["Authorization"] == "Bearer a+/=~"
        else:
            assert "X-Tenant" not in h


def test_trace_is_passed_on(api, part, gid):
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    api.submit(two(part), 10, "PUT", gid, headers={"traceparent": trace})
    for call in part.calls():
        assert call.headers.get("traceparent", "").split("-")[1:2] == [trace.split("-")[1]]


def test_attempts_are_numbered(api, part, gid):
    part.on("stock", "commit", Answer(500), Answer(500), Answer(200))
    api.put(gid, two(part, retry={"initial_ms": 10}), wait=10)
    calls = part.calls("stock", "commit")
    assert [c.headers["Assent-Attempt"] for c in calls] == ["1", "2", "3"]
    assert len({c.headers["Idempotency-Key"] for c in calls}) == 1


def test_addresses_of_single_operations(api, part, gid):
    branch = part.branch("stock", ops={"prepare": part.url("elsewhere", "check@a=1&b=%20"),
                                       "commit": part.url("elsewhere", "pay")})
    api.put(gid, {"mode": "2pc", "branches": [branch, part.branch("account")]}, wait=10)
    assert sorted(c.path for c in part.calls()) == [
        "/account/commit", "/account/prepare", "/elsewhere/check@a=1&b=%20", "/elsewhere/pay"]


def test_address_of_rollback(api, part, gid):
    part.on("account", "prepare", Answer(409))
    branch = part.branch("stock", ops={"rollback": part.url("elsewhere", "undo")})
    api.put(gid, {"mode": "2pc", "branches": [branch, part.branch("account")]}, wait=10)
    assert [c.path for c in part.calls(op="undo")] == ["/elsewhere/undo"]
    assert not part.calls("stock", "rollback")


def test_address_with_a_slash_at_the_end(api, part, gid):
    branch = dict(part.branch("stock"), participant=part.url("stock") + "/")
    api.put(gid, {"mode": "2pc", "branches": [branch, part.branch("account")]}, wait=10)
    assert {c.path for c in part.calls("stock")} == {"/stock/prepare", "/stock/commit"}


@pytest.mark.parametrize("name", ["a" * 128, "A.b_c:d~e-9", "...", "~"])
def test_unusual_gids(api, part, name):
    api.put(name, two(part), wait=10)
    assert api.txn(name)["gid"] == name
    assert api.decision(name)["decision"] == "commit"
    assert {c.headers["Assent-Gid"] for c in part.calls()} == {name}


def test_request_id(api, part, gid):
    reply = api.submit(two(part), 0, "PUT", gid, headers={"X-Request-Id": "my-id.7"})
    assert reply.headers["X-Request-Id"] == "my-id.7"
    made = {api.get("/livez").headers["X-Request-Id"] for _ in range(3)}
    assert len(made) == 3
    for insane in ("a b", "x" * 300, "<script>"):
        reply = api.request("GET", "/livez", headers={"X-Request-Id": insane}, valid=False)
        assert reply.headers["X-Request-Id"] != insane


def test_health(api):
    assert api.get("/livez").json == {"status": "ok"}
    assert api.get("/readyz").json == {
        "status": "ready", "checks": {"database": "ok", "shards": "ok"}}


def test_metrics(api, part, gid):
    def samples():
        found = {}
        for line in api.get("/metrics").body.decode().splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                found[name] = float(value)
        return found
    before = samples()
    api.put(gid, two(part), wait=10)
    after = samples()
    assert set(before) <= set(after)
    assert any(after[k] > before.get(k, 0) for k in after if "_total" in k)
    text = api.get("/metrics").body.decode()
    assert gid not in text and "127.0.0.1" not in text
    for name in after:
        assert re.match(r'assent_[a-z0-9_]+(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})?$', name), name
