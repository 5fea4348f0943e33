"""What the samples do for each call under TCC and in a saga: the test is the coordinator."""

import itertools
import os

import pytest
import requests

from harness.guard import Guard
from harness.postgres import PrivatePostgres
from harness.signature import call_headers
from harness.system import BUILD, Service
from harness.wait import wait_until

PAYLOADS = {"stock": {"sku": "tea", "n": 2}, "account": {"user": 7, "amount": 30},
            "coupon": {"code": "SPRING"},
            "order": {"id": "1", "sku": "tea", "n": 2, "user": 7, "amount": 30}}
LOOK = {"stock": "SELECT n, reserved FROM stock WHERE sku = 'tea'",
        "account": "SELECT balance, frozen FROM account WHERE user_id = 7",
        "coupon": "SELECT n FROM coupon WHERE code = 'SPRING'",
        "order": "SELECT count(*)::int, (count(*) FILTER (WHERE placed))::int FROM orders"}
NUMBER = itertools.count(1)
# The tables as the samples made them when there was two-phase commit only.
FORMER = {
    "stock": "CREATE TABLE stock (sku text PRIMARY KEY, n int NOT NULL CHECK (n >= 0));"
             "INSERT INTO stock VALUES ('tea', 7)",
    "account": "CREATE TABLE account (user_id bigint PRIMARY KEY, balance bigint NOT NULL"
               " CHECK (balance >= 0)); INSERT INTO account VALUES (7, 70)",
    "order": "CREATE TABLE orders (id text PRIMARY KEY, sku text NOT NULL, n int NOT NULL,"
             " user_id bigint NOT NULL, amount bigint NOT NULL,"
             " created_at timestamptz NOT NULL DEFAULT now());"
             "INSERT INTO orders VALUES ('old', 'tea', 1, 7, 10)"}


class Sample:
    def __init__(self, guard, pg, name, database=None):
        self.name = name
        self.service = Service(guard, name, database or pg.create(name)).start()

    def call(self, gid, op, payload=None):
        """Status and JSON; an op with a + may come after a confirm."""
        headers = call_headers(gid, op.rstrip("+"), branch=self.name)
        if op.endswith("+"):
            headers["Assent-May-Be-Confirmed"] = "true"
        if headers["Assent-Mode"] == "3pc":
            headers["Assent-Hold-Ms"] = "60000"
        url = "%s/%s/%s" % (self.service.url, self.name, op.rstrip("+"))
        reply = requests.post(url, headers=headers, json=payload or PAYLOADS[self.name], timeout=60)
        return reply.status_code, reply.json() if reply.content else None

    def look(self):
        return self.service.db.query(LOOK[self.name])[0]


@pytest.fixture(scope="module")
def samples():
    with Guard() as guard:
        pg = PrivatePostgres(guard).start()
        yield dict({name: Sample(guard, pg, name) for name in PAYLOADS}, pg=pg)


# After each call, what was there before plus this.
@pytest.mark.parametrize("name, steps", [
    ("stock", [("try", (0, 2)), ("confirm", (-2, 0)), ("cancel+", (0, 0))]),
    ("stock", [("try", (0, 2)), ("cancel", (0, 0))]),
    ("stock", [("action", (-2, 0)), ("compensate", (0, 0))]),
    ("account", [("try", (0, 30)), ("confirm", (-30, 0)), ("cancel+", (0, 0))]),
    ("account", [("try", (0, 30)), ("cancel", (0, 0))]),
    ("account", [("action", (-30, 0)), ("compensate", (0, 0))]),
    ("stock", [("can_commit", (0, 0)), ("pre_commit", (0, 0)), ("do_commit", (-2, 0))]),
    ("stock", [("can_commit", (0, 0)), ("pre_commit", (0, 0)), ("abort", (0, 0))]),
    ("account", [("can_commit", (0, 0)), ("pre_commit", (0, 0)), ("do_commit", (-30, 0))]),
    ("account", [("can_commit", (0, 0)), ("abort", (0, 0))]),
    ("coupon", [("action", (-1,)), ("compensate", (0,))]),
    ("order", [("try", (1, 0)), ("confirm", (1, 1)), ("cancel+", (0, 0))]),
    ("order", [("try", (1, 0)), ("cancel", (0, 0))]),
    ("order", [("action", (1, 1)), ("compensate", (0, 0))]),
    ("order", [("can_commit", (0, 0)), ("pre_commit", (0, 0)), ("do_commit", (1, 1))]),
], ids=lambda value: value if isinstance(value, str) else "-".join(op for op, _ in value))
def test_each_step_once(samples, name, steps):
    sample, gid = samples[name], "g%d" % next(NUMBER)
    before = sample.look()
    for op, change in steps:
        first = sample.call(gid, op)
        assert first[0] == 200 and sample.call(gid, op) == first
        assert sample.look() == tuple(map(sum, zip(before, change)))


def test_what_is_reserved_is_taken(samples):
    stock, gid = samples["stock"], "g%d" % next(NUMBER)
    assert stock.call(gid, "try", {"sku": "coffee", "n": 49})[0] == 200
    for op in ("try", "action", "prepare", "can_commit", "pre_commit"):
        status, body = stock.call(gid + op, op, {"sku": "coffee", "n": 2})
        assert (status, body) == (409, {"reason": "not enough coffee"})
    assert stock.call(gid, "cancel", {"sku": "coffee", "n": 49})[0] == 200
    assert stock.call(gid + "again", "action", {"sku": "coffee", "n": 2})[0] == 200


