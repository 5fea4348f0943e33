"""A participant is killed at every SQL statement of every call there is, and called again.

The test is the coordinator: it calls `ledger` (test/sdk/ledger.c), which writes an entry for each
effect of its work, repeats what was not answered, gives up what need not be repeated, and comes
late. In the end there is each effect exactly once, each answer still holds, and nothing is left.

Left out: death before a statement, but for the first of a walk. Nobody can tell it from death after
the statement before, or, if that was answered, from a restart between two calls. (Orders are walked
with it in test_sdk_crash.py.)
"""

import itertools
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from harness.postgres import connect
from harness.pq_crash import LOCKS, WHEN, PqCrash, remove
from harness.process import Exited
from harness.signature import call_headers
from harness.system import BUILD, Service
from harness.wait import wait_until
from harness.walks import walked

# The calls with their answers, and the effects that are there in the end. one_phase is a commit
# without a prepare, cancel+ one that may come after a confirm, and the effect cancel+ one that was
# told of it; the work of an operation with a "!" refuses.
WALKS = {
    "commit": ("prepare=200 prepare=200 commit=200 prepare=200", {"prepare": 1}),
    "rollback": ("prepare=200 rollback=200 prepare=409", {}),
    "refused": ("prepare!=409 rollback=200 prepare!=409", {}),
    "unknown": ("commit=409 rollback=200 prepare=409 commit=409", {}),
    "one phase": ("one_phase=200 rollback=409 one_phase=200", {"commit": 1}),
    "one phase undone": ("rollback=200 one_phase=409", {}),
    "confirm": ("try=200 confirm=200", {"try": 1, "confirm": 1}),
    "cancel": ("try=200 cancel=200 confirm=409 try=200", {"try": 1, "cancel": 1}),
    "cancel a confirm": ("try=200 confirm=200 cancel=409 cancel+=200",
                         {"try": 1, "confirm": 1, "cancel+": 1}),
    "refused confirm": ("try=200 confirm!=409 cancel+=200 confirm=409", {"try": 1, "cancel": 1}),
    "empty cancel": ("confirm=409 cancel=200 try=409 confirm=409", {}),
    "compensate": ("action=200 compensate=200 action=200", {"action": 1, "compensate": 1}),
    "empty compensate": ("compensate=200 action=409", {}),
}
# Asked once, never answered, and undone; then the first call comes a second time, late.
ABANDONED = {"prepare": "rollback", "one_phase": "rollback", "try": "cancel",
             "action": "compensate"}
# What a 409 to these says.
OUTCOME = {"commit": b'"outcome":"aborted"', "confirm": b'"outcome":"aborted"',
           "rollback": b'"outcome":"committed"', "cancel": b'"outcome":"committed"'}

