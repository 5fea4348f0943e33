"""Decided transactions that wait for a dead participant are parked on disk: they fill no node, they
can be asked about, and they go on when it is back. More in test/trouble/test_parking.py."""

import pytest

from harness.load import agreed, told
from harness.parking import (ARGS, IN_FLIGHT, RETRY, all_ended, body, in_flight, open_alerts, parked,
                             parked_all, submit_parked)
from harness.participant import Answer, Participant
from harness.system import Assentd
from harness.wait import wait_until


@pytest.fixture
def small(guard):
    """A node that is full with few transactions."""
    return Assentd(guard, args=ARGS).start()


@pytest.fixture
def dying():
    participant = Participant()
    yield participant
    participant.close()


def test_a_dead_participant_fills_no_node(small, part, dying, gids):
    """More than may be in memory waits for it; nobody is refused, not even those who name it."""
    dying.on("dead", "commit", Answer(503))
    waiting = [gids() for _ in range(IN_FLIGHT + 5)]
    submit_parked(small, waiting, lambda: body(part, dying))
    parked_all(small, waiting)
    for _ in range(5):
        reply = small.client.put(gids(), body(part, part, "b"), wait=10)
        assert (reply.status, reply["outcome"]) == (200, "committed")
    assert small.client.decision(waiting[0])["decision"] == "commit"
    assert len(open_alerts(small)) == 1 and open_alerts(small)[0]["kind"] == "exhausted"
    dying.on("dead", "commit", Answer(200))
    all_ended(small, waiting)
    wait_until(lambda: (parked(small), in_flight(small)) == (0, 0), 30, "the counts to be 0")
    agreed(part)
    assert len(part.calls("a", "commit")) == len(waiting) + 5  # its answer was not forgotten
    assert told(dying) == {(gid, "dead"): {"commit"} for gid in waiting}
    wait_until(lambda: not open_alerts(small), 30, "the alert to close")


def test_requests_about_a_parked_one(small, part, dying, gid):
    dying.on("dead", "commit", Answer(503))
    begun = {"mode": "2pc", "interactive": True, "timeout_ms": 60000,
             "retry": dict(RETRY, initial_ms=60000)}
    path = "/v1/transactions/" + gid
    join = [part.branch("a"), dying.branch("dead")]
    assert small.client.put(gid, begun).status in (200, 202)
    for branch in join:
        assert small.client.request("POST", path + "/branches", branch).status == 200
    assert small.client.request("POST", path + "/commit").status == 202
    wait_until(lambda: parked(small) == 1, 20, "it to be parked")
    txn = small.client.txn(gid)
    assert (txn["state"], txn["outcome"]) == ("committing", "committed")
    assert "127.0.0.1:%d" % dying.port in txn["waiting_for"]
    branch = txn["branches"][1]
    assert branch["next_retry_at"] and branch["attempts"] and "503" in branch["last_error"]
    listed = small.client.get("/v1/transactions", query={"state": "committing"})["transactions"]
    assert [(t["gid"], t["waiting_for"]) for t in listed] == [(gid, txn["waiting_for"])]
    again = small.client.put(gid, begun)
    assert (again.status, again["state"]) == (202, "committing")
    conflict = small.client.put(gid, dict(begun, timeout_ms=50000))
    assert (conflict.status, conflict["code"]) == (422, "gid_conflict")
    assert small.client.request("POST", path + "/commit").status == 202
    assert small.client.request("POST", path + "/branches", join[1]).status == 200
    for late, sent in (("/rollback", None), ("/branches", part.branch("late"))):
        reply = small.client.request("POST", path + late, sent)
        assert (reply.status, reply["code"]) == (409, "wrong_state"), reply
    assert small.client.decision(gid)["decision"] == "commit"
    assert parked(small) == 1
    # Its answer to somebody else's vote says that it is there again, long before the retry is due.
    dying.on("dead", "commit", Answer(200))
    assert small.client.put(gid + "-b", body(part, dying), wait=10)["outcome"] == "committed"
    all_ended(small, [gid])


def test_an_undecided_intent_is_parked_as_well(small, part, dying, gid):
    """No deadline ends it: it must fill no node either, and pending is pending."""
    dying.on("dead", "pre_commit", Answer(409))
    dying.on("dead", "abort", Answer(503))
    part.on("a", "abort", Answer(409, '{"outcome":"pre_committed"}'), Answer(200))
    branches = [part.branch("a"), dying.branch("dead")]
    small.client.put(gid, {"mode": "3pc", "retry": dict(RETRY, initial_ms=60000),
                           "branches": branches})
    wait_until(lambda: parked(small) == 1, 20, "it to be parked")
    txn = small.client.txn(gid)
    assert (txn["state"], txn["outcome"]) == ("pre_aborting", "pending")
    assert [b["state"] for b in txn["branches"]] == ["vouched", "refused"]
    assert small.client.decision(gid)["decision"] == "pending"
    dying.on("dead", "abort", Answer(200))
    assert small.client.put(gid + "-b", body(part, dying), wait=10)["outcome"] == "committed"
    assert small.client.ended(gid)["outcome"] == "aborted"
    intents = [c for c in part.calls("a", "abort", gid) if c.headers["Assent-Intent"]]
    assert len(intents) == 1  # it has vouched, and is not asked again
