"""The checker of `make faults`: nothing to find where nothing is wrong, and every contradiction
that is planted is found under its name, at its transaction."""

import random
import signal
import threading
from itertools import islice

import psycopg2
import pytest

from faults.book import Book, Told
from faults.checker import check, story
from faults.clients import Shopper
from faults.evidence import gather
from faults.injector import schedule
from faults.world import World
from harness.guard import Guard
from harness.wait import wait_until


KINDS = {"one phase", "coordinated", "interactive", "order 2pc", "order 3pc", "order tcc",
         "order saga", "3pc", "3pc wait", "tcc", "tcc undone", "tcc interactive", "saga",
         "saga forward"}
WANTED = {("committed", "coordinated"): 20, ("aborted", "interactive"): 4,
          ("committed", "3pc"): 4, ("committed", "3pc wait"): 4, ("committed", "tcc"): 4, ("aborted", "tcc interactive"): 4, ("committed", "saga"): 4}


class Scene:
    """A system that has worked for a moment and is at rest. Each plant takes transactions that no
    other has touched."""

    def __init__(self, guard):
        self.book = Book()
        self.world = World(guard, self.book)
        stop = threading.Event()
        shoppers = [Shopper(self.world, self.book, random.Random(i), stop) for i in range(6)]
        for shopper in shoppers:
            shopper.start()
        try:
            wait_until(self.enough, 120, "transactions of all kinds")
        finally:
            stop.set()
            for shopper in shoppers:
                shopper.join()
        self.world.settle()
        self.world.at_rest()
        self.found = gather(self.world, self.book)
        self.clean = check(self.world, self.book, self.found)
        self.used = set()

    def enough(self):
        count, plans = self.book.count(), list(self.book.plans.values())
        return (count["committed"] >= 150 and {p.kind for p in plans} == KINDS
                and all(sum(self.fits(p, *wanted) for p in plans) >= n
                        for wanted, n in WANTED.items()))

    def fits(self, plan, outcome, kind):
        return bool(plan.kind == kind and plan.gid and not plan.refused
                    and any(w.service == "stock" for w in plan.works)
                    and self.book.known(plan.handle) == outcome)

    def pick(self, outcome, kind="coordinated"):
        """A plan that ended so, with a branch in stock."""
        for plan in self.book.plans.values():
            if plan.handle not in self.used and self.fits(plan, outcome, kind):
                self.used.add(plan.handle)
                return plan
        raise AssertionError("no %s transaction that is %s" % (kind, outcome))

    def tell(self, plan, what, **told):
        now = self.book.now()
        self.book.tell(plan, Told(now, now, what, told.pop("status", 200), **told))

    def coordinator(self, sql, *args):
        self.world.assentd.db.query(sql, *args)

    def service(self, name, sql, *args):
        self.world.databases[name].query(sql, *args)

    def take(self, work):
        self.service("stock", "UPDATE stock SET n = n - %s WHERE sku = %s", work.amount, work.row)

    def stock_work(self, plan):
        return next(w for w in plan.works if w.service == "stock")


@pytest.fixture(scope="module")
def scene():
    with Guard() as guard:
        scene = Scene(guard)
        yield scene
        scene.world.stop()


def outcome_contradicted(scene):
    plan = scene.pick("committed")
    scene.coordinator("UPDATE assent.txn SET state = 6, outcome = 2 WHERE gid = %s", plan.gid)
    return plan


def outcome_changed(scene):
    plan = scene.pick("committed")
    scene.tell(plan, "decision", more={"decision": "abort", "presumed": False})
    return plan


def stored_and_lost(scene):
    plan = scene.pick("aborted", "interactive")
    scene.coordinator("DELETE FROM assent.txn WHERE gid = %s", plan.gid)
    return plan


def stored_and_denied(scene):
    plan = scene.pick("committed")
    scene.tell(plan, "GET", status=404)
    return plan


def stored_and_presumed(scene):
    plan = scene.pick("committed")
    scene.tell(plan, "decision", more={"decision": "abort", "presumed": True})
    return plan


