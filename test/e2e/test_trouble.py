"""What goes wrong around assentd: a database that hangs, refuses or goes away, a node that is
paused or stopped at a bad moment. Nothing untrue is said meanwhile, and it recovers by itself."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.client import Client
from harness.load import agreed, alive, two
from harness.participant import Answer, Gate
from harness.postgres import connect
from harness.system import Assentd
from harness.wait import wait_until

JOURNAL, READER = "assentd journal", "assentd reader"


def backends(assentd, *names):
    return [r[0] for r in assentd.db.query(
        "SELECT pid FROM pg_stat_activity WHERE application_name = ANY (%s)", list(names))]


class Locked:
    """Nobody writes to a table of the coordinator meanwhile."""

    def __init__(self, assentd, table="assent.txn"):
        self.assentd, self.table = assentd, table
        self.connection = connect(assentd.dir + "/s")
        self.connection.autocommit = False
        self.connection.cursor().execute("LOCK TABLE %s IN EXCLUSIVE MODE" % table)

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self.connection.rollback()
        self.connection.close()

    def wait_for_writer(self):
        wait_until(lambda: self.assentd.db.value(
            "SELECT count(*) FROM pg_locks WHERE relation = %s::regclass AND NOT granted",
            self.table) > 0, what="a flush to wait for the lock")


class Stopped:
    """These processes do not run meanwhile."""

    def __init__(self, pids):
        self.pids = pids

    def __enter__(self):
        for pid in self.pids:
            os.kill(pid, signal.SIGSTOP)

    def __exit__(self, *_exc):
        for pid in self.pids:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("n", [1, 2])
def test_no_vote_is_asked_for_after_the_deadline(fresh, part, gid, n):
    """Its creation took longer than it had: the calls that waited for it are not made any more."""
    with ThreadPoolExecutor(1) as pool:
        with Locked(fresh) as lock:
            body = two(part, timeout_ms=200)
            body["branches"] = body["branches"][:n]
            waiting = pool.submit(fresh.client.put, gid, body, 20)
            lock.wait_for_writer()
            late = time.monotonic() + 0.3
            wait_until(lambda: time.monotonic() > late, what="the deadline")
        reply = waiting.result(20)
    assert (reply.status, reply["outcome"]) == (200, "aborted")
    assert {c.op for c in part.calls()} <= {"rollback"}


def test_no_operation_gives_the_decision_away(fresh, part, gid):
    """What a branch is told next is shown when the decision is durable, not before."""
    hold = Gate()
    part.on("b", "prepare", Answer(gate=hold))
    fresh.client.put(gid, two(part))
    part.wait_calls(2)
    with Locked(fresh) as lock:
        hold.open()
        lock.wait_for_writer()
        for txn in (fresh.client.txn(gid), fresh.client.put(gid, two(part)).json):
            assert (txn["state"], txn["outcome"]) == ("preparing", "pending")
            assert [b["op"] for b in txn["branches"]] == [None, None]
    assert fresh.client.ended(gid)["outcome"] == "committed"


def test_stopped_while_the_database_hangs(fresh):
    """Whoever waits for the database is answered, and the process ends in order."""
    base = "/v1/transactions/nobody"
    with ThreadPoolExecutor(4) as pool:
        with Stopped(backends(fresh, JOURNAL, READER)):
            waiting = [pool.submit(Client(fresh.url).get, path) for path in (
                base, base + "/history", base + "/decision", "/readyz")]
            wait_until(lambda: fresh.client.metric("assent_http_requests_open") == 5,
                       what="all of them to be asked")
            fresh.process.terminate()
            wait_until(lambda: "stopping" in fresh.process.stderr(), what="the first signal")
            fresh.process.terminate()
            assert [w.result(30).status for w in waiting] == [503] * 4
    assert fresh.process.wait(20) == 0, fresh.process.last_lines()


@pytest.mark.usefixtures("unmade")
def test_two_start_at_once(guard, part, gid):
    """One makes the private PostgreSQL, the other adopts it and waits for its turn to serve."""
    both = [Assentd(guard), Assentd(guard)]
    for one in both:
        one.spawn()
    for one in both:
        wait_until(lambda p=one.process: "64 shards" in p.stderr() or "waiting:" in p.stderr(), 30,
                   lambda p=one.process: "a start:\n" + p.last_lines())
    # They may have met half-way, and waited both.
    wait_until(lambda: any("64 shards" in one.process.stderr() for one in both), 30, "one to serve")
    first, second = both if "64 shards" in both[0].process.stderr() else reversed(both)
    wait_until(lambda: "waiting: another node" in second.process.stderr(), 30,
               "the other one to wait")
    assert "64 shards" not in second.process.stderr()
    assert first.ready().client.put(gid, two(part), wait=10)["outcome"] == "committed"
    assert first.stop() == 0
    assert second.ready().client.txn(gid)["outcome"] == "committed"


def test_paused_owner(fresh, guard, part, gids):
    """It wakes up as the former owner: it writes nothing, says nothing untrue, and serves again
    when it is its turn."""
    hold = Gate()
    part.on("b", "prepare", Answer(gate=hold), Answer(200))
    old, new = gids(), gids()
    second = Assentd(guard)
    second.spawn()
    wait_until(lambda: "waiting: another node" in second.process.stderr(), 20, "the second")

    epochs = fresh.db.query("SELECT shard, epoch + 1 FROM assent.shard ORDER BY 1")

    def rows():
        return (fresh.db.query("SELECT shard, epoch FROM assent.shard ORDER BY 1"),
                fresh.db.query("SELECT gid, epoch, state, ended_at FROM assent.txn ORDER BY 1"))
    with ThreadPoolExecutor(3) as pool:
        kept = pool.submit(Client(fresh.url).put, old, two(part), 60)
        part.wait_calls(2)
        fresh.process.pause()
        missed = pool.submit(Client(fresh.url).put, new, two(part), 60)
        asked = pool.submit(Client(fresh.url).get, "/v1/transactions/%s/decision" % new)
        fresh.db.query("SELECT pg_terminate_backend(pid) FROM pg_locks"
                       " WHERE locktype = 'advisory' AND granted")
        second.ready()
        hold.open()
        for gid in (old, new):
            assert second.client.put(gid, two(part), wait=10)["outcome"] == "committed"
            fresh.wait_state(gid, "committed")
        before = rows()
        assert before[0] == epochs
        fresh.process.resume()
        # It was stored, and that is still known; nothing is known about the other.
        assert (kept.result(20).status, kept.result()["outcome"]) == (202, "pending")
        assert missed.result(20).status in (200, 503)
        assert asked.result(20).status == 503 or asked.result()["decision"] != "abort"
    wait_until(lambda: "waiting: another node" in fresh.process.stderr(), 20, "it to wait")
    assert fresh.client.get("/v1/transactions/nobody/decision").status == 503
    for path in ("nobody", new):
        assert fresh.client.get("/v1/transactions/" + path).status == 503
    assert rows() == before
    second.kill9()
    wait_until(lambda: fresh.client.get("/readyz").status == 200, 20, "readiness")
    assert fresh.client.put(gids(), two(part), wait=10)["outcome"] == "committed"
    agreed(part)


def test_raised_epochs_are_noticed_without_traffic(fresh, part, gids):
    """Another node took the shards although the lock is held: the first refused creation tells."""
    gid = gids()
    fresh.client.put(gid, two(part), wait=10)
    fresh.wait_state(gid, "committed")
    fresh.db.query("UPDATE assent.shard SET epoch = epoch + 1")
    gid = gids()
    reply = fresh.client.put(gid, two(part))
    assert (reply.status, reply["detail"]) == (503, "the transaction was not stored; try again")
    wait_until(lambda: fresh.client.put(gid, two(part), wait=10).status == 200, what="a new epoch")


def test_a_refused_decision_is_made_by_whoever_owns_it(fresh, part, gid):
    """Another node took the shards: this one's decision is not written and not carried out."""
    hold = Gate()
    part.on("b", "prepare", Answer(gate=hold))
    fresh.client.put(gid, two(part))
    part.wait_calls(2)
    fresh.db.query("UPDATE assent.shard SET epoch = epoch + 1")
    hold.open()
    assert fresh.client.ended(gid)["outcome"] == "committed"
    assert "no longer owns the shard" in fresh.process.stderr()
    agreed(part)


