"""A service is killed at every SQL statement of an order: before it is sent, after it was sent and
before its result was taken, and after its result.

Each walk is one service and one kind of order. It first counts the statements of an order in which
nobody dies, then places an order for each place and kills the service there; the service is started
again, the coordinator and the customer repeat what was not answered, and everything must agree.

The walks of one service follow each other; the services are walked at the same time. What account
shares with stock (a refusal, one phase) is walked with stock only. Death before a statement
cannot be told from death after the one before it, but for the answers between two calls: it is
walked where the order is committed.
"""

import itertools
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from harness.client import Client
from harness.guard import Guard
from harness.load import QUICK
from harness.pq_crash import LOCKS, WHEN, PqCrash
from harness.system import Assentd, Shop, binary
from harness.wait import wait_until

TEA, COFFEE, BALANCE, BALANCE_8, COUPONS, DISCOUNT = 100, 50, 1000, 20, 1000, 5
DEADLINE_S = 8  # of an order (samples/order.c), less what a loaded machine may lose

# What a branch refuses. The order's own: there is such an order already.
TOO_MUCH = {"stock": {"sku": "coffee", "n": COFFEE + 1}, "account": {"user": 8, "amount": 26},
            "order": {}}
# The statements a walk has at least: otherwise the shim does not see what the service does.
WALKS = {
    ("order", "committed"): 9, ("order", "refused"): 10, ("order", "undone"): 10,
    ("stock", "committed"): 6, ("stock", "refused"): 7, ("stock", "undone"): 7,
    ("stock", "one_phase"): 4, ("stock", "one_phase_refused"): 4,
    ("account", "committed"): 6, ("account", "undone"): 7,
    ("account", "tcc_committed"): 8, ("account", "tcc_undone"): 8, ("order", "tcc_committed"): 9,
    ("coupon", "saga_committed"): 5, ("coupon", "saga_undone"): 9,
}

WITHOUT_FACTS = """
SELECT gid FROM assent_participant.barrier b WHERE op = 'prepare' AND made_by = 'prepare'
   AND NOT EXISTS (SELECT FROM assent_participant.branch f
                    WHERE (f.gid, f.branch) = (b.gid, b.branch))"""


