"""The programs under test: assentd with its private PostgreSQL, and the sample services."""

import os
import signal
import subprocess

import requests

from .client import Client
from .contract import ROOT
from .postgres import Database
from .wait import wait_until

BUILD = os.path.abspath(os.path.join(ROOT, os.environ.get("BUILD", "build")))


def binary(name):
    return os.path.join(BUILD, "bin", name)


class Assentd:
    """`assentd --dev`. Keeps its port over restarts, so that addresses stay good."""

    # A stopped one's directory. The others begin with a copy of it, which spares each of them the
    # second that initdb and migrate take; with None they make theirs by themselves.
    template = None

    def __init__(self, guard, name="assentd", listen="127.0.0.1:0", args=(), program=None):
        self.guard, self.name, self.listen, self.args = guard, name, listen, list(args)
        self.program = program or binary("assentd")
        self.env = {}
        # The path of a socket must stay below 90 bytes.
        self.dir = guard.path(name)
        self.db = Database(self.dir + "/s")
        self.process = None
        self.client = None

    def spawn(self, *args):
        """Start without waiting until it serves."""
        if self.template and not os.path.exists(self.dir):
            subprocess.run(["cp", "-a", "--reflink=auto", self.template, self.dir], check=True)
        argv = [self.program, "--dev", "--dev-dir", self.dir, "--listen", self.listen]
        self.process = self.guard.spawn(self.name, argv + self.args + list(args), self.env)
        return self.process

    def start(self, *args):
        self.spawn(*args)
        return self.ready()

    def ready(self, deadline_s=30):
        url = self.process.ready_url(deadline_s)
        self.listen = url.split("//")[1]
        self.client = Client(url)
        return self

    @property
    def url(self):
        return self.client.base

    def kill9(self):
        self.process.kill9()

    def stop(self, deadline_s=20):
        """SIGTERM; the exit status."""
        self.process.terminate(signal.SIGTERM)
        status = self.process.wait(deadline_s)
        self.db.close()
        return status

    def postmaster_pid(self):
        """0 while there is no PostgreSQL."""
        try:
            with open(self.dir + "/data/postmaster.pid", encoding="ascii") as f:
                return int(f.readline())
        except (OSError, ValueError):
            return 0

    def database(self, name):
        """A database of that name on the private PostgreSQL, made when it is missing."""
        if not self.db.value("SELECT 1 FROM pg_database WHERE datname = %s", name):
            self.db.query('CREATE DATABASE "%s"' % name)
        return Database(self.dir + "/s", name)

    def state(self, gid):
        """As stored, without asking the daemon; None when unknown."""
        return self.db.value("SELECT state FROM assent.transactions WHERE gid = %s", gid)

    def wait_state(self, gid, *states, deadline_s=10):
        return wait_until(lambda: self.state(gid) in states, deadline_s,
                          lambda: "%s to be %s; it is %s" % (gid, states, self.state(gid)))


class Service:
    """One of the sample services. Keeps its port over restarts."""

    def __init__(self, guard, name, database, listen="127.0.0.1:0", args=(), env=None):
        self.guard, self.name, self.db = guard, name, database
        self.listen, self.args = listen, list(args)
        self.program, self.env = binary(name), env
        self.process = None
        self.url = None

    def start(self):
        self.process = self.guard.spawn(self.name, [
            self.program, "--listen", self.listen, "--database", self.db.conninfo]
            + self.args, self.env)
        self.url = self.process.ready_url()
        self.listen = self.url.split("//")[1]
        return self

    def kill9(self):
        self.process.kill9()

    def pause(self):
        self.process.pause()

    def resume(self):
        self.process.resume()


# What a try leaves behind for its confirm.
HELD = {"order": "SELECT count(*) FROM orders WHERE NOT placed",
        "stock": "SELECT sum(reserved) FROM stock", "account": "SELECT sum(frozen) FROM account"}


class Shop:
    """order, stock, account and coupon, each with a database of its own on assentd's PostgreSQL.
    `suffix` is put behind the databases' names, for shops beside each other."""

    def __init__(self, assentd, listen=("127.0.0.1:0",) * 4, suffix=""):
        guard = assentd.guard
        names = {"order": "orders", "stock": "stock", "account": "account", "coupon": "coupon"}
        databases = {n: assentd.database(d + suffix) for n, d in names.items()}
        self.order, self.stock, self.account, self.coupon = (
            Service(guard, n, databases[n], address) for n, address in zip(names, listen))
        self.services = (self.order, self.stock, self.account, self.coupon)

    def start(self, coordinator):
        for service in (self.stock, self.account):
            service.args = ["--coordinator", coordinator]
        for service in (self.stock, self.account, self.coupon):
            service.start()
        self.order.args = ["--coordinator", coordinator, "--stock", self.stock.url,
                           "--account", self.account.url, "--coupon", self.coupon.url]
        self.order.start()
        return self

    def place(self, order_id, sku="tea", n=1, user=7, amount=10, timeout=40, **more):
        """Status and body of POST /orders."""
        reply = requests.post(self.order.url + "/orders", timeout=timeout, json={
            "id": order_id, "sku": sku, "n": n, "user": user, "amount": amount, **more})
        return reply.status_code, reply.json()

    def orders(self):
        """Rows by id: (sku, n, user, amount). Without those that are only reserved."""
        rows = self.order.db.query("SELECT id, sku, n, user_id, amount FROM orders WHERE placed")
        return {r[0]: tuple(r[1:]) for r in rows}

    def goods(self, sku="tea"):
        return self.stock.db.value("SELECT n FROM stock WHERE sku = %s", sku)

    def balance(self, user=7):
        return self.account.db.value("SELECT balance FROM account WHERE user_id = %s", user)

    def coupons(self, code="SPRING"):
        return self.coupon.db.value("SELECT n FROM coupon WHERE code = %s", code)

    def prepared(self):
        """Names of all prepared transactions, of all their databases."""
        return sum((s.db.prepared() for s in self.services), [])

    def held(self, *services):
        """What waits for a decision, of all if none is named: prepared, reserved or frozen."""
        return [(s.name, what) for s in services or self.services
                for what in s.db.prepared() + [s.db.value(HELD.get(s.name, "SELECT 0"))]
                if what]
