"""Orders through the real services, and what all their databases hold in the end."""

import os
import random
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from harness.guard import Guard
from harness.load import QUICK
from harness.participant import Answer, Gate
from harness.system import Assentd, Shop
from harness.wait import wait_until

TEA, COFFEE, BALANCE, BALANCE_8 = 100, 50, 1000, 20
MODES = ("2pc", "tcc", "saga")
COUPONS = 10


@pytest.fixture(scope="module")
def world():
    """A coordinator and a shop for the tests that kill nobody."""
    with Guard() as guard:
        assentd = Assentd(guard).start()
        shop = Shop(assentd).start(assentd.url)
        shop.guard = guard
        yield assentd, shop


@pytest.fixture
def shop(world):
    """With full shelves."""
    shop = world[1]
    wait_until(lambda: not shop.held(), what="nothing held")
    refill(shop)
    return shop


def refill(shop, tea=TEA, balance=BALANCE):
    shop.order.db.query("DELETE FROM orders")
    shop.coupon.db.query("UPDATE coupon SET n = CASE code WHEN 'SPRING' THEN %s ELSE 1 END",
                         COUPONS)
    shop.stock.db.query("UPDATE stock SET n = CASE sku WHEN 'tea' THEN %s ELSE %s END", tea, COFFEE)
    shop.account.db.query(
        "UPDATE account SET balance = CASE user_id WHEN 7 THEN %s ELSE %s END", balance, BALANCE_8)


def adds_up(shop, tea=TEA, balance=BALANCE):
    """Goods and money are where the orders say, and nothing hangs in between."""
    wait_until(lambda: not shop.held(), 20, lambda: "an end of %s" % shop.held())
    orders = shop.orders().values()
    assert shop.goods() == tea - sum(n for sku, n, _, _ in orders if sku == "tea")
    assert shop.goods("coffee") == COFFEE - sum(n for sku, n, _, _ in orders if sku == "coffee")
    assert shop.balance(7) == balance - sum(a for _, _, user, a in orders if user == 7)
    assert shop.balance(8) == BALANCE_8 - sum(a for _, _, user, a in orders if user == 8)


@pytest.fixture(params=MODES)
def mode(request):
    """The first is what is meant by an order that says nothing."""
    return {} if request.param == MODES[0] else {"mode": request.param}


def test_committed(world, shop, gid, mode):
    status, body = shop.place(gid, n=2, amount=30, **mode)
    assert (status, body) == (201, {"id": gid, "gid": "order-" + gid, "outcome": "committed"})
    assert shop.orders() == {gid: ("tea", 2, 7, 30)}
    assert (shop.goods(), shop.balance()) == (TEA - 2, BALANCE - 30)
    txn = world[0].client.txn("order-" + gid)
    assert {b["id"]: b["state"] for b in txn["branches"]} == dict.fromkeys(
        ("order", "stock", "account"), "committed")
    adds_up(shop)


@pytest.mark.parametrize("order", [
    {"sku": "coffee", "n": COFFEE + 1}, {"user": 8, "amount": BALANCE_8 + 1}, {"sku": "unknown"},
    {"user": 99}, {"sku": "coffee", "n": COFFEE + 1, "user": 8, "amount": BALANCE_8 + 1}],
    ids=["goods", "money", "sku", "user", "both"])
def test_refused(world, shop, gid, order, mode):
    status, body = shop.place(gid, **order, **mode)
    assert (status, body["outcome"]) == (409, "aborted")
    assert shop.orders() == {}
    assert world[0].client.ended("order-" + gid)["outcome"] == "aborted"
    adds_up(shop)


def test_same_order_twice(shop, gid, mode):
    answers = [shop.place(gid, n=2, amount=30, **mode) for _ in range(3)]
    assert answers == [answers[0]] * 3 and answers[0][0] == 201
    assert shop.place(gid, n=3, amount=30, **mode)[0] == 422
    assert shop.place(gid, n=2, amount=30, **({} if mode else {"mode": "tcc"}))[0] == 422
    assert (shop.goods(), shop.balance()) == (TEA - 2, BALANCE - 30)
    adds_up(shop)


def test_same_order_at_once(shop, gid, mode):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: shop.place(gid, n=2, amount=30, **mode), range(8)))
    assert {a[0] for a in answers} == {201}
    assert (shop.goods(), shop.balance()) == (TEA - 2, BALANCE - 30)
    adds_up(shop)


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"id":"x"}', '{"id":"a b","sku":"tea","n":1,'
                                  '"user":7,"amount":1}', '{"id":"x","sku":"tea","n":-1,"user":7,'
                                  '"amount":1}', '{"id":"x","sku":"tea","n":1,"user":7,'
                                  '"amount":-5}', '{"id":"x","sku":"tea","n":1,"user":7,'
                                  '"amount":1,"mode":"4pc"}', "\x00", '{"id":"\\u0000","sku":"tea"}'])
