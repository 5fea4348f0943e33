"""The programs under test: assentd with its private PostgreSQL, and the sample services."""

import os
import signal

from .client import Client
from .contract import ROOT
from .postgres import Database
from .wait import wait_until

BUILD = os.path.abspath(os.path.join(ROOT, os.environ.get("BUILD", "build")))


def binary(name):
    return os.path.join(BUILD, "bin", name)


class Assentd:
    """`assentd --dev`. Keeps its port over restarts, so that addresses stay good."""

    def __init__(self, guard, name="assentd", listen="127.0.0.1:0", args=()):
        self.guard, self.name, self.listen, self.args = guard, name, listen, list(args)
        # The path of a socket must stay below 90 bytes.
        self.dir = guard.path(name)
        self.db = Database(self.dir + "/s")
        self.process = None
        self.client = None

    def spawn(self, *args):
        """Start without waiting until it serves."""
        argv = [binary("assentd"), "--dev", "--dev-dir", self.dir, "--listen", self.listen]
        self.process = self.guard.spawn(self.name, argv + self.args + list(args))
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
    """One of the sample services."""

    def __init__(self, guard, name, conninfo, coordinator, listen="127.0.0.1:0"):
        self.guard, self.name, self.conninfo = guard, name, conninfo
        self.coordinator, self.listen = coordinator, listen
        self.args = []
        self.process = None
        self.url = None

    def start(self):
        argv = [binary(self.name), "--listen", self.listen, "--database", self.conninfo]
        if self.coordinator:
            argv += ["--coordinator", self.coordinator]
        self.process = self.guard.spawn(self.name, argv + self.args)
        self.url = self.process.ready_url()
        self.listen = self.url.split("//")[1]
        return self

    def kill9(self):
        self.process.kill9()

    def pause(self):
        self.process.pause()

    def resume(self):
        self.process.resume()
