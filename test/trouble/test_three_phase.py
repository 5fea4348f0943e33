"""Three-phase commit with the samples: every process is killed in every state, participants end by
themselves when the coordinator does not come back, and the network is parted.

A state is held by a lock in the database of account: on its table, and can_commit waits; on the row,
and pre_commit waits. What was pre-committed is to be seen as a prepared transaction.
"""

import itertools

import psycopg2
import pytest
import requests

from harness.client import Client
from harness.cluster import Cluster, Node, free_port
from harness.guard import Guard
from harness.partition import Space, Spaced
from harness.postgres import Database, connect
from harness.system import Assentd, Service, Shop
from harness.wait import wait_until

QUICK = {"initial_ms": 20, "cap_ms": 200, "alert_after": 1000}
AMPLE_MS = 60000
# The hold time of a branch is over when a test says so (Story.expire), so that nothing runs out while a
# busy machine gets it where it should be.
DUE = "UPDATE assent_participant.branch SET due_at = now() - interval '1 s' WHERE gid = %s"
N, AMOUNT = 3, 20  # of what there is 100 and 1000
NUMBER = itertools.count(1)


class Yard:
    def __init__(self, assentd, stock, account):
        self.assentd, self.stock, self.account = assentd, stock, account
        self.services = (stock, account)
        for service in self.services:
            service.args = ["--coordinator", assentd.url]
            service.start()

    @property
    def client(self):
        return self.assentd.client


