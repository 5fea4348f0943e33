"""Copies before the answer: a primary with a synchronous standby. What was answered is on both, so
that the loss of the primary loses nothing."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.client import Client
from harness.cluster import Cluster, Node
from harness.load import Load, agreed, two
from harness.participant import Answer, Gate
from harness.wait import wait_until

WARNING = "canceling wait for synchronous replication"


class Couple:
    """A primary, its standby, and a node that knows both addresses."""

    def __init__(self, guard, name="couple"):
        self.primary = Cluster(guard, name + "1").init().start()
        self.database = self.primary.database("assent")
        self.standby = Cluster(guard, name + "2").copy_of(self.primary, "-R")
        self.standby.settings["primary_conninfo"] = (
            "host=%s port=%d user=assent application_name=copy" % (
                self.primary.socket_dir, self.primary.port))
        self.standby.start()
        self.synchronous("copy")
        self.node = Node(guard, self.database, self.database.address(
            self.standby.port, self.primary.port, options="target_session_attrs=read-write"),
                         args=["--database-timeout-ms", "8000"])
        self.node.start()

    def synchronous(self, names):
        self.primary.sql("ALTER SYSTEM SET synchronous_standby_names = '%s'" % names,
                         "SELECT pg_reload_conf()")
        wait_until(lambda: self.primary.sql("SELECT count(*) FROM pg_stat_replication"
                                            " WHERE sync_state = 'sync'") == bool(names), 20,
                   "the standby to be synchronous")

    def waiting(self):
        return self.primary.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event ="
                                " 'SyncRep' AND application_name = 'assentd journal'")

    def wait_quiet(self, gid, calls):
        """So many calls are in the history, and nothing more is to be written."""
        wait_until(lambda: self.database.value("SELECT count(*) FROM assent.history WHERE gid = %s",
                                               gid) == calls, 20, "the history")

    def cancel_wait(self):
        wait_until(self.waiting, 20, "a commit to wait for the standby")
        self.primary.sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
                         " WHERE application_name = 'assentd journal'")

    def on_the_standby(self, gid):
        """Outcome there; None: it is not there."""
        there = self.standby.connect("assent")
        with there.cursor() as cursor:
            cursor.execute("SELECT outcome FROM assent.transactions WHERE gid = %s", (gid,))
            row = cursor.fetchone()
        there.close()
        return row[0] if row else None


@pytest.fixture(scope="module")
def couple(session_guard):
    return Couple(session_guard)


@pytest.fixture
def node(couple):
    return couple.node.wait_ready()


def test_the_standby_is_away(couple, node, part, gids):
    """Who waits goes on waiting, or gets 503; nothing that is not on both is answered, not even
    when somebody cancels the wait and the primary has it committed."""
    gid, late = gids(), gids()
    assert node.client.put(gid, two(part), wait=10)["outcome"] == "committed"
    # It is there when it is answered, but replayed only a moment later.
    wait_until(lambda: couple.on_the_standby(gid) == "committed", 20, "the copy")
    couple.wait_quiet(gid, 4)
    couple.standby.stop()
    with ThreadPoolExecutor(2) as pool:
        asked = pool.submit(Client(node.url).put, late, two(part), 5)
        node.forget_said()
        couple.cancel_wait()
        node.wait_said(WARNING)
        assert asked.result(30).status == 503
        # Here it can be read by everybody, and still is not told.
        assert couple.database.value("SELECT count(*) FROM assent.txn WHERE gid = %s", late) == 1
        for path in ("", "/decision"):
            reply = node.client.get("/v1/transactions/" + late + path)
            assert reply.status == 503, reply
        assert not part.calls(gid=late)
        wait_until(couple.waiting, 20, "the take-over to wait for the standby")
        assert node.client.put(late, two(part)).status == 503
    couple.standby.start()
    node.wait_ready()
    assert node.client.put(late, two(part), wait=20)["outcome"] == "committed"
    wait_until(lambda: couple.on_the_standby(late) == "committed", 20, "the copy")


@pytest.fixture
def impatient(couple):
    """It gives a session up that has not answered for two seconds."""
    couple.node.stop()
    couple.node.spawn("--database-timeout-ms", "2000")
    yield couple.node.wait_ready()
    couple.node.stop()
    couple.node.spawn()


def test_a_commit_that_hangs(couple, impatient, part, gids):
    """The standby is gone, and nobody cancels the wait: who asked with a time of his own is told
    then, all others when the session is given up; nobody that it was stored, or was not. What the
    database shows meanwhile is nothing of it, and it goes on when the standby is back."""
    node, gid, late = impatient, gids(), gids()
    assert node.client.put(gid, two(part), wait=10)["outcome"] == "committed"
    couple.wait_quiet(gid, 4)
    couple.standby.stop()
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(Client(node.url).put, late, two(part), wait, timeout=25)
                 for wait in (1, None, 20)]
        wait_until(couple.waiting, 20, "a commit to wait for the standby")
        for reply in [a.result(30) for a in asked]:
            assert reply.status == 503 and "is not known" in reply["detail"], reply
    assert node.said("takes too long to answer")
    for path in ("", "/decision", "/history"):
        assert node.client.get("/v1/transactions/" + late + path).status == 503
    assert node.client.put(late, two(part)).status == 503
    shown = node.client.get("/v1/transactions")
    assert not shown["confirmed"] and late not in [t["gid"] for t in shown["transactions"]]
    assert not part.calls(gid=late)
    couple.standby.start()
    node.wait_ready()
    assert node.client.ended(late)["outcome"] == "committed"  # though nobody has asked again


def test_a_decision_whose_wait_was_cancelled(couple, node, part, gid):
    """It is committed on the primary alone: no participant hears of it before it is on both."""
    hold = Gate()
    part.on("b", "prepare", Answer(gate=hold), Answer(200))
    node.client.put(gid, two(part))
    part.wait_calls(2)
    couple.wait_quiet(gid, 1)
    couple.standby.stop()
    node.forget_said()
    hold.open()
    for n in (1, 2):
        couple.cancel_wait()
        node.wait_said(WARNING, n)
    assert couple.database.value("SELECT outcome FROM assent.transactions WHERE gid = %s",
                                 gid) == "committed"
    assert not part.calls(op="commit")
    assert node.client.get("/v1/transactions/" + gid).status == 503
    couple.standby.start()
    node.wait_ready()
    assert node.client.ended(gid)["outcome"] == "committed"
    agreed(part)


def test_the_primary_is_lost(couple, node, part, gid):
    """Kill -9 of all of it under load, while what it writes is not on its way to the standby yet;
    that is promoted, and the same daemon goes on there. Not one answer was untrue."""
    load = Load(node, lambda _: two(part), n=6, prefix=gid)
    try:
        wait_until(lambda: load.n("committed") >= 50, 40, "load")
        os.kill(couple.primary.sql("SELECT pid FROM pg_stat_replication"), signal.SIGSTOP)
        committed = load.n("committed")
        wait_until(lambda: couple.waiting() or load.n("committed") >= committed + 20, 20,
                   "a commit to wait for the standby")
        couple.primary.kill9()
        refused = load.n("not taken")
        wait_until(lambda: load.n("not taken") >= refused + 3, 30, "503")
        wait_until(lambda: "read-only" in node.not_ready_because() or "standby" in
                   node.not_ready_because() or "recovery" in node.not_ready_because(), 20,
                   node.not_ready_because)
        couple.standby.sql("SELECT pg_promote()")
        node.wait_ready()
        committed = load.n("committed")
        wait_until(lambda: load.n("committed") >= committed + 20, 40, "load after it")
    finally:
        load.stop()
    assert set(load.check(node).values()) == {"committed"}
    agreed(part)
    assert node.stop() == 0
    couple.standby.stop(signal.SIGQUIT)