class Walker:
    """A shop, one of whose services is killed again and again."""

    def __init__(self, assentd, victim):
        self.shop = Shop(assentd, suffix="_" + victim).start(assentd.url)
        self.client = Client(assentd.url)
        self.name, self.victim = victim, getattr(self.shop, victim)
        self.crash = PqCrash(assentd.guard, self.victim, sweep=False)
        self.customer = ThreadPoolExecutor(1)
        self.number = itertools.count(1)
        self.next_aim = None
        self.redeemed = 0  # coupons, in committed sagas
        self.shop.coupon.db.query("UPDATE coupon SET n = %s", COUPONS)
        self.alone = 0  # committed one-phase transactions: 2 tea or 3 of user 7's money each

    def walk(self, flow):
        """Every place of it; their number."""
        self.next_aim = (0, WHEN[0])
        self.restart()
        self.crash.arm()
        found = self.run(flow, False)
        assert len(found) >= WALKS[self.name, flow], found
        places = [(at, when) for at, when in itertools.product(range(1, len(found) + 1), WHEN)
                  if at == 1 or when != "before" or flow == "committed"]
        self.next_aim = places[0]
        self.restart()
        for (at, when), self.next_aim in zip(places, places[1:] + [(0, WHEN[0])]):
            try:
                self.crash.arm()
                self.run(flow, True)
            except Exception as e:
                raise AssertionError("%s killed %s statement %s: %s" % (
                    self.name, when, found[at - 1], e)) from e
        return len(places)

    def restart(self):
        self.crash.disarm()
        self.crash.aim(*self.next_aim)
        self.victim.kill9()
        self.victim.start()

    def revive(self):
        """The next life ends at the next place, once it is armed."""
        self.crash.wait()
        self.restart()

    # ---- one transaction, from its beginning until all is quiet ----

    def run(self, flow, dies):
        """The statements that were counted in it."""
        began = time.monotonic()
        key = "%s-%s-%d" % (self.name, flow, next(self.number))
        place_it = self.run_alone if flow.startswith("one_phase") else self.run_order
        gid, outcome, again = place_it(flow, key, dies)
        wanted = "committed" if flow.endswith(("committed", "one_phase")) else "aborted"
        txn = self.client.ended(gid, 40)
        assert txn["outcome"] == outcome, (txn, outcome)
        if time.monotonic() - began < DEADLINE_S:
            assert outcome == wanted, txn
        found = self.crash.statements()
        assert again() == outcome
        self.redeemed += flow == "saga_committed" and outcome == "committed"
        self.alone += flow.startswith("one_phase") and outcome == "committed"
        self.check_books()
        self.check_answers(gid)
        return found

    def run_order(self, flow, key, dies):
        other = {"account": self.shop.stock}.get(self.name, self.shop.account)
        order = {"n": 2, "amount": 3}
        if "_" in flow:
            order["mode"], flow = flow.split("_")
        if self.name == "coupon":
            order.update(coupon="SPRING", amount=DISCOUNT + 3)
        if flow == "refused":
            order.update(TOO_MUCH[self.name])
        if flow == "undone":
            order.update(TOO_MUCH[other.name])
        if flow == "refused" and self.name == "order":
            self.victim.db.query("INSERT INTO orders VALUES (%s, 'gift', 0, 0, 0)", key)
        parallel = order.get("mode") != "saga"
        if flow == "undone" and parallel:
            other.pause()
        try:
            answer = self.customer.submit(self.insist, key, order)
            if flow == "undone" and parallel:
                self.wait_held(dies)
        finally:
            if flow == "undone" and parallel:
                other.resume()
        if dies and self.crash.armed():
            self.revive()
        return "order-" + key, answer.result(60), lambda: self.insist(key, order)

    def wait_held(self, dies):
        """The other service says no only after the victim has said yes."""
        def look():
            if dies and self.crash.armed() and self.crash.died():
                self.revive()
            return self.shop.held(self.victim)
        wait_until(look, 20, "%s to prepare, or to try" % self.name)

    def insist(self, key, order):
        """As a customer does: again, until the outcome is known."""
        def place():
            try:
                status, body = self.shop.place(key, **order)
            except requests.RequestException:
                return None
            assert status in (201, 202, 409, 503), (status, body)
            return {201: "committed", 409: "aborted"}.get(status)
        return wait_until(place, 40, "an answer to order " + key)

    def run_alone(self, flow, key, dies):
        """A transaction of one branch: it is committed in one phase."""
        payload = {"sku": "tea", "n": 2, "user": 7, "amount": 3}
        if flow == "one_phase_refused":
            payload.update(TOO_MUCH[self.name])
        branch = {"id": self.name, "participant": "%s/%s" % (self.victim.url, self.name),
                  "payload": payload}
        body = {"mode": "2pc", "retry": QUICK, "timeout_ms": 20000, "branches": [branch]}

        def submit():
            return self.client.put(key, body, 40)["outcome"]
        answer = self.customer.submit(submit)
        if dies:
            self.revive()
        return key, answer.result(60), submit

    # ---- what must hold ----

    def check_books(self):
        """The three databases fit each other, and nothing is left behind."""
        shop = self.shop
        wait_until(lambda: not shop.held(), 20, lambda: "an end of %s" % shop.held())
        for service in shop.services:
            wait_until(lambda db=service.db: db.value(LOCKS) == 0, 20,
                       "the locks in the database of %s to go" % service.name)
            assert not service.db.query(WITHOUT_FACTS)
        orders = shop.orders().values()
        tea = sum(n for sku, n, _, _ in orders if sku == "tea")
        money = sum(amount for _, _, user, amount in orders if user == 7)
        assert shop.goods() == TEA - tea - 2 * self.alone * (self.name == "stock")
        assert shop.coupons() == COUPONS - self.redeemed
        money -= DISCOUNT * self.redeemed
        assert shop.balance() == BALANCE - money - 3 * self.alone * (self.name == "account")
        assert (shop.goods("coffee"), shop.balance(8)) == (COFFEE, BALANCE_8)
        committed = {"order-" + key for key, row in shop.orders().items() if row[0] != "gift"}
        for gid in committed:
            assert self.client.txn(gid)["outcome"] == "committed"

    def check_answers(self, gid):
        """Yes, no, or not now: no call was answered as if the service were broken."""
        attempts = self.client.history(gid)["attempts"]
        assert {a["status"] for a in attempts} <= {None, 200, 409, 503}, attempts


class Walks:
    def __init__(self, guard, chosen):
        self.guard = guard
        assentd = Assentd(guard).start()
        self.futures, self.pools = {}, {}
        for victim in dict.fromkeys(v for v, _ in chosen):
            self.pools[victim] = pool = ThreadPoolExecutor(1)
            walker = pool.submit(Walker, assentd, victim)
            for walk in chosen:
                if walk[0] == victim:
                    self.futures[walk] = pool.submit(
                        lambda flow, w=walker: w.result().walk(flow), walk[1])

    def close(self):
        for future in self.futures.values():
            future.cancel()


@pytest.fixture(scope="module")
def walks(request):
    """Those walks that were asked for, under way."""
    chosen = [item.callspec.params["walk"] for item in request.session.items
              if item.module is request.module and hasattr(item, "callspec")
              and "walk" in item.callspec.params]
    with Guard() as guard:
        walks = Walks(guard, chosen)
        yield walks
        walks.close()


@pytest.mark.parametrize("walk", WALKS, ids="-".join)
def test_every_statement(walks, walk):
    assert walks.futures[walk].result(300) > 2 * WALKS[walk]


def test_the_shim_sees_every_statement():
    """The services use no function of libpq that executes and that the shim does not know."""
    used = set()
    for name in ("order", "stock", "account", "coupon"):
        listed = subprocess.run(["nm", "-D", "-u", binary(name)], check=True, capture_output=True,
                                text=True).stdout
        used |= {word for word in listed.split() if word.startswith(
            ("PQexec", "PQprepare", "PQsend", "PQfn", "PQput", "lo_"))}
    assert used == {"PQexec", "PQexecParams", "PQprepare", "PQexecPrepared",
                    "PQsendQueryParams", "PQsendQueryPrepared"}