def went_back(scene):
    plan = scene.pick("committed")
    scene.tell(plan, "GET", state="preparing", outcome="pending")
    return plan


def enlisted_and_lost(scene):
    plan = scene.pick("committed", "interactive")
    scene.tell(plan, "enlist b7", state="active", outcome="pending")
    return plan


def refused_and_enlisted(scene):
    plan = scene.pick("committed", "interactive")
    events = scene.book.told[plan.handle]
    events[:] = [e for e in events if e.what != "enlist b0"]
    scene.tell(plan, "enlist b0", status=409)
    return plan


def unfinished(scene):
    plan = scene.pick("committed")
    scene.coordinator("UPDATE assent.txn SET ended_at = NULL WHERE gid = %s", plan.gid)
    return plan


def effect_lost(scene):
    work = scene.stock_work(plan := scene.pick("committed"))
    scene.service("stock", "DELETE FROM effect WHERE row = %s AND amount = %s", work.row,
                  work.amount)
    return plan


def effect_doubled(scene):
    scene.take(scene.stock_work(plan := scene.pick("committed")))
    return plan


def effect_of_nothing(scene):
    scene.take(scene.stock_work(plan := scene.pick("aborted", "interactive")))
    return plan


def undone_twice(scene):
    """A saga's step is compensated once more."""
    plan = scene.pick("committed", "saga")
    for _ in range(2):
        work = scene.stock_work(plan)
        scene.service("stock", "UPDATE stock SET n = n + %s WHERE sku = %s", work.amount, work.row)
    return plan


def held_and_left(scene):
    """What a try has reserved is not let go."""
    plan = scene.pick("aborted", "tcc interactive")
    work = scene.stock_work(plan)
    scene.service("stock", "UPDATE stock SET reserved = reserved + %s WHERE sku = %s", work.amount,
                  work.row)
    return plan


def barrier_contradicts(scene):
    plan = scene.pick("committed")
    scene.service("stock", "DELETE FROM assent_participant.barrier WHERE gid = %s", plan.gid)
    return plan


def barrier_contradicts_in_tcc(scene):
    plan = scene.pick("committed", "tcc")
    scene.service("stock", "DELETE FROM assent_participant.barrier WHERE gid = %s"
                  " AND op = 'confirm'", plan.gid)
    return plan


def barrier_contradicts_in_saga(scene):
    plan = scene.pick("committed", "saga")
    scene.service("stock", "UPDATE assent_participant.barrier SET made_by = 'compensate'"
                  " WHERE gid = %s", plan.gid)
    return plan


def history_contradicts(scene):
    plan = scene.pick("committed")
    scene.coordinator("INSERT INTO assent.history VALUES (%s, 'b0', 3, 9, now(), now(), 200, 4,"
                      " NULL, 'test')", plan.gid)
    return plan


def history_contradicts_in_tcc(scene):
    plan = scene.pick("committed", "tcc")
    scene.coordinator("INSERT INTO assent.history VALUES (%s, 'b0', 6, 9, now(), now(), 200, 4,"
                      " NULL, 'test')", plan.gid)
    return plan


def mixed(scene):
    plan = scene.pick("committed")
    scene.coordinator("UPDATE assent.txn SET state = 7, outcome = 3 WHERE gid = %s", plan.gid)
    return plan


def mixed_in_3pc(scene):
    """No branch may have ended on a guess."""
    plan = scene.pick("committed", "3pc wait")
    scene.coordinator("UPDATE assent.txn SET state = 7, outcome = 3 WHERE gid = %s", plan.gid)
    return plan


def mixed_without_alert(scene):
    plan = scene.pick("committed", "3pc")
    scene.coordinator("UPDATE assent.txn SET state = 7, outcome = 3 WHERE gid = %s", plan.gid)
    return plan


def barrier_contradicts_in_3pc(scene):
    plan = scene.pick("committed", "3pc")
    scene.service("stock", "DELETE FROM assent_participant.barrier WHERE gid = %s", plan.gid)
    return plan


