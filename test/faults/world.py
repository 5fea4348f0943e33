"""The system under faults: assentd with its private PostgreSQL, four services, and somebody who
starts again whatever is gone."""

import os
import signal
import threading
import time

import psycopg2

from harness.process import Exited
from harness.system import Assentd, Shop, binary
from harness.wait import wait_until

SKUS, USERS = 40, 40
STOCK, BALANCE = 1000000000, 1000000000000
COUPONS, DISCOUNT = 20000, 5  # one for each order that redeems one
DRAIN_S = 90
FAILED_S = 0.1  # before the next try, when a start has failed
HWM_MAX_KIB = 200 * 1024
FDS_MAX = 120

EFFECTS = """
CREATE TABLE effect (row text NOT NULL, amount bigint NOT NULL, held bigint NOT NULL);
CREATE FUNCTION note_effect() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO effect VALUES (NEW.{row}::text, OLD.{n} - NEW.{n}, NEW.{held} - OLD.{held});
	RETURN NULL;
END $$;
CREATE TRIGGER note AFTER UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION note_effect();
"""
# What a try holds counts for nothing else: a coupon's discount never changes.
COLUMNS = {"stock": {"table": "stock", "row": "sku", "n": "n", "held": "reserved"},
           "account": {"table": "account", "row": "user_id", "n": "balance", "held": "frozen"},
           "coupon": {"table": "coupon", "row": "code", "n": "n", "held": "discount"}}


class Keeper(threading.Thread):
    """Keeps one program running. Only signals that went through `send` excuse its end."""

    def __init__(self, name, book, process, spawn, ready):
        super().__init__(daemon=True)
        self.name, self.book, self.process = name, book, process
        self._spawn, self._ready = spawn, ready
        self.sent, self.served, self.done = set(), True, False
        self.down_s = 0.0
        self.stopped_at = self.term_at = None
        self.generation = 0
        self.starts_failed = 0
        self.hwm_kib = 0
        self.lock = threading.Lock()

    def send(self, signum):
        with self.lock:
            if signum in (signal.SIGKILL, signal.SIGTERM):
                self.look()
                self.sent.add(signum)
            if signum == signal.SIGTERM:
                self.term_at = time.monotonic()
            try:
                self.process.popen.send_signal(signum)
            except OSError:
                pass

    def look(self):
        try:
            with open("/proc/%d/status" % self.process.pid, encoding="ascii") as f:
                for line in f:
                    if line.startswith("VmHWM:"):
                        self.hwm_kib = max(self.hwm_kib, int(line.split()[1]))
        except OSError:
            pass

    def _ended(self, status):
        if self.done:
            return
        fair = (status == -signal.SIGKILL and signal.SIGKILL in self.sent
                or status == 0 and signal.SIGTERM in self.sent
                or status == -signal.SIGTERM and signal.SIGTERM in self.sent and not self.served
                or status == 1 and not self.served)
        if not fair:
            self.book.problem("died", "%s ended with status %s, was sent %s, %s:\n%s" % (
                self.name, status, sorted(self.sent), "served" if self.served else "was starting",
                self.process.last_lines()))
        elif status == 1:
            self.starts_failed += 1

    def _watch(self):
        """Until it has ended; its status."""
        while self.process.popen.poll() is None:
            if not self.served and self._ready_now():
                self.served = True
            if self.term_at and time.monotonic() > self.term_at + DRAIN_S:
                self.book.problem("drain", "%s still runs %d s after SIGTERM:\n%s" % (
                    self.name, DRAIN_S, self.process.last_lines()))
                self.send(signal.SIGCONT)
                self.send(signal.SIGKILL)
                self.term_at = None
            WAIT.wait(0.005)
        return self.process.popen.returncode

    def _ready_now(self):
        try:
            return self._ready()
        except (Exited, AssertionError):
            return False

    def run(self):
        while not self.done:
            self._ended(self._watch())
            if self.done:
                return
            WAIT.wait(self.down_s if self.served else max(self.down_s, FAILED_S))
            with self.lock:
                if self.done:
                    return
                self.sent, self.served, self.term_at = set(), False, None
                self.process = self._spawn()
                self.generation += 1


WAIT = threading.Event()  # never set: a wait on it is a pause


def listens(process):
    return "ready http" in process.stdout()


