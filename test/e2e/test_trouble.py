"""What goes wrong around assentd: a database that hangs, refuses or goes away, a node that is
paused or stopped at a bad moment. Nothing untrue is said meanwhile, and it recovers by itself."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.client import Client
from harness.participant import Answer, Gate
from harness.postgres import connect
from harness.wait import wait_until

from test_crash import agreed, two

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


@pytest.mark.parametrize("path", ["/v1/transactions/nobody", "/v1/transactions/nobody/history",
                                  "/v1/transactions/nobody/decision", "/readyz"])
def test_stopped_while_the_database_hangs(fresh, path):
    """Whoever waits for the database is answered, and the process ends in order."""
    pids = backends(fresh, JOURNAL, READER)
    with ThreadPoolExecutor(1) as pool:
        with Stopped(pids):
            waiting = pool.submit(Client(fresh.url).get, path)
            assert fresh.client.get("/livez").status == 200
            fresh.process.terminate()
            wait_until(lambda: "stopping" in fresh.process.stderr(), what="the first signal")
            fresh.process.terminate()
            assert waiting.result(10).status == 503
    assert fresh.process.wait(20) == 0, fresh.process.last_lines()
