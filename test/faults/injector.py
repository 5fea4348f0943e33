"""Breaks things. What, when and for how long comes out of the seed alone; which process that hits
is what happens to be there."""

import os
import random
import signal
import threading
import time
from dataclasses import dataclass

import psycopg2

from harness.load import alive
from harness.wait import wait_until

from .world import WAIT

SERVICES = ("order", "stock", "account", "coupon")
# What a backend is for, and how it is found.
BACKENDS = {
    "journal": "application_name = 'assentd journal'",
    "reader": "application_name IN ('assentd reader', 'assentd lists')",
    "order's": "datname = 'orders'",
    "stock's": "datname = 'stock'",
    "account's": "datname = 'account'",
    "coupon's": "datname = 'coupon'",
}
KINDS = (
    ("kill assentd", 22), ("drain assentd", 4), ("stop assentd", 12),
    ("kill service", 16), ("drain service", 3), ("stop service", 10),
    ("kill postmaster", 6), ("stop postmaster", 3),
    ("kill backend", 4), ("terminate backend", 10), ("stop backend", 10),
)
CALM_EVERY = 12
CALM_ENDS = 40
CALM_S = 12.0


@dataclass
class Fault:
    kind: str
    whom: str  # a service or a role of backends
    pick: float  # which of several backends
    stop_s: float
    down_s: float  # until it is started again
    again: tuple  # kill -9 so long after each further start: recovery is interrupted
    gap_s: float  # before the next fault

    def __str__(self):
        words = [self.kind.replace("service", self.whom).replace("backend", self.whom + " backend")]
        if self.kind.startswith("stop"):
            words.append("for %.3f s" % self.stop_s)
        if self.down_s:
            words.append("down for %.3f s" % self.down_s)
        words += ["again %.4f s after its start" % s for s in self.again]
        return ", ".join(words)


def schedule(seed):
    """The faults of a seed, without end."""
    dice = random.Random(seed)
    names, weights = zip(*KINDS)
    while True:
        kind = dice.choices(names, weights)[0]
        whom = dice.choice(tuple(BACKENDS) if "backend" in kind else SERVICES)
        if "backend" in kind and dice.random() < 0.4:
            whom = "journal"
        stop_s = dice.choices((dice.uniform(0.005, 0.5), dice.uniform(0.5, 4),
                               dice.uniform(4, 12), dice.uniform(32, 36)), (70, 20, 9, 1))[0]
        down_s = dice.choices((0.0, dice.uniform(0, 0.5), dice.uniform(0.5, 5)), (60, 30, 10))[0]
        again = tuple(dice.choice((dice.uniform(0, 0.02), dice.uniform(0, 0.3)))
                      for _ in range(dice.choices((0, 1, 2), (70, 22, 8))[0]))
        if not kind.startswith("kill") or "assentd" not in kind and "service" not in kind:
            again = ()
        if "assentd" not in kind and "service" not in kind or kind.startswith("stop"):
            down_s = 0.0
        gap_s = dice.choices((0.0, dice.uniform(0, 0.02), dice.uniform(0.02, 0.5),
                              dice.uniform(0.5, 4)), (12, 23, 25, 40))[0]
        yield Fault(kind, whom, dice.random(), stop_s, down_s, again, gap_s)