class Story:
    """One transaction about rows of its own."""

    def __init__(self, yard, **members):
        self.yard, number = yard, next(NUMBER)
        self.gid, self.sku, self.user = "story-%d" % number, "sku%d" % number, 100 + number
        self.stock, self.account = yard.services
        self.stock.db.query("INSERT INTO stock (sku, n) VALUES (%s, 100)", self.sku)
        self.account.db.query("INSERT INTO account (user_id, balance) VALUES (%s, 1000)", self.user)
        self.lock = None
        self.body = dict({
            "mode": "3pc", "retry": QUICK, "timeout_ms": AMPLE_MS, "phase_timeout_ms": AMPLE_MS,
            "hold_ms": 2 * AMPLE_MS, "branches": [
                {"id": "stock", "participant": self.stock.url + "/stock",
                 "payload": {"sku": self.sku, "n": N}},
                {"id": "account", "participant": self.account.url + "/account",
                 "payload": {"user": self.user, "amount": AMOUNT}}]}, **members)

    # ---- until a state

    def submit(self):
        assert self.yard.client.put(self.gid, self.body).status == 202

    def wait_state(self, *states):
        self.yard.assentd.wait_state(self.gid, *states, deadline_s=30)

    def hold(self, sql, *args):
        db = self.account.db
        self.lock = connect(db.where[0], db.where[1], port=db.where[3])
        self.lock.autocommit = False
        self.lock.cursor().execute(sql, args or None)

    def let_go(self):
        """Also when it was let go before."""
        if self.lock:
            try:
                self.lock.rollback()
                self.lock.close()
            except psycopg2.Error:
                pass
            self.lock = None

    def prepared(self, service):
        return [n for n in service.db.prepared() if ":%s:" % self.gid in n]

    def wait_prepared(self, service):
        wait_until(lambda: self.prepared(service), 30, "%s to pre-commit" % service.name)

    def asking(self):
        """Stock has said yes, account has been asked."""
        self.hold("LOCK TABLE account IN ACCESS EXCLUSIVE MODE")
        self.submit()
        self.wait_state("asking")
        wait_until(lambda: self.waiting(), 30, "account to be asked")

    def pre_committing(self):
        """Stock has pre-committed, account waits for a lock."""
        self.hold("SELECT FROM account WHERE user_id = %s FOR UPDATE", self.user)
        self.submit()
        self.wait_state("pre_committing")
        self.wait_prepared(self.stock)
        wait_until(lambda: self.waiting(), 30, "account to be at work")

    def pre_committed(self):
        """Both have, and the coordinator stands still and has not heard of it."""
        self.pre_committing()
        self.yard.assentd.process.pause()
        self.let_go()
        self.wait_prepared(self.account)

    def committing(self):
        """Account has committed; stock stands still, and is still to be told."""
        self.pre_committing()
        wait_until(lambda: self.branch_state("stock") == "pre_committed", 30, "stock's answer")
        self.stock.pause()
        self.let_go()
        self.wait_state("committing")
        wait_until(lambda: self.taken()[1] == AMOUNT, 30, "account to commit")

    def waiting(self):
        return self.account.db.value(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND wait_event_type = 'Lock'")

    def branch_state(self, branch):
        return {b["id"]: b["state"] for b in self.yard.client.txn(self.gid)["branches"]}[branch]

    # ---- the end

    def taken(self):
        return (100 - self.stock.db.value("SELECT n FROM stock WHERE sku = %s", self.sku),
                1000 - self.account.db.value(
                    "SELECT balance FROM account WHERE user_id = %s", self.user))

    def expire(self, *services):
        """They have held it for as long as they were asked to."""
        for service in services:
            service.db.query(DUE, self.gid)

    def alone(self, *services):
        """Until none of these holds anything, whoever has ended it."""
        wait_until(lambda: not any(self.prepared(s) for s in services), 40,
                   lambda: "an end of %s" % [self.prepared(s) for s in services])

    def ended(self, outcome):
        txn = self.yard.client.ended(self.gid, 60)
        assert txn["outcome"] == outcome, txn
        self.alone(self.stock, self.account)
        if outcome != "mixed":
            assert self.taken() == {"committed": (N, AMOUNT), "aborted": (0, 0)}[outcome]
        return txn

    def heuristics(self):
        """Branches whose answers said that they had ended without the coordinator."""
        return {a["branch"] for a in self.yard.client.history(self.gid)["attempts"]
                if "ended by itself" in (a["error"] or "")}

    def wait_heuristics(self, *branches):
        """History comes with a later flush."""
        wait_until(lambda: self.heuristics() == set(branches), 20,
                   lambda: "%s to be reported: %s" % (branches, self.heuristics()))

    def alerts(self):
        found = self.yard.client.get("/v1/admin/alerts",
                                     query={"state": "open", "limit": 100})["alerts"]
        return [a for a in found if a["gid"] == self.gid]


@pytest.fixture(scope="module")
def yard():
    with Guard() as guard:
        assentd = Assentd(guard).start()
        shop = Shop(assentd)
        yield Yard(assentd, shop.stock, shop.account)


@pytest.fixture
def story(yard):
    made = []

    def make(**members):
        made.append(Story(yard, **members))
        return made[-1]
    yield make
    for one in made:
        one.let_go()
    for service in yard.services:
        if service.process.running():
            service.resume()
        else:
            service.start()
    if yard.assentd.process.running():
        yard.assentd.process.resume()
    else:
        yard.assentd.start()




@pytest.mark.parametrize("victim", ["assentd", "stock", "account"])
@pytest.mark.parametrize("point", ["asking", "pre_committing", "pre_committed", "committing"])
def test_killed(yard, story, point, victim):
    """It comes back, and the transaction goes on to its end as if nothing had been."""
    one = story()
    getattr(one, point)()
    getattr(yard, victim).kill9()
    one.let_go()  # a service reads its tables when it starts
    getattr(yard, victim).start()
    for process in (yard.assentd.process, one.stock.process):
        process.resume()
    one.ended("committed")
    assert not one.heuristics()


def test_nobody_comes_back(yard, story):
    """Both have pre-committed: they ask each other, and commit. It is told to the coordinator."""
    one = story()
    one.pre_committed()
    yard.assentd.kill9()
    one.expire(one.stock, one.account)
    one.alone(one.stock, one.account)
    assert one.taken() == (N, AMOUNT)
    yard.assentd.start()
    one.ended("committed")
    one.wait_heuristics("stock", "account")


def test_one_was_not_asked_yet(yard, story):
    """Account has not pre-committed when it is asked by stock, and so neither commits."""
    one = story()
    one.pre_committing()
    yard.assentd.kill9()
    one.expire(one.stock)
    one.alone(one.stock)
    one.let_go()
    assert one.taken() == (0, 0)
    yard.assentd.start()
    one.ended("aborted")


@pytest.mark.parametrize("on_timeout", ["wait", "commit"])
def test_the_peer_is_gone_too(yard, story, on_timeout):
    """Stock alone: it waits, or it commits. Then account comes back, which never pre-committed."""
    one = story()
    one.body["branches"][0]["on_timeout"] = on_timeout
    one.pre_committing()
    yard.assentd.kill9()
    one.account.kill9()
    one.let_go()
    one.expire(one.stock)
    if on_timeout == "commit":
        one.alone(one.stock)
        assert one.taken() == (N, 0)
        yard.assentd.start()
        one.account.start()
        # Stock has committed, so account is asked until it has, too.
        one.ended("committed")
        one.wait_heuristics("stock")
    else:
        wait_until(lambda: one.stock.db.value(
            "SELECT due_at > now() FROM assent_participant.branch WHERE gid = %s", one.gid), 20,
            "a look in vain")
        assert one.prepared(one.stock)
        one.account.start()
        one.alone(one.stock)
        assert one.taken() == (0, 0)
        yard.assentd.start()
        one.ended("aborted")


def test_mixed_is_an_alert(yard, story):
    """Stock commits by itself, account is asked to abort by a peer: nobody is at fault, and everybody
    is told."""
    one = story()
    one.pre_committing()
    yard.assentd.kill9()
    one.account.kill9()
    one.let_go()
    one.expire(one.stock)
    one.alone(one.stock)
    one.account.start()
    cluster = yard.assentd.db.value("SELECT id FROM assent.cluster")
    reply = requests.get(one.account.url + "/account/status", timeout=20, params={
        "cluster": cluster, "namespace": "default", "gid": one.gid, "branch": "account"})
    assert (reply.status_code, reply.json()["state"]) == (200, "aborted")
    yard.assentd.start()
    one.ended("mixed")
    assert one.taken() == (N, 0)
    told = wait_until(one.alerts, 20, "an alert")
    assert any("stock" in str(a) or "mixed" in str(a) for a in told), told


# ---- a partition ----

@pytest.fixture(scope="module")
def parted():
    if not Space.possible():
        pytest.skip("network namespaces take root")
    with Space() as space, Guard() as guard:
        pg = Cluster(guard, max_prepared_transactions="20").init().start()
        node = Node(guard, pg.database("assent"), args=[
            "--participant-allow", "http://%s:*,http://%s:*" % (space.hosts[1], space.inside)])
        node.listen = "%s:%d" % (space.hosts[0], free_port())
        node.client = Client("http://" + node.listen)
        node.spawn()
        node.wait_ready()
        databases = {}
        for name in ("stock", "account"):
            pg.sql("CREATE DATABASE " + name)
            databases[name] = Database(pg.socket_dir, name, port=pg.port)
        yield Yard(node, Service(guard, "stock", databases["stock"], space.hosts[1] + ":0"),
                   Spaced(guard, "account", databases["account"], space)), space


# Ample for what comes before the end of the phase, which is waited for.
PHASE_MS = 2500


def end_parted(space, one):
    """Account has ended like stock, without the coordinator, which hears of it in the end."""
    one.alone(one.stock)
    one.expire(one.account)
    one.alone(one.stock, one.account)
    taken = one.taken()
    assert taken in ((0, 0), (N, AMOUNT))
    space.heal()
    one.ended("committed" if taken[0] else "aborted")
    wait_until(lambda: "account" in one.heuristics(), 20, "account's end to be reported")


def test_parted_before_the_decision(parted):
    """Account's answer does not arrive. Stock aborts when the phase is over, and account asks it."""
    yard, space = parted
    one = Story(yard, phase_timeout_ms=PHASE_MS)
    one.pre_committing()
    space.part(space.hosts[0])
    one.let_go()
    end_parted(space, one)


def test_parted_after_the_decision(parted):
    """Stock has been told, account has not: it learns it from stock."""
    yard, space = parted
    one = Story(yard, phase_timeout_ms=PHASE_MS)
    one.pre_committing()
    yard.assentd.process.pause()
    one.let_go()
    one.wait_prepared(one.account)
    space.part(space.hosts[0])
    yard.assentd.process.resume()
    end_parted(space, one)
