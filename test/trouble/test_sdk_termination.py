"""Branches that end by themselves: two participants, each as several processes that sweep on their
own, and a coordinator that falls silent in the middle of a few hundred transactions, comes back, and
goes on as the protocol says. Meanwhile the participants are killed, one after the other.

With on_timeout `wait` no order of these may end in two minds, leave a prepared transaction, or do
work of a transaction that was aborted.
"""

import itertools
import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from harness.guard import Guard
from harness.participant import Answer, Participant
from harness.postgres import PrivatePostgres
from harness.pq_crash import LOCKS
from harness.signature import call_headers
from harness.system import BUILD, Service
from harness.wait import wait_until

N_TXN, N_THREAD, N_REPLICA = 240, 8, 2
CALLS_PER_KILL = 250
BRANCHES = ("red", "blue")


class Died(Exception):
    """The coordinator, in the middle of a transaction."""


class Coordinator(Participant):
    """What it says to those who ask for a decision."""

    def __init__(self):
        self.txns = {}
        super().__init__()

    def arrived(self, call):
        txn = self.txns.get(call.name.rpartition("/")[2])
        if call.op != "decision" or txn is None or txn.silent:
            return Answer(503)
        return Answer(200, json.dumps({"gid": txn.gid, "cluster": "c0ffee00",
                                       "decision": txn.decision or "pending"}))


class Txn:
    """One transaction, as the coordinator's journal has it: asked, pre_committing, intent, decision
    are set before anybody hears of them."""

    def __init__(self, world, number):
        self.world, self.gid = world, "t%d" % number
        self.rng = random.Random(number)
        self.silent, self.decision = False, None
        self.pre_committing, self.intent, self.found = False, False, False
        self.vouched, self.wrong = set(), []
        self.calls_left = self.rng.randrange(1, 14)
        # One may be late: it has told its peer, and not ended, when the coordinator is back.
        self.hold_ms = {b: self.rng.choice((0, 10, 300, 600000)) for b in BRANCHES}

    def order(self):
        return self.rng.sample(BRANCHES, 2)

    def call(self, branch, op):
        """(status, outcome); the coordinator may die before or after it."""
        self.calls_left -= 1
        late = self.rng.random() < 0.5
        if self.calls_left == 0 and not late:
            raise Died
        answer = self.world.call(branch, self.gid, op, self.hold_ms[branch], self.rng)
        if self.calls_left == 0:
            raise Died
        return answer

    def run(self):
        try:
            self.decide()
            self.tell()
        except Died:
            self.silent = True

    def resume(self):
        self.silent = False
        if self.decision is None and not self.pre_committing:
            self.decision = "abort"  # nobody has been sent pre_commit
        elif self.decision is None and not self.found and self.rng.random() < 0.5:
            self.intent = True  # the phase's deadline
        self.decide()
        self.tell()

    def decide(self):
        if self.decision is None and not self.pre_committing:
            if any(self.call(b, "can_commit")[0] != 200 for b in self.order()):
                self.decision = "abort"
                return
            self.pre_committing = True
        while self.decision is None:
            if self.intent:
                self.wish_to_abort()
            else:
                self.pre_commit()

    def pre_commit(self):
        answers = {b: self.call(b, "pre_commit") for b in self.order()}
        outcomes = {outcome for _, outcome in answers.values()}
        self.found |= "committed" in outcomes
        if all(status in (200, 409) for status, _ in answers.values()):
            if self.found:
                self.decision = "commit"
            elif {status for status, _ in answers.values()} == {200}:
                self.decision = "commit"
            else:
                self.intent = True
        elif not self.found and self.rng.random() < 0.3:
            self.intent = True  # the phase's deadline

    def wish_to_abort(self):
        for branch in self.order():
            status, outcome = self.call(branch, "intent")
            if status == 200:
                self.decision = "abort"
            elif outcome == "committed":
                self.decision = "commit"
            elif outcome == "pre_committed":
                self.vouched.add(branch)
            if self.decision:
                return
        if len(self.vouched) == 2:
            self.decision = "commit"

    def tell(self):
        op = "do_commit" if self.decision == "commit" else "abort"
        for branch in self.order():
            status = None
            while status not in (200, 409):
                status, outcome = self.call(branch, op)
            if status != 200:
                self.wrong.append((branch, op, outcome))