class World:
    hwm_max_kib, fds_max = HWM_MAX_KIB, FDS_MAX

    def __init__(self, guard, book):
        self.book = book
        self.assentd = Assentd(guard).start()
        self.shop = Shop(self.assentd)
        for service in self.shop.services:
            service.db.query("SELECT 1")
        self.shop.start(self.assentd.url)
        self.address = self.assentd.listen
        self.cluster = self.assentd.db.value("SELECT id FROM assent.cluster")
        self.participants = {s.name: "%s/%s" % (s.url, s.name) for s in self.shop.services}
        self.services = {s.name: s.listen for s in self.shop.services}
        self.databases = {s.name: s.db for s in self.shop.services}
        self.skus = ["sku%d" % i for i in range(SKUS)]
        self.users = [str(100 + i) for i in range(USERS)]
        self._fill()
        self.keepers = {"assentd": self._keep(self.assentd, "assentd")}
        for service in self.shop.services:
            self.keepers[service.name] = self._keep(service, service.name)
        self.fds = {}

    def _fill(self):
        stock, account = self.databases["stock"], self.databases["account"]
        stock.query("INSERT INTO stock SELECT unnest(%s), %s", self.skus, STOCK)
        stock.query("INSERT INTO stock VALUES ('scarce', 3)")
        account.query("INSERT INTO account SELECT unnest(%s)::bigint, %s", self.users, BALANCE)
        account.query("INSERT INTO account VALUES (99, 5)")
        # Two of each, so that a second redemption would succeed.
        self.databases["coupon"].query(
            "INSERT INTO coupon SELECT 'c' || i, 2, %s FROM generate_series(1, %s) AS i"
            " UNION ALL SELECT 'none', 0, 0", DISCOUNT, COUPONS)
        self.initial = {}
        for service, names in COLUMNS.items():
            self.databases[service].query(EFFECTS.format(**names))
            self.initial[service] = self.levels(service)

    def levels(self, service):
        rows = self.databases[service].query(
            "SELECT {row}::text, {n} FROM {table}".format(**COLUMNS[service]))
        return dict(rows)

    def held(self, service):
        """What is reserved or frozen, by row."""
        if service == "coupon":
            return {}
        return dict(self.databases[service].query(
            "SELECT {row}::text, {held} FROM {table} WHERE {held} <> 0".format(**COLUMNS[service])))

    def _keep(self, program, name):
        guard = self.assentd.guard
        if program is self.assentd:
            def spawn():
                return program.spawn()
        else:
            def spawn():
                program.process = guard.spawn(name, [
                    binary(name), "--listen", program.listen, "--database",
                    program.db.conninfo] + program.args)
                return program.process
        keeper = Keeper(name, self.book, program.process, spawn,
                        lambda: listens(program.process))
        keeper.start()
        return keeper

    def postmaster_pid(self):
        return self.assentd.postmaster_pid()

    def descriptors(self):
        """Open file descriptors of each program."""
        found = {}
        for name, keeper in self.keepers.items():
            try:
                found[name] = len(os.listdir("/proc/%d/fd" % keeper.process.pid))
            except OSError:
                found[name] = 0
        return found

    def all_serve(self, deadline_s=90):
        for keeper in self.keepers.values():
            keeper.down_s = 0
        wait_until(lambda: all(k.served and k.process.popen.poll() is None
                               for k in self.keepers.values()), deadline_s, lambda:
                   "everything to serve again: " + ", ".join(
                       "%s %s" % (n, "serves" if k.served else k.process.last_lines(3))
                       for n, k in self.keepers.items()))

    def settle(self, deadline_s=180):
        """Until nothing is undecided or unfinished."""
        self.all_serve()
        self.disconnect()  # what was made before the faults may be dead
        left = []

        def quiet():
            try:
                left[:] = self.assentd.db.query(
                    "SELECT gid, state, outcome FROM assent.txn WHERE ended_at IS NULL LIMIT 5")
            except psycopg2.Error as e:  # it may still be recovering
                self.disconnect()
                left[:] = [repr(e)]
            return not left
        wait_until(quiet, deadline_s, lambda: "all transactions to end; there are %s" % left,
                   every_s=0.05)

    def disconnect(self):
        for db in [self.assentd.db, *self.databases.values()]:
            db.close()

    def at_rest(self):
        """Descriptors and alerts go a moment after the last transaction; whoever does not let go
        of them is found by the checker."""
        def calm():
            self.fds = self.descriptors()
            return (max(self.fds.values()) <= self.fds_max and not self.assentd.db.value(
                        "SELECT count(*) FROM assent.alert WHERE closed_at IS NULL"))
        try:
            wait_until(calm, 20)
        except AssertionError:
            pass
        for keeper in self.keepers.values():
            keeper.look()

    def stop(self):
        for keeper in self.keepers.values():
            with keeper.lock:
                keeper.done = True