def test_some_of_the_locks(fresh, part, gid):
    """Whoever cannot have all of them keeps none: two that met half-way would both wait for ever."""
    fresh.kill9()
    other = connect(fresh.dir + "/s")
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(1634956148, 5)")
    fresh.spawn()
    wait_until(lambda: "waiting: another node" in fresh.process.stderr(), 20, "it to wait")
    wait_until(lambda: fresh.db.value(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted") == 1,
        what="the others to be given back")
    other.close()
    assert fresh.ready().client.put(gid, two(part), wait=10)["outcome"] == "committed"


def test_an_end_behind_a_finding_is_stored(fresh, part, gid):
    """The last answer comes while the record of a heuristic finding is still under way."""
    holds = {name: Gate() for name in "ab"}
    part.on("a", "commit", Answer(409, '{"outcome":"aborted"}', gate=holds["a"]))
    part.on("b", "commit", Answer(gate=holds["b"]))
    fresh.client.put(gid, two(part))
    part.wait_calls(2, op="commit")
    with Locked(fresh) as lock:
        holds["a"].open()
        lock.wait_for_writer()
        holds["b"].open()
        wait_until(lambda: fresh.client.metric("assent_participant_calls_in_flight") == 0,
                   what="the last answer")
        assert [b["state"] for b in fresh.client.txn(gid)["branches"]] == [
            "heuristic_aborted", "prepared"]  # nothing of it is stored
    fresh.wait_state(gid, "mixed")


def test_a_gid_of_ours_is_told_when_its_fate_is_unknown(fresh, part):
    """POST without a gid: repeating it would make another transaction, so the reply says how."""
    body = two(part)
    with ThreadPoolExecutor(1) as pool:
        with Locked(fresh) as lock:
            waiting = pool.submit(Client(fresh.url).submit, body)
            lock.wait_for_writer()
            fresh.db.query("SELECT pg_terminate_backend(%s)", backends(fresh, JOURNAL)[0])
            reply = waiting.result(20)
    assert reply.status == 503 and "PUT /v1/transactions/" in reply["detail"]
    gid = reply["detail"].split("/")[-1]
    wait_until(lambda: fresh.client.get("/readyz").status == 200, 20, "readiness")
    assert fresh.client.put(gid, body, wait=10)["outcome"] == "committed"
    assert fresh.db.value("SELECT count(*) FROM assent.txn") == 1


@pytest.mark.parametrize("table, event", [("txn", "INSERT"), ("shard", "UPDATE")])
def test_full_disk(fresh, part, gid, table, event):
    """A database that takes sessions but no writes is tried again, and not all the time."""
    fresh.db.query("CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql"
                   " AS $$BEGIN RAISE disk_full; END$$")
    fresh.db.query("CREATE TRIGGER no_room BEFORE %s ON assent.%s EXECUTE FUNCTION no_room()" % (
        event, table))
    if table == "shard":
        fresh.db.query("SELECT pg_terminate_backend(%s)", backends(fresh, JOURNAL)[0])

    def failures():
        if table == "txn" and fresh.client.get("/readyz").status == 200:
            assert fresh.client.put(gid, two(part)).status == 503
        return fresh.process.stderr().count(": 53100 disk_full" if table == "shard" else
                                            "result: disk_full")
    wait_until(lambda: failures() >= 4, 30, "failures")
    began = time.monotonic()
    wait_until(lambda: failures() >= 6, 40, "more failures")
    assert time.monotonic() - began > 0.5
    fresh.db.query("DROP TRIGGER no_room ON assent.%s" % table)
    wait_until(lambda: fresh.client.get("/readyz").status == 200, 20, "readiness")
    assert fresh.client.put(gid, two(part), wait=10)["outcome"] == "committed"


def test_standby(fresh, part, gid):
    """It is not a place to write to, and not one to ask for what may exist."""
    fresh.client.put(gid, two(part), wait=10)
    fresh.wait_state(gid, "committed")
    postmaster = fresh.postmaster_pid()
    with open(fresh.dir + "/data/standby.signal", "wb"):
        pass
    os.kill(postmaster, signal.SIGINT)
    fresh.db.close()
    wait_until(lambda: not alive(postmaster), 20, "the postmaster to go")
    wait_until(lambda: "standby" in fresh.process.stderr(), 20, "the standby to be noticed")
    for path in ("nobody", "nobody/decision", gid):
        assert fresh.client.get("/v1/transactions/" + path).status == 503
    fresh.db.query("SELECT pg_promote()")
    wait_until(lambda: fresh.client.get("/readyz").status == 200, 20, "readiness")
    assert fresh.client.txn(gid)["outcome"] == "committed"
