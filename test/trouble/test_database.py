"""What an operator, a crash or a machine does to the database while transactions run. Always: 503
with Retry-After or waiting, nothing that was answered is lost, memory stays bounded, and the work
goes on by itself."""

import json
import os
import signal
import subprocess
from contextlib import contextmanager

import psycopg2
import pytest

from harness.cluster import Cluster, Node, SmallDisk, memory_kib
from harness.client import Client
from harness.load import Load, agreed, two
from harness.pg_proxy import Fault, PgProxy
from harness.postgres import connect
from harness.system import BUILD
from harness.wait import wait_until

READER, LISTS = "assentd reader", "assentd lists"
PATIENCE_MS = 1500


@pytest.fixture(scope="module")
def database(cluster):
    database = cluster.database("broken")
    yield database
    database.close()


@pytest.fixture(scope="module")
def running(session_guard, database):
    """One node for all tests here; each finds it serving and leaves it so."""
    node = Node(session_guard, database, args=["--database-timeout-ms", str(PATIENCE_MS)])
    node.spawn()
    node.wait_ready()
    yield node
    assert node.stop() == 0, node.process.last_lines()


@pytest.fixture
def node(running):
    return running.wait_ready()


@contextmanager
def under_load(node, part, prefix, n=4):
    """Before, and after: transactions come through. At the end all that was said holds."""
    before = memory_kib(node.process.pid)
    node.forget_said()
    load = Load(node, lambda _: two(part), n=n, prefix=prefix)
    try:
        wait_until(lambda: load.n("committed") >= 5, 20, "transactions before")
        yield load
        node.wait_ready()
        committed = load.n("committed")
        wait_until(lambda: load.n("committed") >= committed + 5, 30, "transactions after")
    finally:
        load.stop()
    assert node.check(load) <= {"committed", "aborted"}
    agreed(part)
    assert memory_kib(node.process.pid) < before + 32 * 1024


def wait_refused(load, n=3):
    had = load.n("not taken")
    wait_until(lambda: load.n("not taken") >= had + n, 40, "requests to be answered 503")


def test_restarts(node, cluster, part, gid):
    with under_load(node, part, gid) as load:
        for signum in (signal.SIGINT, signal.SIGQUIT):
            cluster.stop(signum)
            wait_refused(load)
            cluster.start()
            node.wait_ready()
    assert node.process.running()


def test_crash_of_a_backend(node, cluster, part, gid):
    """Kill -9 of the journal's backend: PostgreSQL throws everyone out and recovers."""
    with under_load(node, part, gid):
        os.kill(node.backends()[0], signal.SIGKILL)
        node.wait_said("no session to the database")
        wait_until(cluster.answers, 30, "recovery")


def test_terminated_and_cancelled(node, database, part, gid):
    with under_load(node, part, gid) as load:
        for act in ("pg_terminate_backend", "pg_cancel_backend") * 2:
            with Locked(database) as lock:
                lock.wait_for_writer()
                database.query("SELECT %s(%d)" % (act, node.backends()[0]))
                wait_refused(load, 1)
            node.wait_ready()


class Locked:
    """Nobody writes to a table of the coordinator meanwhile, or even reads it."""

    def __init__(self, database, mode="EXCLUSIVE", table="assent.txn"):
        self.database, self.table, self.mode = database, table, mode
        self.connection = None

    def __enter__(self):
        where = self.database.where
        self.connection = connect(where[0], where[1], port=where[3])
        self.connection.autocommit = False
        self.connection.cursor().execute("LOCK TABLE %s IN %s MODE" % (self.table, self.mode))
        return self

    def __exit__(self, *_exc):
        self.connection.rollback()
        self.connection.close()

    def waiting(self):
        return self.database.value(
            "SELECT count(*) FROM pg_locks WHERE relation = %s::regclass AND NOT granted",
            self.table)

    def wait_for_writer(self):
        wait_until(lambda: self.waiting() > 0, 20, "a flush to wait for the lock")


