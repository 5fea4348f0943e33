"""Decided transactions that wait for a dead participant: how it is asked whether it is back, what is
known of them meanwhile, and everything may die at any time. See also test/e2e/test_parked.py."""

import os
import signal

import pytest

from harness.guard import Guard
from harness.load import agreed, alive, told
from harness.parking import (ARGS, IN_FLIGHT, RETRY, all_ended, body, in_flight, open_alerts, parked,
                             parked_all, submit_parked)
from harness.participant import Answer, Gate, Participant
from harness.system import Assentd
from harness.wait import wait_until

AN_HOUR = dict(RETRY, initial_ms=60000, cap_ms=3600000, alert_after=2)
SOON = dict(RETRY, cap_ms=4000, alert_after=100)  # but not too soon to be parked


@pytest.fixture(scope="module")
def node():
    with Guard() as guard:
        yield Assentd(guard, args=ARGS).start()


@pytest.fixture
def small(node):
    """A node that is full with few transactions, and has none."""
    yield node
    assert (parked(node), in_flight(node)) == (0, 0)


@pytest.fixture
def dying():
    participant = Participant()
    yield participant
    participant.close()


def label(participant):
    return "http://127.0.0.1:%d" % participant.port


def idle(assentd):
    wait_until(lambda: in_flight(assentd) == 0, 20, lambda: "%s to leave" % in_flight(assentd))


def test_a_probe_at_a_time(small, part, dying, gids):
    """While it is dead the parked ones do not call all at once, and they go on counting."""
    hold = Gate()
    dying.on("dead", "commit", Answer(503, headers={"Retry-After": "3"}))
    waiting = [gids() for _ in range(8)]
    submit_parked(small, waiting, lambda: body(
        part, dying, timeout_ms=60000, retry=AN_HOUR | {"initial_ms": 10, "factor": 1}))
    parked_all(small, waiting)
    idle(small)
    dying.on("dead", "commit", Answer(200, gate=hold))
    hold.wait_reached()  # not one that came a moment before
    n = len(dying.calls("dead", "commit"))
    later = "SELECT count(*) FROM assent.txn WHERE ended_at IS NULL AND parked_until > now()"
    wait_until(lambda: small.db.value(later) == 0, 20, "all to be due")
    # The probe hangs. Nobody else calls, also when it votes.
    dying.on("looks", "prepare", Answer(200, '{"vote":"read_only"}'))
    assert parked(small) == len(waiting) - 1
    assert small.client.put(gids(), body(part, dying, "looks"), wait=10)["outcome"] == "committed"
    assert parked(small) == len(waiting) - 1
    assert len(dying.calls("dead", "commit")) == n
    # Its answer brings back two, theirs four: two at a time at the least.
    both = Gate()
    dying.on("dead", "commit", Answer(200, gate=both))
    hold.open()
    dying.wait_calls(n + 2, op="commit")
    both.open()
    all_ended(small, waiting)
    attempts = [int(c.headers["Assent-Attempt"]) for c in dying.calls("dead", "commit")]
    assert max(attempts) > 1
    idle(small)
    wait_until(lambda: not open_alerts(small), 30, "the alerts to close")


def test_a_time_that_was_asked_for(small, part, dying, gids):
    """Whoever asks for time by Retry-After has it, whatever makes others go on sooner."""
    asks, fails = gids(), gids()
    dying.on("asks", "commit", Answer(503, headers={"Retry-After": "5"}), Answer(200))
    dying.on("dead", "commit", Answer(503))
    submit_parked(small, [asks], lambda: body(part, dying, "asks", retry=AN_HOUR))
    submit_parked(small, [fails], lambda: body(part, dying, retry=AN_HOUR))
    parked_all(small, [asks, fails])
    small.kill9()
    small.start()
    dying.wait_calls(2, "dead", "commit")  # the first probe; of whom nobody has asked
    dying.on("dead", "commit", Answer(200))
    assert small.client.put(gids(), body(part, dying), wait=10)["outcome"] == "committed"
    assert small.client.ended(fails, 20)["outcome"] == "committed"
    all_ended(small, [asks, fails])
    first, second = dying.calls("asks", "commit")
    assert second.at - first.at >= 4.9
    idle(small)


