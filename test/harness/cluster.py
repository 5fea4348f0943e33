"""PostgreSQL clusters of a test's own, to be broken, and assentd against them with --database."""

import os
import shutil
import signal
import socket
import subprocess

import psycopg2

from .client import Client
from .postgres import Database, bindir, connect
from .system import Assentd, binary
from .wait import wait_until

USER = "postgres" if os.geteuid() == 0 else None
TEMPLATE = "migrated"

# Nothing here outlives a process that is killed, so that nothing has to reach the disk, except
# where a test is about that.
SETTINGS = {
    "listen_addresses": "127.0.0.1", "fsync": "off", "shared_buffers": "16MB",
    "wal_level": "replica", "max_connections": "40", "max_wal_senders": "4",
    "hot_standby": "on", "wal_receiver_status_interval": "1",
    "wal_retrieve_retry_interval": "100ms", "restart_after_crash": "on",
}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def parent_of(pid):
    try:
        with open("/proc/%d/stat" % pid, encoding="ascii", errors="replace") as f:
            return int(f.read().rsplit(")", 1)[1].split()[1])
    except (OSError, ValueError):
        return 0


class TcpDatabase(Database):
    """By address and port, as a daemon beyond a proxy or with several hosts sees it."""

    def __init__(self, cluster, dbname):
        super().__init__(cluster.socket_dir, dbname, port=cluster.port)

    def address(self, *ports, options=""):
        ports = ports or (self.where[3],)
        return "host=%s port=%s dbname=%s user=assent sslmode=disable gssencmode=disable %s" % (
            ",".join(["127.0.0.1"] * len(ports)), ",".join(str(p) for p in ports),
            self.where[1], options)


class Cluster:
    """`base`: a directory that exists, for one on a file system of its own."""

    def __init__(self, guard, name="pg", base=None, env=None, **settings):
        self.guard, self.name, self.env = guard, name, env
        self.dir = base or guard.path(name)
        self.data, self.socket_dir = self.dir + "/data", guard.path(name + "-s")
        self.settings = dict(SETTINGS, **settings)
        self.port = free_port()
        self.process = None
        os.makedirs(self.dir, exist_ok=True)
        os.mkdir(self.socket_dir, 0o700)
        if USER:
            for path in (self.dir, self.socket_dir):
                shutil.chown(path, USER)

    def _run(self, program, *args):
        done = self.guard.run([bindir() + "/" + program] + list(args), user=USER, timeout=60)
        assert done.returncode == 0, done.stderr
        return done

    def init(self):
        self._run("initdb", "-D", self.data, "-U", "assent", "-A", "trust", "-N", "-E", "UTF8",
                  "--locale=C")
        return self

    def copy_of(self, other, *options):
        """A base backup of a cluster that runs."""
        self._run("pg_basebackup", "-D", self.data, "-h", other.socket_dir, "-p",
                  str(other.port), "-U", "assent", "-N", "-c", "fast", *options)
        return self

    def start(self, wait=True, **settings):
        options = ["-c" + "%s=%s" % item for item in dict(self.settings, **settings).items()]
        self.process = self.guard.spawn(self.name, [
            bindir() + "/postgres", "-D", self.data, "-k", self.socket_dir, "-p", str(self.port)]
            + options, env=self.env, user=USER)
        if wait:
            wait_until(self.answers, 30, lambda: self.name + " to answer:\n"
                       + self.process.last_lines())
        return self

    def connect(self, dbname="postgres"):
        return connect(self.socket_dir, dbname, port=self.port)

    def answers(self):
        assert self.process.running(), self.process.last_lines()
        try:
            self.connect().close()
            return True
        except psycopg2.OperationalError:
            return False

    def sql(self, *statements):
        """In the database postgres; the value of the last statement, if it has any."""
        connection = self.connect()
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                row = cursor.fetchone() if cursor.description else None
            return row[0] if row else None
        finally:
            connection.close()

    def database(self, name):
        """A migrated database, with a cluster name of its own."""
        if not self.sql("SELECT count(*) FROM pg_database WHERE datname = '%s'" % TEMPLATE):
            self.sql('CREATE DATABASE "%s"' % TEMPLATE)
            done = self.guard.run([binary("assentd"), "migrate", "--database",
                                   self.conninfo(TEMPLATE)], timeout=60)
            assert done.returncode == 0, done.stderr
        self.sql('CREATE DATABASE "%s" TEMPLATE "%s"' % (name, TEMPLATE))
        return TcpDatabase(self, name)

    def conninfo(self, dbname):
        return TcpDatabase(self, dbname).conninfo

    def stop(self, signum=signal.SIGINT):
        """SIGINT: fast. SIGQUIT: immediate, a crash with its children told."""
        self.process.terminate(signum)
        self.process.wait(30)

    def kill9(self):
        """All of it at once, as when its machine goes."""
        postmaster = self.process.pid
        os.kill(postmaster, signal.SIGSTOP)
        for name in os.listdir("/proc"):
            if name.isdigit() and parent_of(int(name)) == postmaster:
                try:
                    os.kill(int(name), signal.SIGKILL)
                except ProcessLookupError:
                    pass
        self.process.kill9()

    def hba(self, *lines):
        """Who may connect, from now on; first come, first served."""
        with open(self.data + "/pg_hba.conf", "w", encoding="ascii") as f:
            f.write("\n".join(lines + ("local all all trust", "host all all all trust",
                                       "local replication all trust",
                                       "host replication all all trust", "")))
        self.process.terminate(signal.SIGHUP)