TRIGGER = """
CREATE FUNCTION pass_the_gate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER at_the_end AFTER INSERT ON entry DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION pass_the_gate()"""
WAITING = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
   AND pid <> pg_backend_pid() AND state = 'active' AND wait_event_type IN ('Lock', 'IPC')"""


class Ledger:
    def __init__(self, guard, pg, name, args=()):
        self.service = Service(guard, "ledger", pg.create(name), args=args)
        self.service.program = os.path.join(BUILD, "test", "ledger")
        self.db = self.service.db
        self.crash = PqCrash(guard, self.service)
        self.crash.aim()
        self.service.start()
        self.number = itertools.count(1)
        self.name, self.next_aim, self.aimed_at = name, (0, WHEN[0]), ""
        self.attempts, self.results, self.numbers = Counter(), {}, {}

    # ---- calls ----

    def call(self, gid, op, timeout_ms=20000):
        """Status and body; None when the service died of it."""
        path = "commit" if op == "one_phase" else op.rstrip("!+")
        self.attempts[gid, path] += 1
        headers = dict(call_headers(gid, path, self.attempts[gid, path]), Connection="close")
        headers["Assent-Timeout-Ms"] = str(timeout_ms)
        if op == "one_phase":
            headers["Assent-One-Phase"] = "true"
        if op.endswith("+"):
            headers["Assent-May-Be-Confirmed"] = "true"
        try:
            reply = requests.post("%s/ledger/%s" % (self.service.url, path), headers=headers,
                                  json={"refuse": op.endswith("!")}, timeout=150)
        except requests.ConnectionError:
            self.crash.wait()
            return None
        assert reply.status_code in (200, 409, 503), (gid, op, reply.status_code, reply.text)
        return reply.status_code, reply.content

    def insist(self, gid, op, timeout_ms=20000):
        """As long as it takes; the status."""
        def look():
            answer = self.call(gid, op, timeout_ms)
            if answer is None:
                self.restart()
            return answer if answer and answer[0] != 503 else None
        status, body = wait_until(look, 40, "an answer to %s of %s" % (op, gid))
        if status == 200:
            self.check_result(gid, op, body)
        elif op in OUTCOME:
            assert OUTCOME[op] in body, (op, body)
        return status

    def check_result(self, gid, op, body):
        """The same as before. A prepare's may be lost right after PREPARE TRANSACTION."""
        lost = op == "prepare" and body == b"" and (
            "PREPARE TRANSACTION" in self.aimed_at or "UPDATE" in self.aimed_at)
        if body != self.results.setdefault((gid, op), body) and not lost:
            if self.results[gid, op] == b"":
                self.results[gid, op] = body  # it was lost before, and is found now
            else:
                raise AssertionError("%s of %s: %s, then %s" % (
                    op, gid, self.results[gid, op], body))

    def restart(self):
        self.crash.disarm()
        self.crash.aim(*self.next_aim)
        self.service.kill9()
        self.service.start()

    # ---- walks ----

    def walk(self, run, *args):
        """run() with a death at each place; their number."""
        self.next_aim, self.aimed_at = (0, WHEN[0]), ""
        self.restart()
        self.crash.arm()
        found = run(*args)
        places = [(1, "before")] + list(itertools.product(range(1, len(found) + 1), WHEN[1:]))
        self.next_aim = places[0]
        self.restart()
        for (at, when), self.next_aim in zip(places, places[1:] + [(0, WHEN[0])]):
            self.aimed_at = found[at - 1]
            try:
                self.crash.arm()
                run(*args)
                assert not self.crash.armed(), "it did not die"
            except Exception as e:
                raise AssertionError("killed %s %s: %s" % (when, self.aimed_at, e)) from e
        return len(places)

    def run(self, steps, effects):
        """Each call until it is answered, and the last once more; the statements before that."""
        gid = "%s-%d" % (self.name, next(self.number))
        steps = [step.rsplit("=", 1) for step in steps.split()]
        for op, wanted in steps:
            status = self.insist(gid, op)
            assert status == int(wanted), (op, status)
        found = self.crash.statements()
        assert self.insist(gid, op) == status
        self.check(gid, effects)
        return found

    def abandon(self, op):
        """The first call dies and is not repeated; what undoes it arbitrates. Its statements."""
        gid = "%s-%d" % (self.name, next(self.number))
        answer = self.call(gid, op)
        found = self.crash.statements()
        if answer is None:
            self.restart()
        undone = self.insist(gid, ABANDONED[op])
        late = self.insist(gid, op)
        assert self.insist(gid, ABANDONED[op]) == undone
        entry = {"one_phase": "commit"}.get(op, op)
        if op in ("prepare", "one_phase"):
            assert (undone, late) in ((200, 409), (409, 200))
            assert undone == 200 or op == "one_phase"
            self.check(gid, {entry: 1} if late == 200 else {})
        else:
            assert undone == 200
            self.check(gid, {entry: 1, ABANDONED[op]: 1} if late == 200 else {})
        return found

    def check(self, gid, effects):
        wait_until(lambda: not self.db.prepared(), 20, "an end of all prepared transactions")
        wait_until(lambda: self.db.value(LOCKS) == 0, 20, "all locks to go")
        rows = self.db.query("SELECT op, n FROM entry WHERE gid = %s", gid)
        assert Counter(op for op, _ in rows) == effects, rows
        for op, n in rows:
            told = self.results.get((gid, "one_phase" if op == "commit" else op))
            assert told in (None, b'{"entry" : %d}' % n), (op, n, told)
        facts = self.db.value("SELECT count(*) FROM assent_participant.branch WHERE gid = %s", gid)
        assert facts == 1 or not effects.get("prepare")