def effect_lost_in_3pc(scene):
    """The branch has committed in a mixed transaction, and there is nothing of it."""
    plan = scene.pick("committed", "3pc")
    scene.coordinator("UPDATE assent.txn SET state = 7, outcome = 3 WHERE gid = %s", plan.gid)
    work = scene.stock_work(plan)
    scene.service("stock", "DELETE FROM effect WHERE row = %s AND amount = %s", work.row,
                  work.amount)
    return plan


def effect_unexplained(scene):
    scene.service("stock", "UPDATE stock SET n = n - 1 WHERE sku = 'sku1'")


def transaction_unexplained(scene):
    scene.coordinator("INSERT INTO assent.txn SELECT 'of-nobody', shard, epoch, mode, state,"
                      " outcome, created_at, deadline_at, decided_at, ended_at, branch_state,"
                      " body_sha256, submission FROM assent.txn WHERE gid = %s",
                      scene.pick("committed").gid)


def sum_broken(scene):
    scene.service("account", "ALTER TABLE account DISABLE TRIGGER note")
    scene.service("account", "UPDATE account SET balance = balance + 1 WHERE user_id = 101")


def prepared_and_left(scene):
    connection = psycopg2.connect(scene.world.databases["account"].conninfo)
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO effect VALUES ('101', 5, 0); PREPARE TRANSACTION 'left'")
    connection.close()


def lock_left(scene):
    scene.service("order", "SELECT pg_advisory_lock(7480, 1)")


def transaction_left_open(scene):
    scene.open = psycopg2.connect(scene.world.databases["order"].conninfo)
    scene.open.cursor().execute("SELECT 1")


def alert_open(scene):
    scene.coordinator(
        "INSERT INTO assent.alert (kind, severity, participant, error, gid, branch, count, n_open,"
        " first_at, last_at) VALUES ('retrying', 'warning', 'p', 'e', 'g', 'b', 1, 1, now(), now())")


def died(scene):
    scene.world.keepers["stock"].process.popen.send_signal(signal.SIGSEGV)
    wait_until(lambda: scene.book.problems, 20, "the end to be noticed")
    scene.world.all_serve()


def memory(scene):
    scene.world.hwm_max_kib = 100


def descriptors(scene):
    scene.world.fds_max = 1


def log(scene):
    process = scene.world.assentd.guard.processes[0]
    with open(process.err_path, "a", encoding="utf-8") as f:
        f.write("level=error msg=\"event 3 refused in state committing\"\n")


PLANTS = (outcome_contradicted, outcome_changed, stored_and_lost, stored_and_denied,
          stored_and_presumed, went_back, enlisted_and_lost, refused_and_enlisted, unfinished,
          effect_lost, effect_doubled, effect_of_nothing, undone_twice, held_and_left,
          barrier_contradicts, barrier_contradicts_in_tcc, barrier_contradicts_in_saga,
          history_contradicts, history_contradicts_in_tcc, mixed, mixed_in_3pc,
          mixed_without_alert, barrier_contradicts_in_3pc, effect_lost_in_3pc, effect_unexplained,
          transaction_unexplained, sum_broken, prepared_and_left, lock_left,
          transaction_left_open, alert_open, died, memory, descriptors, log)


def test_nothing_is_found(scene):
    assert scene.clean == []


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_found(scene, plant):
    name = plant.__name__.split("_in_")[0].replace("_", " ")
    plan = plant(scene)
    handle = plan.handle if plan else None
    found = gather(scene.world, scene.book)
    findings = check(scene.world, scene.book, found)
    assert any(f.name == name and (plan is None or f.handle == handle) for f in findings), [
        f for f in findings if f.handle == handle]
    if plan:
        assert any("told" in line for line in story(scene.world, scene.book, found, handle))


def test_the_api_is_held_against_the_database(scene):
    plan = scene.pick("committed")
    found = gather(scene.world, scene.book)
    found.api[plan.gid] = ("aborted", "aborted", {})
    findings = check(scene.world, scene.book, found)
    assert any(f.name == "api contradicts" and f.handle == plan.handle for f in findings)


def test_a_seed_replays():
    def first(seed):
        return list(islice(schedule(seed), 500))
    assert first(7) == first(7) != first(8)