class Node(Assentd):
    """assentd with a database that is not its own. Keeps its port over restarts."""

    def __init__(self, guard, database, conninfo=None, name="assentd", args=()):
        super().__init__(guard, name, "127.0.0.1:%d" % free_port(), args)
        self.db = database
        self.conninfo = conninfo or database.conninfo
        self.client = Client("http://" + self.listen)
        self.heard = 0  # what of its log wait_said has no more interest in

    def spawn(self, *args):
        self.heard = 0
        self.process = self.guard.spawn(self.name, [
            self.program, "--database", self.conninfo, "--listen", self.listen, "--node",
            self.name, "--allow-unauthenticated", "--participant-allow",
            "http://loopback:*"]
            + self.args + list(args))
        return self.process

    def is_ready(self):
        """Whether it serves; False also while nobody listens."""
        try:
            return self.client.get("/readyz").status == 200
        except OSError:
            return False

    def wait_ready(self, deadline_s=30):
        wait_until(self.is_ready, deadline_s, lambda: "%s to serve; its last lines:\n%s" % (
            self.name, self.process.last_lines()))
        return self

    def forget_said(self):
        self.heard = len(self.process.stderr())

    def said(self, text):
        return self.process.stderr()[self.heard:].count(text)

    def wait_said(self, text, n=1, deadline_s=30):
        wait_until(lambda: self.said(text) >= n, deadline_s,
                   lambda: "%s to say %r; its last lines:\n%s" % (
                       self.name, text, self.process.last_lines()))

    def not_ready_because(self):
        """What /readyz says is wrong; '' while it serves."""
        reply = self.client.get("/readyz")
        return "" if reply.status == 200 else " / ".join(
            v for v in reply["checks"].values() if v != "ok")

    def check(self, load):
        """What clients were told holds, by what is stored when all has ended. The outcomes."""
        assert not load.odd, load.odd[:3]
        wait_until(lambda: not self.db.value(
            "SELECT count(*) FROM assent.txn WHERE ended_at IS NULL"), 40, "all to end")
        stored = dict(self.db.query("SELECT gid, outcome FROM assent.transactions"))
        for gid, outcome in load.told.items():
            if outcome in ("committed", "aborted"):
                assert stored.get(gid) == outcome, (gid, outcome, stored.get(gid))
            else:
                assert outcome != "pending" or gid in stored, gid
        return {stored[gid] for gid in load.told if gid in stored}

    def backends(self, *names):
        return [r[0] for r in self.db.query(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND"
            " application_name = ANY (%s)", list(names or ["assentd journal"]))]


def memory_kib(pid):
    with open("/proc/%d/status" % pid, encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS:"))


class SmallDisk:
    """A file system of its own, of so many MiB. `path` is closed to nobody. Who is not root has it
    in a namespace of a process that does nothing else, and reaches it through that."""

    def __init__(self, guard, mib):
        self.path, self.mounted = guard.path("disk"), os.geteuid() == 0
        os.mkdir(self.path)
        mount = ["mount", "-t", "tmpfs", "-o", "size=%dm,mode=755" % mib, "none", self.path]
        if self.mounted:
            done = guard.run(mount)
            assert done.returncode == 0, done.stderr
            return
        keeper = guard.spawn("disk", ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c",
                                      '"$@" && echo mounted && exec sleep infinity', "sh"] + mount)
        wait_until(lambda: keeper.stdout() or not keeper.running(), 20, "a small file system")
        assert keeper.running(), "a small file system wants root or namespaces: " + keeper.stderr()
        self.path = "/proc/%d/root%s" % (keeper.pid, self.path)

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        if self.mounted:
            subprocess.run(["umount", "-l", self.path], check=True)
