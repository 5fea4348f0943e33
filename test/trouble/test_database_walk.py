"""The journal's session is cut at every boundary of its messages, in both directions, and inside
messages: on the way to the shards, and while transactions are created, grow, are decided and end.
A reply that never comes after the commit was done is one of them, a pipeline cut in the middle
another. After each cut everything ends, what was answered holds, and participants heard one
decision."""

import json
import threading

import pytest
import requests

from harness.cluster import Node
from harness.load import QUICK, agreed, told
from harness.participant import Answer
from harness.pg_proxy import Fault, PgProxy
from harness.wait import wait_until

WALKERS = 3
CUTS = 2  # in the work of one process; more in a row would be answered with patience


class Script:
    """What the participant answers, by the branch's name: its first calls go wrong."""

    def __init__(self, part):
        part.on("no", "prepare", Answer(409, '{"reason":"no"}'))


class Walker:
    """One node, one database, one proxy; takes the next boundaries until there are no more."""

    def __init__(self, walk, number):
        self.walk, self.number = walk, number
        self.database = walk.cluster.database("walk_%d" % number)
        self.proxy = PgProxy(walk.cluster.port)
        self.node = Node(walk.guard, self.database, self.database.address(self.proxy.port),
                         name="walker%d" % number, args=["--log-level", "warn"])
        self.http = requests.Session()
        self.http.trust_env = False
        self.promised = {}
        self.n = 0

    def run(self):
        while True:
            start = self.walk.next_start()
            works = [self.walk.next_work() for _ in range(CUTS)]
            works = [w for w in works if w]
            if not start and not works:
                return
            self.life(start, works)

    def life(self, start, works):
        """A process that meets a fault on the way to its shards, and some in its work."""
        self.proxy.arm(start)
        self.node.spawn()
        self.node.wait_ready()
        if start:
            self.walk.note("start", start, self.proxy.fired.is_set())
        for fault in works:
            self.proxy.arm(fault)
            self.work()
            self.walk.note("work", fault, self.proxy.fired.is_set())
            self.proxy.arm(None)
        self.node.kill9()

    def request(self, method, path, body=None):
        """Again and again until it is answered. 503 promises nothing."""
        def ask():
            reply = self.http.request(method, self.node.client.base + "/v1/transactions" + path,
                                      json=body, headers={"Prefer": "wait=10"}, timeout=30)
            assert reply.status_code in (200, 201, 202, 503), (method, path, reply.status_code,
                                                               reply.text)
            if reply.status_code == 503:
                assert "Retry-After" in reply.headers
                return None
            self.promise(path.split("/")[1], reply.json())
            return reply.json()
        return wait_until(ask, 30, lambda: "%s %s\n%s" % (
            method, path, self.node.process.last_lines()), every_s=0.01)

    def promise(self, gid, answer):
        outcome = answer.get("outcome")
        if outcome in ("committed", "aborted"):
            assert self.promised.setdefault(gid, outcome) == outcome, (gid, answer)

    def end(self, gid):
        def look():
            return self.request("GET", "/" + gid)["state"] in ("committed", "aborted")
        wait_until(look, 30, "the end of " + gid, every_s=0.01)

    def work(self):
        self.n += 1
        plain, refused, grown, noisy = (
            "w%d-%d-%s" % (self.number, self.n, what)
            for what in ("plain", "refused", "grown", "noisy"))
        part = self.walk.part
        body = {"mode": "2pc", "retry": QUICK, "timeout_ms": 60000}
        noise = "noise-%d-%d" % (self.number, self.n)
        part.on(noise, "commit", Answer(400), Answer(200))
        self.request("PUT", "/" + plain, dict(body, branches=[part.branch("a"), part.branch("b")]))
        self.request("PUT", "/" + refused, dict(body, labels={"who": "walker"}, branches=[
            part.branch("a"), part.branch("no")]))
        self.request("PUT", "/" + grown, dict(body, interactive=True))
        for branch in ("a", "b"):
            self.request("POST", "/%s/branches" % grown, part.branch(branch))
        self.request("POST", "/%s/commit" % grown)
        self.request("PUT", "/" + noisy, dict(body, branches=[
            part.branch("a"), part.branch(noise, "b")]))
        for gid, outcome in ((plain, "committed"), (refused, "aborted"), (grown, "committed"),
                             (noisy, "committed")):
            self.end(gid)
            assert self.promised[gid] == outcome, gid
        wait_until(self.settled, 20, "the ends to be stored")

    def settled(self):
        return self.database.value("SELECT (SELECT count(*) FROM assent.txn WHERE ended_at IS NULL)"
                                   " + (SELECT count(*) FROM assent.alert WHERE closed_at IS NULL)"
                                   ) == 0

    def check(self):
        stored = dict(self.database.query("SELECT gid, outcome FROM assent.transactions"))
        assert stored == self.promised
        for (gid, _), decisions in told(self.walk.part).items():
            if gid in stored:
                assert decisions == {"commit" if stored[gid] == "committed" else "rollback"}, gid

    def close(self):
        self.proxy.close()
        self.database.close()


class Walk:
    """Which boundaries are still to come, for all walkers."""

    HOW = ("cut", "reset", "half")

    def __init__(self, guard, cluster, part):
        self.guard, self.cluster, self.part = guard, cluster, part
        self.lock = threading.Lock()
        # How many messages there are is learned on the way: a side is through when its fault no
        # longer meets a message.
        self.todo = {"start": self._faults(), "work": self._faults()}
        self.over = {"start": {}, "work": {}}
        self.walked = {"start": set(), "work": set()}
        self.wrong = []

    @staticmethod
    def _faults():
        n = 0
        while True:
            n += 1
            for side in ("frontend", "backend"):
                yield side, n, Walk.HOW[n % 3]

    def _next(self, kind):
        with self.lock:
            over = self.over[kind]
            while len(over) < 2:
                side, n, how = next(self.todo[kind])
                if n <= over.get(side, 1 << 30):
                    return Fault(side, n, how)
            return None

    def next_start(self):
        return self._next("start")

    def next_work(self):
        return self._next("work")

    def note(self, kind, fault, fired):
        with self.lock:
            if fired:
                self.walked[kind].add((fault.side, fault.which))
            else:
                at = self.over[kind].get(fault.side, 1 << 30)
                self.over[kind][fault.side] = min(at, fault.which)

    def run(self, walker):
        try:
            walker.run()
            walker.check()
        except BaseException as wrong:  # told in the main thread
            self.wrong.append(wrong)


def test_every_boundary(guard, cluster, part):
    Script(part)
    walk = Walk(guard, cluster, part)
    walkers = [Walker(walk, n) for n in range(WALKERS)]
    threads = [threading.Thread(target=walk.run, args=(w,)) for w in walkers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for walker in walkers:
        walker.close()
    if walk.wrong:
        raise walk.wrong[0]
    agreed(part)
    start, work = len(walk.walked["start"]), len(walk.walked["work"])
    print("boundaries walked: %d on the way to the shards, %d at work" % (start, work))
    assert start >= 150 and work >= 60
