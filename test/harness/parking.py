"""What the tests of parked transactions share: a small node, and a participant that dies and comes
back."""

from .wait import wait_until

IN_FLIGHT = 40
ARGS = ["--in-flight-max", str(IN_FLIGHT)]
RETRY = {"initial_ms": 10, "cap_ms": 60000, "factor": 10, "alert_after": 3}


def parked(assentd):
    return assentd.client.metric("assent_transactions_parked")


def in_flight(assentd):
    return assentd.client.metric("assent_transactions_in_flight")


def body(part, dying, name="dead", retry=None, **members):
    """One branch at a healthy participant, one at the dying one."""
    return {"mode": "2pc", "retry": retry or RETRY, "timeout_ms": 60000,
            "branches": [part.branch("a"), dying.branch(name, **members)]}


def submit_parked(assentd, gids, make):
    """One after the other, in_flight_max allowing: none is refused."""
    for gid in gids:
        reply = assentd.client.put(gid, make())
        assert reply.status == 202, reply
        wait_until(lambda: in_flight(assentd) <= IN_FLIGHT // 8, 20,
                   lambda: "%s to leave memory, %s are there" % (gid, in_flight(assentd)))


def parked_all(assentd, gids):
    """All but a probe that may be under way."""
    wait_until(lambda: parked(assentd) + in_flight(assentd) == len(gids) and
               parked(assentd) >= len(gids) - 1, 30,
               lambda: "%d parked, %s are" % (len(gids), parked(assentd)))


def all_ended(assentd, gids, outcome="committed", deadline_s=30):
    unfinished = "SELECT count(*) FROM assent.txn WHERE ended_at IS NULL"
    wait_until(lambda: assentd.db.value(unfinished) == 0, deadline_s,
               lambda: "all to end, %s have not" % assentd.db.value(unfinished))
    assert {assentd.client.txn(gid)["outcome"] for gid in gids} == {outcome}


def open_alerts(assentd):
    return assentd.client.get("/v1/admin/alerts", query={"state": "open"})["alerts"]
