"""The same request again: by gid, by Idempotency-Key, while the first is being stored, changed."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.client import Client
from harness.participant import Answer
from harness.postgres import connect
from harness.wait import wait_until


def two(part, **members):
    return dict({"mode": "2pc", "branches": [
        part.branch("a", payload={"n": 1}), part.branch("b")]}, **members)


def post(api, body, key, wait=10):
    return api.submit(body, wait, headers={"Idempotency-Key": key})


def test_repetition_by_key(api, part, gid):
    body = json.dumps(two(part))
    first = post(api, body, gid)
    assert (first.status, first["outcome"]) == (200, "committed")
    api.ended(first["gid"])
    for key in (gid, '"%s"' % gid, "%s \t" % gid, '"%s" ' % gid):
        again = post(api, body, key)
        assert (again.status, again.json) == (200, first.json)
        assert again.headers["Location"] == "/v1/transactions/" + first["gid"]
    assert len(part.calls()) == 4
    assert first["gid"].startswith("key-") and len(first["gid"]) == 44


def test_keys_are_told_apart(api, part, gid):
    body = json.dumps(two(part))
    keys = [gid, gid + " ", gid.upper(), gid + ".", "'%s'" % gid, "a b " + gid,
            '"%s\\""' % gid, '"%s\\\\"' % gid]
    gids = [post(api, body, key)["gid"] for key in keys]
    assert gids[0] == gids[1] and len(set(gids)) == len(keys) - 1
    # An escaped character is the character.
    assert post(api, body, gid + '"')["gid"] == gids[6]
    assert post(api, body, gid + "\\")["gid"] == gids[7]


@pytest.mark.parametrize("key", ["k", "x" * 128, '"%s"' % ("y" * 128), '"%s"' % ('\\"' * 128),
                                 '" ! # ~ "', "!#$%&'()*+,/:;<=>?@[]^_`{|}~"])
def test_keys_that_are_taken(api, part, key):
    body = json.dumps(two(part))
    assert post(api, body, key)["gid"] == post(api, body, key)["gid"]


@pytest.mark.parametrize("key", [
    "", '""', '"', '"open', 'x' * 129, '"%s"' % ("y" * 129), '"a"b"', '"a\\x"', '"a\\"',
    '"a";p=1', b"\xc3\xa4", "a\tb", b"\x7f"])
def test_keys_that_are_not(api, shared, part, key):
    before = shared.db.value("SELECT count(*) FROM assent.txn")
    reply = api.submit(two(part), headers={"Idempotency-Key": key}, valid=False)
    assert (reply.status, reply["code"]) == (400, "invalid_idempotency_key"), key
    assert shared.db.value("SELECT count(*) FROM assent.txn") == before
    assert not part.calls()


def test_gid_outweighs_the_key(api, part, gids):
    one, other = gids(), gids()
    assert post(api, two(part, gid=one), "same")["gid"] == one
    assert post(api, two(part, gid=other), "same")["gid"] == other
    put = api.put(one, two(part, gid=one), headers={"Idempotency-Key": '"'})
    assert put.status == 200


def test_repetition_by_key_while_the_first_is_being_stored(api, shared, part, gid):
    body = json.dumps(two(part))
    lock = connect(shared.dir + "/s")
    lock.autocommit = False
    with ThreadPoolExecutor(7) as pool:
        try:
            lock.cursor().execute("LOCK TABLE assent.txn IN EXCLUSIVE MODE")
            same = [pool.submit(post, api, body, key) for key in (gid, '"%s"' % gid) * 3]
            wait_until(lambda: shared.db.value(
                "SELECT count(*) FROM pg_locks WHERE relation = 'assent.txn'::regclass"
                " AND NOT granted") > 0, what="the insert to wait for the lock")
            assert api.get("/livez").status == 200
            assert not any(p.done() for p in same) and not part.calls()
        finally:
            lock.rollback()
            lock.close()
        replies = [p.result(20) for p in same]
    assert {r.status for r in replies} == {200} and len({r.body for r in replies}) == 1
    assert len(part.calls()) == 4


def test_key_survives_a_crash(fresh, part, gid):
    body = json.dumps(two(part))
    first = post(fresh.client, body, gid)
    fresh.client.ended(first["gid"])
    fresh.kill9()
    fresh.start()
    assert post(fresh.client, body, '"%s"' % gid).json == first.json
    reply = post(fresh.client, two(part, timeout_ms=77), gid)
    assert (reply.status, reply["code"]) == (422, "gid_conflict")
    assert [e["pointer"] for e in reply["errors"]] == ["/timeout_ms"]


def changed(part, change):
    body = two(part, labels={"x": "1"}, timeout_ms=5000)
    change(body)
    return body


CHANGES = {
    "payload": (lambda b: b["branches"][0].update(payload={"n": 2}), ["/branches/0/payload"]),
    "payload added": (lambda b: b["branches"][1].update(payload=None), ["/branches/1/payload"]),
    "payload gone": (lambda b: b["branches"][0].pop("payload"), ["/branches/0/payload"]),
    "value": (lambda b: b.update(timeout_ms=5001), ["/timeout_ms"]),
    "member added": (lambda b: b.update(retry={"factor": 3}), ["/retry"]),
    "member gone": (lambda b: b.pop("labels"), ["/labels"]),
    "label": (lambda b: b["labels"].update(x="2", y="3"), ["/labels/x", "/labels/y"]),
    "branch added": (lambda b: b["branches"].append(dict(b["branches"][0], id="c")),
                     ["/branches/2"]),
    "branch gone": (lambda b: b["branches"].pop(), ["/branches/1"]),
    "branches swapped": (lambda b: b["branches"].reverse(), [
        "/branches/0/id", "/branches/0/participant", "/branches/0/payload", "/branches/1/id",
        "/branches/1/participant", "/branches/1/payload"]),
    "many": (lambda b: b.update(labels={"k%d" % n: "v" for n in range(16)}),
             ["/labels/x"] + ["/labels/k%d" % n for n in range(16)]),
}


def test_a_repetition_does_not_hide_the_decision(fresh, part, gid):
    """Until the database knows the gid, a repetition looks like a new transaction, undecided."""
    fresh.client.put(gid, two(part), wait=10)
    wait_until(lambda: fresh.client.metric("assent_transactions_in_flight") == 0,
               what="the transaction to be forgotten")
    lock = connect(fresh.dir + "/s")
    lock.autocommit = False
    with ThreadPoolExecutor(9) as pool:
        try:
            lock.cursor().execute("LOCK TABLE assent.txn IN EXCLUSIVE MODE")
            again = pool.submit(Client(fresh.url).put, gid, two(part))
            wait_until(lambda: fresh.client.metric("assent_transactions_in_flight") == 1,
                       what="the repetition")
            asked = [pool.submit(Client(fresh.url).decision, gid) for _ in range(8)]
            for _ in range(20):
                assert fresh.client.get("/livez").status == 200
        finally:
            lock.rollback()
            lock.close()
        assert {a.result(30)["decision"] for a in asked} == {"commit"}
        assert again.result(30)["outcome"] == "committed"


@pytest.mark.parametrize("finished", [False, True], ids=["in memory", "finished"])
@pytest.mark.parametrize("name", CHANGES)
def test_what_differs(api, part, gid, name, finished):
    change, pointers = CHANGES[name]
    if not finished:
        part.on("a", "prepare", Answer(202))
    api.put(gid, changed(part, lambda b: None), wait=10 if finished else None)
    reply = api.put(gid, changed(part, change))
    assert (reply.status, reply["code"], reply["retryable"]) == (422, "gid_conflict", False)
    found = [e["pointer"] for e in reply["errors"]]
    assert len(found) == min(len(pointers), 8) and set(found) <= set(pointers), reply
    assert found[0] in reply["detail"] and gid in reply["detail"]


def test_written_differently(api, part, gid):
    body = two(part)
    first = api.put(gid, json.dumps(body), wait=10)
    api.ended(gid)
    for text in (json.dumps(body) + " ", json.dumps(body, indent=1)[:-1] + "\n}",
                 json.dumps(dict(reversed(body.items())))):
        text = text.replace('{\n     "n": 1\n    }', '{"n": 1}')
        reply = api.put(gid, text)
        assert (reply.status, reply["code"]) == (422, "gid_conflict")
        if "errors" in reply.json:
            assert [e["pointer"] for e in reply["errors"]] == ["/branches/0/payload"]
        else:
            assert "the same values, written differently" in reply["detail"]
            assert "byte for byte" in reply["detail"]
    again = api.put(gid, json.dumps(body))
    assert (again.status, again.json) == (200, first.json)
    assert len(part.calls()) == 4


def test_large_bodies_are_compared_quickly(api, part, gid):
    """One walk, whatever the bodies hold."""
    def body(filling):
        return two(part, branches=[part.branch("b%d" % n, payload=filling * 1000)
                                   for n in range(60)])
    assert api.put(gid, body("x" * 15), wait=20).status in (200, 202)
    reply = api.put(gid, body("y" * 15))
    assert reply["code"] == "gid_conflict"
    assert [e["pointer"] for e in reply["errors"]] == [
        "/branches/%d/payload" % n for n in range(8)]