# ---- every statement of every call ----

def walk_on(ledger, name):
    if name in WALKS:
        return ledger.walk(ledger.run, *WALKS[name])
    return ledger.walk(ledger.abandon, name.split()[1])


@pytest.fixture(scope="module")
def walks(pg, request):
    yield from walked(request, lambda n: Ledger(pg.guard, pg, "walk%d" % n), walk_on)


@pytest.mark.parametrize("walk", list(WALKS) + ["abandon " + op for op in ABANDONED])
def test_every_statement(walks, walk):
    assert walks.futures[walk].result(300) >= 2 * 5


# ---- while the statement of the call that died still runs ----

class Hold:
    """Makes the ledger's statements wait: `table` its work, `gate` the end of a transaction that
    did work, `standby` a commit that is written already and is not yet seen."""

    def __init__(self, db, kind):
        self.db, self.kind = db, kind
        self.connection = connect(*db.where)
        self.connection.autocommit = kind != "table"
        if kind == "standby":
            self.without_standby()
        else:
            with self.connection.cursor() as cursor:
                cursor.execute("LOCK TABLE entry IN SHARE MODE" if kind == "table" else
                               "SELECT pg_advisory_lock(1)")

    def without_standby(self):
        """Until a commit of our own does wait: the server takes its time to read the setting."""
        self.db.query("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        self.db.query("SELECT pg_reload_conf()")
        with ThreadPoolExecutor(1) as pool:
            for _ in range(1000):
                probe = pool.submit(self.probe)
                wait_until(lambda p=probe: p.done() or self.db.value(WAITING), 20, "a commit")
                if not probe.done():
                    self.db.query("SELECT pg_cancel_backend(%s)", self.connection.info.backend_pid)
                    return
        raise AssertionError("no commit waits for the standby")

    def probe(self):
        with self.connection.cursor() as cursor:
            cursor.execute("CREATE TABLE IF NOT EXISTS probe (); DROP TABLE probe")

    def release(self):
        if self.kind == "standby":
            self.db.query("ALTER SYSTEM RESET synchronous_standby_names")
            self.db.query("SELECT pg_reload_conf()")
        self.connection.close()


# The call that dies and its statement that was sent; what holds this; the call that comes next,
# its answer in the end, and the effects then.
HELD = [
    ("prepare", "INSERT INTO entry", "table", "prepare", 200, {"prepare": 1}),
    ("prepare", "INSERT INTO entry", "table", "rollback", 200, {}),
    ("prepare", "PREPARE TRANSACTION", "gate", "prepare", 200, {"prepare": 1}),
    ("prepare", "PREPARE TRANSACTION", "gate", "rollback", 200, {}),
    ("commit", "COMMIT PREPARED", "standby", "commit", 200, {"prepare": 1}),
    ("commit", "COMMIT PREPARED", "standby", "rollback", 409, {"prepare": 1}),
    ("one_phase", "INSERT INTO entry", "table", "one_phase", 200, {"commit": 1}),
    ("one_phase", "INSERT INTO entry", "table", "rollback", 200, {}),
    ("one_phase", "COMMIT", "gate", "one_phase", 200, {"commit": 1}),
    ("one_phase", "COMMIT", "gate", "rollback", 409, {"commit": 1}),
    ("try", "INSERT INTO entry", "table", "try", 200, {"try": 1}),
    ("try", "INSERT INTO entry", "table", "cancel", 200, {}),
    ("try", "COMMIT", "gate", "try", 200, {"try": 1}),
    ("try", "COMMIT", "gate", "cancel", 200, {"try": 1, "cancel": 1}),
]


@pytest.fixture(scope="module")
def held(pg):
    ledger = Ledger(pg.guard, pg, "held")
    ledger.db.query(TRIGGER)
    return ledger


def number_of(ledger, op, statement):
    """The how-manieth of a call it is."""
    if (op, statement) not in ledger.numbers:
        ledger.numbers[op, statement] = count_to(ledger, op, statement)
    return ledger.numbers[op, statement]


def count_to(ledger, op, statement):
    gid = "clean-%d" % next(ledger.number)
    ledger.next_aim = (0, "sent")
    ledger.restart()
    if op == "commit":
        assert ledger.insist(gid, "prepare") == 200
    ledger.crash.arm()
    assert ledger.insist(gid, op) == 200
    found = [line.split(" ", 1)[1] for line in ledger.crash.statements()]
    if op == "prepare":
        assert ledger.insist(gid, "commit") == 200
    return next(i for i, sql in enumerate(found, 1) if sql.startswith(statement))


@pytest.mark.parametrize("case", HELD, ids=lambda c: "%s-%s-%s" % (c[0], c[2], c[3]))
def test_the_statement_still_runs(held, case):
    """The next call neither waits for ever nor does it twice."""
    op, statement, kind, after, status, effects = case
    held.next_aim = (number_of(held, op, statement), "sent")
    gid = "held-%d" % next(held.number)
    if op == "commit":
        assert held.insist(gid, "prepare") == 200
    held.restart()
    hold = Hold(held.db, kind)
    try:
        held.crash.arm()
        assert held.call(gid, op) is None
        wait_until(lambda: held.db.value(WAITING) == 1, 20, "the statement to wait")
        held.next_aim = (0, "sent")
        held.restart()
        assert held.call(gid, after, timeout_ms=300)[0] == 503
        assert held.db.value(WAITING) == 1 and not effects_of(held, gid)
        with ThreadPoolExecutor(1) as pool:
            patient = pool.submit(held.insist, gid, after, 120000)
            if kind != "standby":
                wait_until(lambda: held.db.value(WAITING) == 2, 20, "the next call to wait")
            hold.release()
            assert patient.result(40) == status
    finally:
        hold.release()
    if after == "prepare":
        assert held.insist(gid, "commit") == 200
    assert held.insist(gid, after) == status
    held.check(gid, effects)


def effects_of(ledger, gid):
    return ledger.db.value("SELECT count(*) FROM entry WHERE gid = %s", gid)


# ---- starting ----

PAYLOAD = {"id": "1", "sku": "tea", "n": 1, "user": 7, "amount": 3}
TABLES = {"order": "orders", "stock": "stock", "account": "account"}


class Start:
    """A sample that is started again and again."""

    def __init__(self, pg, name, database):
        self.service = Service(pg.guard, name, pg.create(database))
        self.crash = PqCrash(pg.guard, self.service)
        self.number = itertools.count(1)

    def clear(self):
        self.service.db.query("DROP SCHEMA IF EXISTS assent_participant CASCADE")
        self.service.db.query("DROP TABLE IF EXISTS " + TABLES[self.service.name])

    def works(self):
        """It starts, and does what it is for."""
        self.crash.aim()
        self.service.start()
        gid = "start-%d" % next(self.number)
        headers = dict(call_headers(gid, "commit"), Connection="close")
        headers["Assent-One-Phase"] = "true"
        reply = requests.post("%s/%s/commit" % (self.service.url, self.service.name),
                              headers=headers, json=dict(PAYLOAD, id=gid), timeout=60)
        assert reply.status_code == 200, reply.text
        self.service.kill9()

    def statements(self):
        self.crash.aim(from_start=True)
        remove(self.crash.log_path)
        self.service.start()
        self.service.kill9()
        return self.crash.statements()

    def dies(self, at, when):
        self.crash.aim(at, when, from_start=True)
        try:
            self.service.start()
        except Exited:
            pass  # or a moment later, of what it does by itself
        self.crash.wait()


@pytest.mark.parametrize("name, first", [
    ("order", True), ("stock", True), ("account", True), ("stock", False)])
def test_killed_at_every_statement_of_a_start(pg, name, first):
    start = Start(pg, name, name + ("_first" if first else "_later"))
    found = start.statements()
    if not first:
        found = start.statements()
    assert len(found) >= (8 if first else 4), found
    for at, when in itertools.product(range(1, len(found) + 1), WHEN):
        if first:
            start.clear()
        try:
            start.dies(at, when)
            start.works()
        except Exception as e:
            raise AssertionError("killed %s %s: %s" % (when, found[at - 1], e)) from e