def test_bad_order(shop, body):
    reply = requests.post(shop.order.url + "/orders", data=body.encode(), timeout=20)
    assert reply.status_code == 400, reply.text
    assert reply.json()["reason"]
    adds_up(shop)


def test_fifty_at_once_on_one_sku(world, shop, gid, mode):
    """They queue for one row; there is tea for 40 of them."""
    refill(shop, tea=40)
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda i: shop.place("%s.%d" % (gid, i), **mode), range(50)))
    outcomes = {"%s.%d" % (gid, i): a for i, a in enumerate(answers)}
    late = [o for o, a in outcomes.items() if a[0] not in (201, 409)]
    for order in late:  # whoever was told "not known yet" asks again
        txn = world[0].client.ended("order-" + order, 30)
        outcomes[order] = (201 if txn["outcome"] == "committed" else 409, None)
    sold = {o for o, a in outcomes.items() if a[0] == 201}
    assert set(shop.orders()) == sold
    assert sold and len(sold) <= 40
    adds_up(shop, tea=40)


def test_a_confirm_is_undone(world, shop, part, gid):
    """Stock and account have confirmed when another branch refuses to."""
    gate = Gate()
    part.on("stubborn", "confirm", Answer(409, gate=gate))
    body = {"mode": "tcc", "on_confirm_failure": "cancel", "branches": [
        {"id": "stock", "participant": shop.stock.url + "/stock",
         "payload": {"sku": "tea", "n": 2}},
        {"id": "account", "participant": shop.account.url + "/account",
         "payload": {"user": 7, "amount": 30}}, part.branch("stubborn")]}
    assert world[0].client.put(gid, body).status == 202
    wait_until(lambda: (shop.goods(), shop.balance()) == (TEA - 2, BALANCE - 30), 20, "confirms")
    gate.open()
    assert world[0].client.ended(gid, 30)["outcome"] == "aborted"
    adds_up(shop)


def test_a_coupon_is_redeemed(world, shop, gid):
    """What its step returned is in the payload of the account's."""
    for _ in range(2):
        assert shop.place(gid, n=2, amount=30, mode="saga", coupon="SPRING")[0] == 201
    assert (shop.goods(), shop.balance(), shop.coupons()) == (TEA - 2, BALANCE - 25, COUPONS - 1)
    assert shop.orders() == {gid: ("tea", 2, 7, 30)}
    assert shop.place(gid + ".x", mode="saga", coupon="none")[0] == 409
    assert shop.place(gid + ".y", mode="2pc", coupon="SPRING")[0] == 400


@pytest.mark.parametrize("order", [
    {"sku": "coffee", "n": COFFEE + 1}, {"user": 8, "amount": BALANCE_8 + 6}],
    ids=["second step", "third step"])
def test_a_coupon_is_given_back(world, shop, gid, order):
    """The steps that were done are undone, the last one first."""
    assert shop.place(gid, mode="saga", coupon="SPRING", **order)[0] == 409
    assert shop.coupons() == COUPONS
    adds_up(shop)
    attempts = world[0].client.history("order-" + gid)["attempts"]
    done, undone = (list(dict.fromkeys(a["branch"] for a in attempts if a["op"] == op))
                    for op in ("action", "compensate"))
    assert undone == done[::-1] and len(done) > 1


def test_forward_goes_on_after_the_deadline(world, shop, gid):
    """The step is asked again until the money is there."""
    client = world[0].client
    body = {"mode": "saga", "recovery": "forward", "timeout_ms": 300, "retry": QUICK, "branches": [
        {"id": "account", "participant": shop.account.url + "/account",
         "payload": {"user": 8, "amount": BALANCE_8 + 1}}]}
    assert client.put(gid, body).status == 202

    def late():
        txn = client.txn(gid)
        assert txn["outcome"] == "pending"
        return [a for a in client.history(gid)["attempts"] if a["started_at"] > txn["deadline_at"]]
    wait_until(late, 20, "an attempt after the deadline")
    shop.account.db.query("UPDATE account SET balance = balance + 1 WHERE user_id = 8")
    assert client.ended(gid, 20)["outcome"] == "committed"
    assert shop.balance(8) == 0


def test_stock_is_killed_after_its_vote(guard, gid):
    assentd = Assentd(guard).start()
    shop = Shop(assentd).start(assentd.url)
    shop.account.pause()
    with ThreadPoolExecutor(1) as pool:
        order = pool.submit(shop.place, gid, n=4, amount=50)
        wait_until(lambda: shop.stock.db.prepared(), what="the vote of stock")
        shop.stock.kill9()
        shop.account.resume()
        shop.stock.start()
        assert order.result(40)[0] == 201
    assert (shop.goods(), shop.balance()) == (TEA - 4, BALANCE - 50)
    adds_up(shop)