def test_what_is_frozen_cannot_be_spent(samples):
    account, gid = samples["account"], "g%d" % next(NUMBER)
    assert account.call(gid, "try", {"user": 8, "amount": 15})[0] == 200
    for op in ("try", "action", "prepare", "can_commit", "pre_commit"):
        status, body = account.call(gid + op, op, {"user": 8, "amount": 6})
        assert (status, body) == (409, {"reason": "not enough money on the account of user 8"})
    # 20 without a discount
    assert account.call(gid + "d", "action", {"user": 8, "amount": 8, "discount": 3})[0] == 200
    assert account.call(gid + "d", "compensate", {"user": 8, "amount": 8, "discount": 3})[0] == 200
    assert account.call(gid, "cancel", {"user": 8, "amount": 15})[0] == 200
    assert account.call(gid + "all", "try", {"user": 8, "amount": 20})[0] == 200
    assert account.call(gid + "all", "cancel", {"user": 8, "amount": 20})[0] == 200


def test_the_last_coupon(samples):
    coupon, gid, last = samples["coupon"], "g%d" % next(NUMBER), {"code": "LAST"}
    assert coupon.call(gid, "action", last) == (200, {"discount": 20})
    assert coupon.call(gid + "x", "action", last) == (409, {"reason": "no coupon LAST"})
    assert coupon.call(gid + "x", "compensate", last)[0] == 200
    assert coupon.call(gid + "y", "action", last)[0] == 409
    assert coupon.call(gid, "compensate", last)[0] == 200
    assert coupon.call(gid + "z", "action", last) == (200, {"discount": 20})
    assert coupon.call(gid + "u", "action", {"code": "no"})[0] == 409


@pytest.mark.parametrize("name", FORMER)
def test_a_table_of_former_times(samples, name):
    """It gets what was added since, and keeps what it has."""
    pg = samples["pg"]
    database = pg.create("former_" + name)
    database.query(FORMER[name])
    sample, gid = Sample(pg.guard, pg, name, database), "g%d" % next(NUMBER)
    before, payload = sample.look(), dict(PAYLOADS[name], id="new")
    assert before == {"stock": (7, 0), "account": (70, 0), "order": (1, 1)}[name]
    assert sample.call(gid, "try", payload)[0] == 200
    assert sample.call(gid, "confirm", payload)[0] == 200
    assert sample.look() == {"stock": (5, 0), "account": (40, 0), "order": (2, 2)}[name]
    sample.service.kill9()
    sample.service.start()
    assert sample.look() == {"stock": (5, 0), "account": (40, 0), "order": (2, 2)}[name]
    sample.service.kill9()


def test_in_vain_is_said_once(samples):
    """The coordinator's address is wrong: one line, however often the sweep asks."""
    pg = samples["pg"]
    service = Service(pg.guard, "stock", pg.create("in_vain"),
                      args=["--coordinator", "http://127.0.0.1:1"]).start()
    reply = requests.post(service.url + "/stock/prepare", json=PAYLOADS["stock"], timeout=60,
                          headers=call_headers("in-vain", "prepare"))
    assert reply.status_code == 200
    for _ in range(3):
        service.db.query("UPDATE assent_participant.branch SET due_at = now() - interval '1 s'")
        wait_until(lambda: service.db.value("SELECT due_at > now() FROM assent_participant.branch"),
                   60, "the sweep to look at it")
    said = service.process.stderr()
    service.kill9()
    assert said.count("no decision from http://127.0.0.1:1: ") == 1, said


def test_peers_elsewhere_are_refused(samples):
    """A branch that could not ask the others in the end says no in the beginning."""
    pg = samples["pg"]
    service = Service(pg.guard, "stock", pg.create("elsewhere"), args=[
        "--coordinator", "http://127.0.0.1:1", "--peers", "http://10.1.2.3:4 http://here/x/"]).start()
    for peers, status in (("a=http://here/x/status,b=http://10.1.2.4:4/status", 400),
                          ("a=http://here/x/status,b=http://10.1.2.3:4/status", 200)):
        gid = "elsewhere-%d" % next(NUMBER)
        headers = dict(call_headers(gid, "pre_commit"),
                       **{"Assent-Hold-Ms": "3600000", "Assent-Peers": peers})
        reply = requests.post(service.url + "/stock/pre_commit", json=PAYLOADS["stock"], timeout=60,
                              headers=headers)
        assert reply.status_code == status, reply.text
        assert (status == 200) == any(gid in name for name in service.db.prepared())
        if status == 400:
            assert "http://10.1.2.4:4/status is none of the places" in reply.json()["reason"]
    service.kill9()


def test_a_name_server_is_not_waited_for(samples):
    """One that never answers: the sweep goes on after its time, and the service can be stopped."""
    pg = samples["pg"]
    path = pg.guard.path("names")
    with open(path, "w", encoding="utf-8") as f:
        f.write("hang")
    service = Service(pg.guard, "stock", pg.create("names"), args=["--coordinator", "http://away.test:1"],
                      env={"LD_PRELOAD": os.path.join(BUILD, "test", "names.so"), "NAMES_FILE": path})
    service.start()
    said = "no coordinator at http://away.test:1: no answer in time"
    wait_until(lambda: said in service.process.stderr(), 30, "the service to give up asking")
    service.process.terminate()
    wait_until(lambda: not service.process.running(), 30, "the service to end")