class World:
    def __init__(self, guard, pg):
        self.coordinator = Coordinator()
        self.txns = [Txn(self, n) for n in range(N_TXN)]
        self.coordinator.txns = {t.gid: t for t in self.txns}
        self.lock, self.number, self.attempt = threading.Lock(), itertools.count(1), itertools.count(1)
        self.replicas = {}
        for branch in BRANCHES:
            self.replicas[branch] = [self.replica(guard, pg, branch, i) for i in range(N_REPLICA)]
        self.dbs = {b: r[0].db for b, r in self.replicas.items()}

    def replica(self, guard, pg, branch, number):
        database = pg.create(branch) if number == 0 else self.replicas_db[branch]
        self.replicas_db = dict(getattr(self, "replicas_db", {}), **{branch: database})
        service = Service(guard, "ledger", database, args=[
            "--coordinator", "http://127.0.0.1:%d" % self.coordinator.port, "--tick", "50"])
        service.program = BUILD + "/test/ledger"
        return service.start()

    def call(self, branch, gid, op, hold_ms, rng):
        """To one of the branch's processes; (None, None) when it does not answer."""
        if next(self.number) % CALLS_PER_KILL == 0:
            self.kill(rng)
        path = {"intent": "abort"}.get(op, op)
        headers = dict(call_headers(gid, path, next(self.attempt), branch), Connection="close")
        headers.update({"Assent-Hold-Ms": str(hold_ms), "Assent-On-Timeout": "wait",
                        "Assent-Timeout-Ms": "20000"})
        if op == "intent":
            headers["Assent-Intent"] = "true"
        if op == "pre_commit":
            headers["Assent-Peers"] = ",".join("%s=%s/ledger/status" % (
                b, rng.choice(self.replicas[b]).url) for b in BRANCHES if b != branch)
        service = rng.choice(self.replicas[branch])
        try:
            reply = requests.post("%s/ledger/%s" % (service.url, path), headers=headers, json={},
                                  timeout=60)
        except requests.RequestException:
            return None, None
        assert reply.status_code in (200, 409, 503), reply.text
        outcome = reply.json().get("outcome") if reply.content else None
        return reply.status_code, outcome

    def kill(self, rng):
        with self.lock:
            service = rng.choice(self.replicas[rng.choice(BRANCHES)])
            service.kill9()
            service.start()

    def everybody(self, function):
        with ThreadPoolExecutor(N_THREAD) as pool:
            for _ in pool.map(function, random.Random(7).sample(self.txns, N_TXN)):
                pass


@pytest.fixture(scope="module")
def world():
    with Guard() as guard:
        pg = PrivatePostgres(guard)
        yield World(guard, pg.start())


def count(db, sql):
    return db.value("SELECT count(*) FROM assent_participant.branch WHERE " + sql)


def test_they_end_alike(world):
    world.everybody(Txn.run)
    world.everybody(lambda t: t.resume() if t.silent else None)
    assert [(t.gid, t.wrong) for t in world.txns if t.wrong] == []
    # What the network has kept until now finds that it is over.
    late = random.Random(1)
    with ThreadPoolExecutor(N_THREAD) as pool:
        answers = pool.map(lambda t: (t, world.call("red", t.gid, "pre_commit", 0, late)), world.txns)
    for txn, (status, outcome) in answers:
        if status == 409:
            assert outcome == {"commit": "committed", "abort": "aborted"}[txn.decision]
        else:
            assert status in (None, 503)
    for db in world.dbs.values():
        wait_until(lambda db=db: not db.prepared(), 30, "an end of all prepared transactions")
        wait_until(lambda db=db: db.value(LOCKS) == 0, 30, "all locks to go")
        done = {row[0] for row in db.query("SELECT gid FROM entry")}
        assert done == {t.gid for t in world.txns if t.decision == "commit"}
        assert db.value("SELECT count(*) FROM entry") == len(done)
    # It was a storm: some have ended by themselves in either way, and some have been asked to.
    alone = [count(db, "heuristic IS NOT NULL AND decision = '%s'" % word)
             for db in world.dbs.values() for word in ("commit", "abort")]
    assert all(alone), alone
    assert count(world.dbs["red"], "vouched_at IS NOT NULL") > 0
    assert N_TXN / 5 < sum(t.decision == "commit" for t in world.txns) < N_TXN * 4 / 5