@pytest.mark.parametrize("mode", ["EXCLUSIVE", "ACCESS EXCLUSIVE"])
def test_locked_for_long(node, database, part, gid, mode):
    """An ALTER TABLE that takes its time, with sessions that wait for it behind us."""
    node.client.put(gid, two(part), wait=10)
    with under_load(node, part, gid) as load:
        with Locked(database, mode):
            node.wait_said("takes too long to answer")
            wait_refused(load)
            reply = node.client.get("/v1/transactions/" + gid)
            assert reply.status == 503 and "Retry-After" in reply.headers


def throw_out(cluster, name):
    cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '%s'"
                " AND application_name LIKE 'assentd%%'" % name)


@pytest.mark.parametrize("how, said", [
    ("password", "password"), ("closed", "not currently accepting connections")])
def test_refused_sessions(node, cluster, database, part, gid, how, said):
    name = database.where[1]
    if how == "closed":
        cluster.sql('ALTER DATABASE "%s" ALLOW_CONNECTIONS false' % name)
    else:
        cluster.hba("local %s assent scram-sha-256" % name)
    with under_load(node, part, gid) as load:
        throw_out(cluster, name)
        node.wait_said(said)
        wait_refused(load)
        wait_until(lambda: said in node.not_ready_because(), 20, node.not_ready_because)
        if how == "closed":
            cluster.sql('ALTER DATABASE "%s" ALLOW_CONNECTIONS true' % name)
        else:
            cluster.hba()


def test_too_many_clients(node, cluster, part, gid):
    """Every session of the server is taken by somebody else."""
    crowd = []

    def one_more():
        try:
            crowd.append(cluster.connect())
            return True
        except psycopg2.OperationalError:
            return False
    try:
        with under_load(node, part, gid) as load:
            while one_more():
                pass
            with crowd[-1].cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                               " WHERE application_name LIKE 'assentd%'")
            wait_until(lambda: not one_more() and node.said("too many clients"),
                       20, "the sessions to be taken")
            wait_refused(load)
            while crowd:
                crowd.pop().close()
    finally:
        for connection in crowd:
            connection.close()


def test_read_only(node, cluster, part, gid):
    """Said in words where people look; the sessions that live learn of it as well."""
    with under_load(node, part, gid) as load:
        cluster.sql("ALTER SYSTEM SET default_transaction_read_only = on",
                    "SELECT pg_reload_conf()")
        wait_until(lambda: "read-only" in node.not_ready_because(), 20, node.not_ready_because)
        wait_refused(load)
        cluster.sql("SET default_transaction_read_only = off",
                    "ALTER SYSTEM RESET default_transaction_read_only",
                    "SELECT pg_reload_conf()")


class Stopped:
    """These processes do not run meanwhile."""

    def __init__(self, pids):
        self.pids = pids
        assert pids

    def __enter__(self):
        for pid in self.pids:
            os.kill(pid, signal.SIGSTOP)

    def __exit__(self, *_exc):
        for pid in self.pids:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                pass


def test_hanging_readers(node, part, gid):
    """They are given up in time, and asked anew; what is written does not wait for them."""
    node.client.put(gid, two(part), wait=10)
    with under_load(node, part, gid):
        for path, name in (("/v1/transactions/" + gid, READER), ("/readyz", READER),
                           ("/v1/transactions", LISTS)):
            with Stopped(wait_until(lambda n=name: node.backends(n), 20, name)):
                reply = Client(node.url).get(path, timeout=10 * PATIENCE_MS / 1000)
                assert reply.status == 503, (path, reply)
                assert path == "/readyz" or "Retry-After" in reply.headers
            wait_until(lambda p=path: Client(node.url).get(p).status == 200, 20, path)