def test_stock_is_down_when_it_is_to_roll_back(guard, gid):
    assentd = Assentd(guard).start()
    shop = Shop(assentd).start(assentd.url)
    shop.account.pause()
    with ThreadPoolExecutor(1) as pool:
        order = pool.submit(shop.place, gid, n=4, user=8, amount=BALANCE_8 + 1)
        wait_until(lambda: shop.stock.db.prepared(), what="the vote of stock")
        shop.stock.kill9()
        shop.account.resume()
        assentd.wait_state("order-" + gid, "aborting")
        assert shop.stock.db.prepared() and shop.goods() == TEA
        shop.stock.start()
        assert order.result(40)[0] == 409
    adds_up(shop)


class Customers:
    """They order without pause, each in a mode of his own, and remember what they were told."""

    def __init__(self, shop, n=6):
        self.shop, self.told, self.odd = shop, {}, []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(i,)) for i in range(n)]
        for thread in self._threads:
            thread.start()

    def _run(self, worker):
        dice = random.Random(worker)
        number, mode = 0, MODES[worker % len(MODES)]
        while not self._stop.is_set():
            order = "%d.%d" % (worker, number)
            number += 1
            # Every eighth asks for what user 8 cannot pay.
            user, amount = (8, BALANCE_8 + 1) if number % 8 == 0 else (7, dice.randrange(1, 9))
            try:
                status, body = self.shop.place(order, n=dice.randrange(1, 4), user=user,
                                               amount=amount, mode=mode)
            except (requests.RequestException, ValueError):
                self.told[order] = "lost"
                self._stop.wait(0.05)
                continue
            self.told[order] = {201: "committed", 409: "aborted"}.get(status, "unknown")
            if status not in (201, 202, 409, 503):
                self.odd.append((order, status, body))

    def n(self, outcome="committed"):
        return sum(1 for o in list(self.told.values()) if o == outcome)

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        assert not any(t.is_alive() for t in self._threads)


def check_books(assentd, shop, customers, tea, balance):
    """What clients were told holds in all databases."""
    assert not customers.odd, customers.odd[:3]
    unfinished = "SELECT count(*) FROM assent.txn WHERE ended_at IS NULL"
    wait_until(lambda: assentd.db.value(unfinished) == 0, 60, "the end of all transactions")
    rows = shop.orders()
    for order, told in customers.told.items():
        if told in ("committed", "aborted"):
            assert (order in rows) == (told == "committed"), (order, told)
    stored = dict(assentd.db.query("SELECT gid, outcome FROM assent.transactions"))
    assert {g for g, o in stored.items() if o == "committed"} == {"order-" + o for o in rows}
    assert set(stored.values()) <= {"committed", "aborted"}
    adds_up(shop, tea, balance)


def test_twenty_random_kills(guard):
    """assentd, stock and account are killed in turn under a stream of orders."""
    dice = random.Random(11)
    tea, balance = 100000, 1000000
    assentd = Assentd(guard).start()
    shop = Shop(assentd).start(assentd.url)
    refill(shop, tea, balance)
    customers = Customers(shop)
    try:
        for _ in range(20):
            target = customers.n() + dice.randrange(1, 15)
            wait_until(lambda: customers.n() >= target, 60, "%d orders" % target)
            victim = dice.choice([assentd, shop.stock, shop.account])
            victim.kill9()
            victim.start()
    finally:
        customers.stop()
    check_books(assentd, shop, customers, tea, balance)
    assert customers.n("committed") > 40 and customers.n("aborted") > 2


def test_everything_dies_at_once(guard):
    """Coordinator, services and PostgreSQL, as when the machine goes down."""
    tea, balance = 100000, 1000000
    assentd = Assentd(guard).start()
    shop = Shop(assentd).start(assentd.url)
    refill(shop, tea, balance)
    customers = Customers(shop)
    try:
        for _ in range(2):
            target = customers.n() + 20
            wait_until(lambda: customers.n() >= target, 60, "%d orders" % target)
            postmaster = assentd.postmaster_pid()
            assentd.process.pause()
            os.kill(postmaster, signal.SIGKILL)
            for victim in (assentd,) + shop.services:
                victim.kill9()
            assentd.start()
            for service in shop.services:
                service.start()
    finally:
        customers.stop()
    check_books(assentd, shop, customers, tea, balance)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_services_stop_when_asked(guard, signum):
    assentd = Assentd(guard).start()
    shop = Shop(assentd).start(assentd.url)
    for service in shop.services:
        service.process.terminate(signum)
        assert service.process.wait(20) == 0
