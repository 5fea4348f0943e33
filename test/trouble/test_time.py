"""Wall clocks that are set by an hour, at the coordinator, its database and a service: outcomes,
deadlines and retries stay as they were."""

import time
from datetime import datetime, timezone

import pytest

from harness.clock import Clock
from harness.client import Client
from harness.participant import Answer, Gate
from harness.postgres import Database, PrivatePostgres
from harness.system import Service, binary
from harness.tokens import write_secret
from harness.wait import wait_until

HOUR = 3600
BOTH_WAYS = pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["forward", "back"])
QUICK = {"initial_ms": 20, "cap_ms": 200}
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="


class Coordinator:
    """assentd on a PostgreSQL of its own, each with its clock."""

    def __init__(self, guard, args=()):
        self.guard, self.args = guard, list(args)
        self.clock, self.db_clock = Clock(guard, "clock"), Clock(guard, "db-clock")
        self.pg = PrivatePostgres(guard, env=self.db_clock.env).start()
        self.pg.create("assent")
        self.database = Database(self.pg.socket_dir)
        self.listen = "127.0.0.1:0"
        done = guard.run([binary("assentd"), "migrate", "--database", self.database.conninfo])
        assert done.returncode == 0, done.stderr
        self.start()

    def start(self):
        self.process = self.guard.spawn("assentd", [
            binary("assentd"), "--database", self.database.conninfo, "--listen", self.listen,
            "--allow-unauthenticated", "--participant-allow", "http://loopback:*"] + self.args,
            env=self.clock.env)
        url = self.process.ready_url()
        self.listen = url.split("//")[1]
        self.client = Client(url)

    def crash(self):
        self.process.kill9()
        self.start()
        wait_until(lambda: self.client.get("/readyz").status == 200, 20, "readiness")


def two(part, a, b, **members):
    return dict({"mode": "2pc", "retry": QUICK, "timeout_ms": 60000,
                 "branches": [part.branch(a), part.branch(b)]}, **members)


def begin(api, part, gid, timeout_ms):
    api.put(gid, {"mode": "2pc", "interactive": True, "timeout_ms": timeout_ms})
    reply = api.request("POST", "/v1/transactions/%s/branches" % gid, part.branch("i"))
    assert reply.status == 200, reply


def commit(api, gid):
    reply = api.request("POST", "/v1/transactions/%s/commit" % gid, headers={"Prefer": "wait=20"})
    return reply["outcome"]


def seconds_off(text):
    then = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return abs((then - datetime.now(timezone.utc)).total_seconds())


class Phases:
    """A transaction in every phase in which time says what comes next."""

    def __init__(self, api, part, gids):
        self.api, self.part = api, part
        self.votes, self.hangs = Gate(), Gate()
        part.on("hangs", "prepare", Answer(gate=self.hangs))
        part.on("votes", "prepare", Answer(gate=self.votes))
        # Long enough to be parked, at a participant that goes on answering others.
        part.on("later", "commit", Answer(503, headers={"Retry-After": "4"}), Answer())
        part.on("fails", "commit", *[Answer(500)] * 4, Answer())
        self.late, self.voting, self.retried, self.alerted, self.active, self.left = (
            gids() for _ in range(6))
        self.since = time.monotonic()
        api.put(self.late, two(part, "hangs", "b", timeout_ms=3000))
        begin(api, part, self.left, 3000)
        begin(api, part, self.active, 60000)
        api.put(self.voting, two(part, "votes", "b"))
        api.put(self.retried, two(part, "later", "b"))
        api.put(self.alerted, two(part, "fails", "b", retry=dict(
            QUICK, initial_ms=300, cap_ms=300, factor=1, alert_after=3)))
        part.wait_calls(1, "hangs", "prepare")
        part.wait_calls(1, "votes", "prepare")
        part.wait_calls(1, "later", "commit")
        part.wait_calls(1, "fails", "commit")
        wait_until(lambda: api.metric("assent_transactions_parked") == 1, 20, "it to be parked")

    def deadlines(self, at_least=2.9):
        for gid in (self.late, self.left):
            assert self.api.ended(gid, 30)["outcome"] == "aborted"
        if at_least:
            assert time.monotonic() - self.since >= at_least

    def rest(self):
        """What has time goes on to its end."""
        assert self.api.txn(self.voting)["state"] == "preparing"
        assert self.api.txn(self.active)["state"] == "active"
        self.votes.open()
        self.hangs.open()
        assert commit(self.api, self.active) == "committed"
        for gid in (self.voting, self.retried, self.alerted):
            assert self.api.ended(gid, 30)["outcome"] == "committed"
        first, second = self.part.wait_calls(2, "later", "commit", deadline_s=30)
        assert second.at - first.at >= 3.9

    def retries(self):
        calls = self.part.wait_calls(5, "fails", "commit", deadline_s=30)
        # A quarter of 0.3 s may be taken off; none was skipped or made at once.
        assert all(b.at - a.at > 0.2 for a, b in zip(calls, calls[1:]))

    def close(self):
        self.votes.open()
        self.hangs.open()