def test_votes_do_not_hurry_it(small, part, dying, gids):
    """One that votes and does not take what is decided is asked ever more rarely."""
    dying.on("looks", "prepare", Answer(200, '{"vote":"read_only"}'))
    dying.on("dead", "commit", Answer(503))
    gid = gids()
    # While somebody waits for it, it stays in memory.
    assert small.client.put(gid, body(part, dying, retry=AN_HOUR), wait=1).status == 202
    parked_all(small, [gid])

    def votes():
        reply = small.client.put(gids(), body(part, dying, "looks"), wait=10)
        assert reply["outcome"] == "committed"
        return len(dying.calls("dead", "commit")) >= 5
    wait_until(votes, 30, "probes")
    at = [c.at for c in dying.calls("dead", "commit")]
    assert all(b - a >= least for a, b, least in zip(at[1:], at[2:], (0.19, 0.39, 0.79)))
    dying.on("dead", "commit", Answer(200))
    assert small.client.put(gids(), body(part, dying), wait=10)["outcome"] == "committed"
    all_ended(small, [gid])
    wait_until(lambda: not open_alerts(small), 30, "the alerts to close")
    idle(small)


def test_a_participant_that_hangs(guard, part, dying, gids):
    """Its queue does not fill with decided transactions until their calls time out, one by one."""
    hold = Gate()
    assentd = Assentd(guard, args=ARGS + ["--participant-concurrency", "4"]).start()
    dying.on("dead", "commit", Answer(200, gate=hold))
    some = [gids() for _ in range(20)]
    submit_parked(assentd, some, lambda: body(part, dying, timeout_ms=100, retry=SOON))
    parked_all(assentd, some)
    more = [gids() for _ in range(20)]
    submit_parked(assentd, more, lambda: body(part, dying, timeout_ms=60000, retry=SOON))
    parked_all(assentd, some + more)
    hold.open()
    all_ended(assentd, some + more)


def test_undecided_ones_end_by_their_deadline(small, part, dying, gids):
    """It dies before its vote: aborted in time, then the rollbacks wait, parked."""
    dying.on("dead", "prepare", Answer(503))
    dying.on("dead", "rollback", Answer(503))
    waiting = [gids() for _ in range(8)]
    for gid in waiting:
        assert small.client.put(gid, dict(body(part, dying), timeout_ms=200)).status == 202
    parked_all(small, waiting)
    for gid in waiting:
        assert small.client.decision(gid)["decision"] == "abort"
    dying.on("dead", "rollback", Answer(200))
    all_ended(small, waiting, "aborted")
    agreed(dying)
    idle(small)


def test_figures_include_the_parked(small, part, dying, gids):
    dying.on("dead", "commit", Answer(503))
    waiting = [gids() for _ in range(6)]
    submit_parked(small, waiting, lambda: body(part, dying, retry=SOON))
    for kill in (False, True):
        if kill:
            small.kill9()
            small.start()
        parked_all(small, waiting)
        overview = small.client.get("/v1/admin/overview").json
        assert overview["parked"] >= len(waiting) - 1
        assert overview["oldest_in_doubt"]["gid"] == waiting[0]
        found = [p for p in small.client.get("/v1/admin/participants")["participants"]
                 if p["participant"] == label(dying)]
        assert len(found) == 1 and found[0]["parked"] >= len(waiting) - 1
        assert found[0]["waiting"] == len(waiting)
        assert found[0]["oldest_waiting"]["gid"] == waiting[0]
    dying.on("dead", "commit", Answer(200))
    assert small.client.put(gids(), body(part, dying), wait=10)["outcome"] == "committed"
    all_ended(small, waiting)
    idle(small)