class Injector(threading.Thread):
    def __init__(self, world, book, seed, stop):
        super().__init__(daemon=True)
        self.world, self.book, self.halt = world, book, stop
        self.faults = schedule(seed)
        self.counts, self.missed = {}, 0
        self._stopped = {}  # pid -> (continue at, keeper or None)
        self._admin = None
        self._lock = threading.Lock()

    def run(self):
        resumer = threading.Thread(target=self._resume_in_time, daemon=True)
        resumer.start()
        try:
            for n, fault in enumerate(self.faults, 1):
                if self.halt.is_set():
                    break
                self._do(fault)
                self.halt.wait(fault.gap_s)
                if n % CALM_EVERY == 0:
                    self._calm()
        except Exception as e:  # noqa: BLE001 - said in the table rather than lost in a thread
            self.book.problem("harness", "the injector broke: %r" % e)
            raise
        finally:
            self.halt.set()
            resumer.join()
            self._resume(lambda at: True)

    def _calm(self):
        """Some transactions get through undisturbed, so that faults meet work of every age."""
        before, until = self._ended(), time.monotonic() + CALM_S
        while (not self.halt.is_set() and time.monotonic() < until
               and self._ended() < before + CALM_ENDS):
            self.halt.wait(0.05)

    def _ended(self):
        count = self.book.count()
        return count["committed"] + count["aborted"]

    def _do(self, fault):
        verb, what = fault.kind.split(" ", 1)
        self.book.fault(str(fault))
        if what == "backend":
            done = self._backend(verb, fault)
        elif what == "postmaster":
            done = self._postmaster(verb, fault)
        else:
            done = self._program(verb, fault.whom if what == "service" else what, fault)
        if done:
            self.counts[fault.kind] = self.counts.get(fault.kind, 0) + 1
        else:
            self.missed += 1

    def _program(self, verb, name, fault):
        keeper = self.world.keepers[name]
        pid = keeper.process.pid
        if keeper.process.popen.poll() is not None:
            return False
        keeper.down_s = fault.down_s
        if verb == "stop":
            keeper.send(signal.SIGSTOP)
            self._later(pid, fault.stop_s)
        elif verb == "drain":
            keeper.send(signal.SIGTERM)
        else:
            keeper.send(signal.SIGKILL)
            for after_s in fault.again:
                self._kill_start(keeper, after_s)
        return True

    def _kill_start(self, keeper, after_s):
        was = keeper.generation
        try:
            wait_until(lambda: keeper.generation != was or self.halt.is_set(), 20)
        except AssertionError:
            return
        WAIT.wait(after_s)
        keeper.send(signal.SIGKILL)
        self.counts["kill a start"] = self.counts.get("kill a start", 0) + 1

    def _postmaster(self, verb, fault):
        pid = self.world.postmaster_pid()
        if not pid or not alive(pid):
            return False
        if verb == "stop":
            return self._signal(pid, signal.SIGSTOP) and self._later(pid, fault.stop_s)
        self._disconnect()
        return self._signal(pid, signal.SIGKILL)

    def _backend(self, verb, fault):
        pids = self._backends(BACKENDS[fault.whom])
        if not pids:
            return False
        pid = pids[int(fault.pick * len(pids))]
        if verb == "stop":
            return self._signal(pid, signal.SIGSTOP) and self._later(pid, fault.stop_s)
        return self._signal(pid, signal.SIGKILL if verb == "kill" else signal.SIGTERM)

    def _backends(self, condition):
        """Asked over a session that is kept: a stopped postmaster takes no new ones."""
        for _ in range(2):
            try:
                if self._admin is None:
                    self._admin = psycopg2.connect(
                        self.world.assentd.db.conninfo, application_name="test", connect_timeout=2)
                    self._admin.autocommit = True
                with self._admin.cursor() as cursor:
                    cursor.execute("SELECT pid FROM pg_stat_activity WHERE backend_type ="
                                   " 'client backend' AND application_name <> 'test' AND "
                                   + condition + " ORDER BY backend_start, pid")
                    return [row[0] for row in cursor.fetchall()]
            except psycopg2.Error:
                self._disconnect()
        return []

    def _disconnect(self):
        admin, self._admin = self._admin, None
        if admin is not None:
            try:
                admin.close()
            except psycopg2.Error:
                pass

    @staticmethod
    def _signal(pid, signum):
        try:
            os.kill(pid, signum)
            return True
        except OSError:
            return False

    def _later(self, pid, stop_s):
        with self._lock:
            self._stopped[pid] = max(self._stopped.get(pid, 0), time.monotonic() + stop_s)
        return True

    def _resume(self, due):
        with self._lock:
            pids = [pid for pid, at in self._stopped.items() if due(at)]
            for pid in pids:
                del self._stopped[pid]
                self._signal(pid, signal.SIGCONT)

    def _resume_in_time(self):
        while not self.halt.is_set():
            self._resume(lambda at: at <= time.monotonic())
            self.halt.wait(0.002)