@BOTH_WAYS
def test_the_coordinators_clock(guard, part, gids, jump):
    """And that of a restarted one, which never knew another."""
    secret = write_secret(guard.path("secret"), SECRET)
    coordinator = Coordinator(guard, ["--signing-secret-file", secret])
    stock_db = Database(coordinator.pg.socket_dir, "stock")
    coordinator.pg.create("stock")
    stock = Service(guard, "stock", stock_db, args=["--secret-file", secret]).start()
    for restart in (False, True):
        api = coordinator.client
        phases = Phases(api, part, gids)
        coordinator.clock.set(jump)
        if restart:
            coordinator.crash()
            phases.api = api = coordinator.client
        else:
            phases.retries()
        phases.deadlines()
        phases.rest()
        # A participant whose clock is right takes what was signed.
        signed = {"mode": "2pc", "branches": [
            {"id": "s", "participant": stock.url + "/stock", "payload": {"sku": "tea", "n": 1}},
            part.branch("b")]}
        gid = gids()
        assert api.put(gid, signed, wait=20)["outcome"] == "committed"
        attempts = wait_until(lambda: [a for a in api.history(gid)["attempts"]] or None, 10)
        assert all(seconds_off(a["started_at"]) < 600 for a in attempts)
        assert all(seconds_off(a["ended_at"]) < 600 for a in attempts)
        assert seconds_off(api.txn(gid)["created_at"]) < 600
        for known in api.get("/v1/admin/participants")["participants"]:
            assert known["latency"]["p99_ms"] < 60000
        wait_until(lambda: api.metric('assent_alerts_open{kind="exhausted"}') == 0, 30)
        for op in ("prepare", "commit"):
            part.on("hangs", op, Answer())
        part.forget()
        coordinator.clock.set(0)


@BOTH_WAYS
def test_the_databases_clock(guard, part, gids, jump):
    """It is what deadlines are stored in."""
    coordinator = Coordinator(guard)
    api = coordinator.client
    phases = Phases(api, part, gids)
    coordinator.db_clock.set(jump)
    phases.retries()
    phases.deadlines()
    phases.rest()
    part.forget()

    # Loaded anew: what had not much time left has not got an hour more, and what was set forward
    # past its deadline is rolled back; a decision stays what it is.
    coordinator.db_clock.set(0)
    coordinator.crash()
    api = coordinator.client
    hold = Gate()
    part.on("c", "commit", Answer(503), Answer(503, gate=hold), Answer())
    decided, hangs, left, gate = gids(), gids(), gids(), Gate()
    part.on("hangs", "prepare", Answer(gate=gate))
    api.put(decided, two(part, "c", "b"))
    api.put(hangs, two(part, "hangs", "b", timeout_ms=6000))
    begin(api, part, left, 6000)
    part.wait_calls(2, "c", "commit")
    part.wait_calls(1, "hangs", "prepare")
    coordinator.db_clock.set(jump)
    coordinator.crash()
    api = coordinator.client
    since = time.monotonic()
    hold.open()
    assert api.ended(decided, 20)["outcome"] == "committed"
    for gid in (hangs, left):
        assert api.ended(gid, 30)["outcome"] == "aborted"
    assert time.monotonic() - since < 25
    gate.open()


@BOTH_WAYS
@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
def test_a_services_clock(guard, part, gids, jump, signed):
    """Without signatures it means nothing to a service. With them it refuses what seems old, until
    its clock is right; what was decided is then carried out."""
    secret = write_secret(guard.path("secret"), SECRET)
    coordinator = Coordinator(guard, ["--signing-secret-file", secret] if signed else [])
    api = coordinator.client
    clock = Clock(guard, "service-clock")
    coordinator.pg.create("stock")
    stock = Service(guard, "stock", Database(coordinator.pg.socket_dir, "stock"),
                    args=["--secret-file", secret] if signed else [], env=clock.env).start()
    gate = Gate()
    part.on("b", "prepare", Answer(gate=gate), Answer())

    def body(n):
        return {"mode": "2pc", "retry": QUICK, "branches": [
            {"id": "s", "participant": stock.url + "/stock", "payload": {"sku": "tea", "n": n}},
            part.branch("b")]}

    before, after = gids(), gids()
    api.put(before, body(1))
    wait_until(stock.db.prepared, 20, "the prepare")
    clock.set(jump)
    gate.open()
    if signed:
        wait_until(lambda: api.txn(before)["branches"][0]["last_error"], 20, "a refusal")
        assert api.txn(before)["outcome"] == "committed"
        assert api.metric('assent_alerts_raised_total{kind="contract"}') == 1
        # It does not end: its rollback is refused, too.
        assert api.put(after, body(2)).status == 202
        wait_until(lambda: api.txn(after)["outcome"] == "aborted", 20, "the refusal to count")
        clock.set(0)
    else:
        assert api.put(after, body(2), wait=20)["outcome"] == "committed"
    for gid in (before, after):
        api.ended(gid, 30)
    assert not stock.db.prepared()
    assert stock.db.value("SELECT n FROM stock WHERE sku = 'tea'") == (99 if signed else 97)