def test_its_name_has_changed(guard, part, dying, gids):
    """Nobody is called by the name any more that they were parked under: they go on all the same."""
    assentd = Assentd(guard, args=ARGS)
    assentd.env = {"ASSENT_PARTICIPANT_SHOP": label(dying) + "/dead"}
    assentd.start()
    dying.on("dead", "commit", Answer(503))
    waiting = [gids() for _ in range(12)]
    submit_parked(assentd, waiting, lambda: body(part, dying, retry=SOON))
    parked_all(assentd, waiting)
    assert assentd.client.txn(waiting[0])["waiting_for"].startswith("waits for shop ")
    dying.on("dead", "commit", Answer(200))
    assentd.kill9()
    assentd.env = {}
    assentd.start()
    all_ended(assentd, waiting)


def kill(assentd, who):
    postmaster = assentd.postmaster_pid()
    if who != "postgres":
        assentd.kill9()
    if who != "assentd":
        os.kill(postmaster, signal.SIGKILL)
        assentd.db.close()
        wait_until(lambda: not alive(postmaster), what="the postmaster to go")
    if who != "postgres":
        assentd.start()
    wait_until(lambda: assentd.client.get("/readyz").status == 200, 30, "readiness")


def test_nothing_is_lost(small, part, dying, gids):
    """Killed while they are being parked, while they are, and while they are taken back."""
    dying.on("dead", "commit", Answer(503))
    waiting = [gids() for _ in range(20)]
    for gid in waiting[:10]:
        assert small.client.put(gid, body(part, dying, retry=SOON)).status == 202
    wait_until(lambda: parked(small) > 0, 20, "some to be parked")
    kill(small, "assentd")
    submit_parked(small, waiting[10:], lambda: body(part, dying, retry=SOON))
    parked_all(small, waiting)
    kill(small, "both")
    parked_all(small, waiting)
    dying.on("dead", "commit", Answer(200))
    assert small.client.put(gids(), body(part, dying), wait=10).status in (200, 202)
    kill(small, "postgres")
    all_ended(small, waiting)
    agreed(part)
    assert {key: ops for key, ops in told(dying).items() if key[0] in waiting} == {
        (gid, "dead"): {"commit"} for gid in waiting}
    wait_until(lambda: not open_alerts(small), 30, "the alerts to close")
    idle(small)


def test_a_restart_with_more_than_fits(small, part, dying, gids):
    """Unfinished ones beyond in_flight_max wait on the disk, and every one is finished."""
    small.kill9()
    small.args = []
    small.start()
    hold = Gate()
    dying.on("dead", "commit", Answer(200, gate=hold))
    waiting = [gids() for _ in range(3 * IN_FLIGHT)]
    for gid in waiting:
        assert small.client.put(gid, body(part, dying)).status == 202
    for gid in waiting:
        small.wait_state(gid, "committing")
    small.kill9()
    small.args = ARGS
    small.start()
    assert 0 < in_flight(small) <= IN_FLIGHT
    assert small.client.decision(waiting[-1])["decision"] == "commit"
    hold.open()
    all_ended(small, waiting)
    agreed(part)
    idle(small)


def test_a_restart_with_one_that_hangs(small, part, dying, gids):
    """What waits for it is not all that a restart loads: others' transactions go on beside it."""
    small.kill9()
    small.args = []
    small.start()
    hold, stopped = Gate(), Gate()
    dying.on("dead", "commit", Answer(200, gate=hold))
    part.on("b", "commit", Answer(200, gate=stopped))
    waiting, others = [gids() for _ in range(40)], [gids() for _ in range(5)]
    for gid in waiting:
        assert small.client.put(gid, body(part, dying, timeout_ms=60000)).status == 202
    for gid in others:
        assert small.client.put(gid, body(part, part, "b")).status == 202
    for gid in waiting + others:
        small.wait_state(gid, "committing")
    small.kill9()
    stopped.open()
    small.args = ["--in-flight-max", "400"]  # of which a restart loads 20 that are decided
    small.start()
    for gid in others:
        assert small.client.ended(gid, 30)["outcome"] == "committed"
    assert {small.client.txn(gid)["state"] for gid in waiting} == {"committing"}
    hold.open()
    all_ended(small, waiting)
    idle(small)