@pytest.mark.parametrize("step", ["lock", "take", "load"])
def test_hanging_takeover(guard, cluster, database, running, part, gid, step):
    """A session that goes silent on the way to the shards is given up, too."""
    running.wait_ready()
    other = cluster.database("hang_" + step)
    proxy = PgProxy(cluster.port)
    node = Node(guard, other, other.address(proxy.port),
                args=["--database-timeout-ms", str(PATIENCE_MS)])
    # Answers to Bind: 1 lock, 2 take and hello, 3 load.
    place = {"lock": 1, "take": 2, "load": 4}[step]
    proxy.arm(Fault("backend", "2", "hold", skip=place - 1))
    try:
        node.spawn()
        assert proxy.fired.wait(20)
        node.wait_said("takes too long to answer")
        assert node.client.put(gid, two(part)).status == 503
        throw_out(cluster, other.where[1])
        node.wait_ready()
        assert node.client.put(gid, two(part), wait=10)["outcome"] == "committed"
        assert node.stop() == 0
    finally:
        proxy.close()
        other.close()


def test_refused_connections(guard, cluster, part, gid):
    """The network between is gone for a while: cut, refused, and then silent."""
    other = cluster.database("far_away")
    proxy = PgProxy(cluster.port)
    node = Node(guard, other, other.address(proxy.port),
                args=["--database-timeout-ms", str(PATIENCE_MS)])
    try:
        node.start()
        with under_load(node, part, gid) as load:
            proxy.refuse()
            proxy.cut()
            wait_refused(load)
            proxy.accept()
            node.wait_ready()
            proxy.hold()
            node.wait_said("takes too long to answer")
            wait_refused(load)
            proxy.cut()
        assert node.stop() == 0
    finally:
        proxy.close()
        other.close()


def test_full_disk(guard, part, gid):
    """A data directory with no room left: PostgreSQL may even go down over it."""
    with SmallDisk(guard, 160) as disk:
        small = Cluster(guard, "small", base=disk.path + "/pg", max_wal_size="32MB",
                        fsync="on").init().start()
        other = small.database("full")
        node = Node(guard, other)
        node.start()
        filler = disk.path + "/filler"
        with under_load(node, part, gid) as load:
            with open(filler, "wb", buffering=0) as f:
                wait_until(lambda: fill(f) and node.said("No space left"), 40,
                           "the disk to be full", every_s=0.1)
            wait_refused(load)
            os.remove(filler)
            if not small.process.running():
                small.start()
        assert node.stop() == 0
        other.close()
        small.stop()


def fill(f):
    """Whatever is free, to the last page. True."""
    for size in (1 << 20, 1 << 12):
        try:
            while True:
                f.write(b"x" * size)
        except OSError:
            pass
    return True


def many(node):
    """What 32 clients get committed who cost little themselves."""
    noop = node.guard.spawn("noop", [os.path.join(BUILD, "test", "noop")])
    address = noop.ready_url()
    done = subprocess.run([os.path.join(BUILD, "test", "load"), node.url, "32", "0", "2", address,
                           address], check=True, capture_output=True, text=True, timeout=60)
    noop.kill9()
    return json.loads(done.stdout)["committed"]


def test_slow_disk(node, cluster, part, gid):
    """100 ms for each fsync: those who wait share them."""
    shim = os.path.join(BUILD, "test", "slow_fsync.so")
    cluster.stop()
    cluster.env = {"LD_PRELOAD": shim, "SLOW_FSYNC_MS": "100"}
    try:
        cluster.start(fsync="on")
        node.wait_ready()
        with under_load(node, part, gid):
            syncs = cluster.sql("SELECT wal_sync FROM pg_stat_wal")
            done = many(node)
            # PostgreSQL counts with a delay of up to a second.
            wait_until(lambda: cluster.sql("SELECT wal_sync FROM pg_stat_wal") - syncs > 10, 20,
                       "the shim to slow something down")
            syncs = cluster.sql("SELECT wal_sync FROM pg_stat_wal") - syncs
        assert done > 2 * syncs, (done, syncs)
    finally:
        cluster.env = None
        cluster.stop(signal.SIGQUIT)
        cluster.start()
