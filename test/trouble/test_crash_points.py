"""The coordinator dies at every named point, under a load that reaches it, and nothing that it had
answered is lost, no participant hears two decisions, and nothing is left behind.

The names come from the binary: a new point is walked without a line here, and fails when the load
of mix.py does not reach it. What needs more than load, or a start, stands in REACH.
"""

import os
import signal
import subprocess

import pytest

from harness.guard import Guard
from harness.load import alive
from harness.mix import ABORTED, KINDS, Mix, Party, fill
from harness.postgres import Database, connect
from harness.system import Assentd, Shop, binary
from harness.wait import wait_until

LOCK_CLASS = 1634956148
QUICK_ENDS = ("pair", "refused", "single", "slow")


def listed():
    lines = subprocess.run([binary("assentd"), "--list-crash-points"], check=True, timeout=10,
                           capture_output=True, text=True).stdout.splitlines()
    return [line.split(None, 1)[0] for line in lines]


POINTS = listed()


class Yard:
    """One coordinator with its data and a shop, for one crash after the other."""

    def __init__(self, guard):
        self.assentd = Assentd(guard).start()
        self.epochs = {}
        self.shop = Shop(self.assentd).start(self.assentd.url)
        fill(self.shop)

    def spawn(self, crash_at=None, *args):
        """In place of the one that runs. It may die before it serves."""
        self.assentd.kill9()
        self.assentd.env = {"ASSENT_CRASH_AT": crash_at} if crash_at else {}
        self.assentd.spawn(*args)

    def start(self, crash_at=None, *args):
        self.spawn(crash_at, *args)
        self.assentd.ready()
        before, self.epochs = self.epochs, dict(self.assentd.db.query(
            "SELECT shard, epoch FROM assent.shard"))
        assert len(self.epochs) == 64
        assert all(self.epochs[shard] > epoch for shard, epoch in before.items())

    def mix(self, party, **options):
        return Mix(self.assentd, party, self.shop, **options)


def die(assentd, point, deadline_s=40):
    """Wait until it has died where it should."""
    wait_until(lambda: not assentd.process.running(), deadline_s,
               lambda: "the crash at %s; last lines:\n%s" % (point, assentd.process.last_lines()))
    assert assentd.process.popen.returncode == -signal.SIGKILL, (
        point, assentd.process.popen.returncode, assentd.process.last_lines())


@pytest.fixture(scope="module")
def yard():
    with Guard() as guard:
        yield Yard(guard)


@pytest.fixture
def party():
    participants = Party()
    yield participants
    participants.close()


@pytest.fixture(scope="module")
def site():
    """A coordinator that dies while its cluster or its tables are made."""
    with Guard() as guard:
        yield Assentd(guard, "site").start()


# --- how a point is reached --------------------------------------------------------------------


def by_load(yard, party, point):
    yard.start(point)
    return yard.mix(party)


def by_parking(yard, party, point):
    yard.start(point)
    return yard.mix(party, kinds=("parked", "pair", "single"))


def by_start(yard, party, point):
    """Dies under load first, so that there is something to recover; then while recovering."""
    yard.start("call.replied:25")
    mix = yard.mix(party)
    die(yard.assentd, "call.replied:25")
    yard.spawn(point)
    return mix


def by_rival(yard, party, point):
    """Somebody else holds one of the locks."""
    yard.start("effects.between:9")
    mix = yard.mix(party)
    die(yard.assentd, "effects.between:9")
    rival = connect(yard.assentd.dir + "/s")
    rival.cursor().execute("SELECT pg_advisory_lock(%d, 7)" % LOCK_CLASS)
    yard.spawn(point)
    die(yard.assentd, point)
    rival.close()
    return mix


def by_refusal(yard, party, point):
    """A constraint that nobody knows of refuses some creations, and the flushes they are in."""
    yard.assentd.db.query(
        "ALTER TABLE assent.txn ADD CONSTRAINT planted CHECK (gid !~ '-slow-') NOT VALID")
    mix = by_load(yard, party, point)
    die(yard.assentd, point)
    yard.assentd.db.query("ALTER TABLE assent.txn DROP CONSTRAINT planted")
    return mix


def by_lost_session(yard, party, point):
    mix = by_load(yard, party, point)
    wait_until(lambda: len(mix.answered()) > 20, 20, "some answers")
    yard.assentd.db.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                          " WHERE application_name = 'assentd journal'")
    return mix


def by_signal(signum, **options):
    def reach(yard, party, point):
        yard.start(point)
        mix = yard.mix(party, **options)
        wait_until(lambda: len(mix.answered()) > 20, 20, "some answers")
        yard.assentd.process.terminate(signum)
        return mix
    return reach


def by_dead_postgres(yard, party, point):
    mix = by_load(yard, party, point)
    wait_until(lambda: len(mix.answered()) > 20, 20, "some answers")
    postmaster = yard.assentd.postmaster_pid()
    os.kill(postmaster, signal.SIGKILL)
    wait_until(lambda: not alive(postmaster), what="the postmaster to go")
    return mix


def by_purge(yard, party, point):
    yard.start(point, "--retention-ms", "5000")
    return yard.mix(party)


REACH = {
    "flush.split": by_refusal,
    "shards.before_unlock": by_rival,
    "shards.before_give_up": by_lost_session,
    "shards.given_up": by_lost_session,
    "drain.begun": by_signal(signal.SIGTERM),
    "drain.before_last_flush": by_signal(signal.SIGTERM),  # waits for what is not ended
    "drain.flushed": by_signal(signal.SIGTERM, kinds=QUICK_ENDS),
    "drain.hung_up": by_signal(signal.SIGTERM, kinds=QUICK_ENDS),
    "dev.stopping": by_signal(signal.SIGTERM, kinds=QUICK_ENDS),
    "dev.stopped": by_signal(signal.SIGTERM, kinds=QUICK_ENDS),
    "dev.relaunched": by_dead_postgres,
    "reload.applied": by_signal(signal.SIGHUP),
}
BY_PLACE = {"park": by_parking, "unpark": by_parking, "recover": by_start, "shards": by_start,
            "partitions": by_start, "purge": by_purge}


def reach_of(point):
    return REACH.get(point) or BY_PLACE.get(point.split(".")[0], by_load)


# --- the walk ----------------------------------------------------------------------------------

MADE = [p for p in POINTS if p.split(".")[0] in ("dev", "migrate") and p not in REACH]
WALKED = [p for p in POINTS if p not in MADE]
# In the middle of a busy life, too.
OFTEN = ("flush.before_send", "flush.before_sync", "flush.sent", "flush.confirmed",
         "flush.between_reports", "submit.recorded", "decision.before_record", "decision.recorded",
         "end.recorded", "end.before_answer", "effects.held_back", "effects.before_release",
         "effects.between", "report.before_answers", "report.answered", "forget.done",
         "call.before_start", "call.started", "call.replied", "call.judged", "call.stepped",
         "answer.before_send", "answer.sent")
AGAIN = [p + (":12" if p in OFTEN else ":3") for p in WALKED
         if reach_of(p) in (by_load, by_parking)]


def test_the_load_itself(yard, party):
    """Without a crash every kind of transaction ends as it should, orders in the shop included."""
    yard.start()
    mix = yard.mix(party)
    wait_until(lambda: len(mix.answered()) > 300 and 201 in mix.orders.values(), 60, "300 answers")
    found = mix.check(yard.assentd)
    ends = {(gid.split("-")[1], txn["outcome"]) for gid, txn in found.items()}
    assert ends == {(k, "aborted" if k in ABORTED else "committed") for k in KINDS}


@pytest.mark.parametrize("point", WALKED + AGAIN)
def test_crash(yard, party, point):
    mix = reach_of(point.split(":")[0])(yard, party, point)
    die(yard.assentd, point)
    if not point.startswith("dev."):
        mix.check_written_ahead(yard.assentd.db)
    yard.start()
    mix.check(yard.assentd)


STARTING = [p for p in WALKED if reach_of(p) is by_start]
# While the first steps after a recovery are taken, with nothing new to do.
RESUMED = ["call.before_start", "call.started:3", "call.judged", "flush.confirmed",
           "flush.between_reports", "decision.recorded", "end.recorded"]
FIRST = ["flush.sent:30", "decision.recorded:9", "effects.before_release:20", "enlist.recorded:9",
         "call.judged:30", "commit.recorded:4"]


@pytest.mark.parametrize("first, second", [
    (FIRST[i % len(FIRST)], second) for i, second in enumerate(STARTING + RESUMED)])
def test_crash_again_while_recovering(yard, party, first, second):
    yard.start(first)
    mix = yard.mix(party)
    die(yard.assentd, first)
    yard.spawn(second)
    die(yard.assentd, second)
    mix.check_written_ahead(yard.assentd.db)
    yard.start()
    mix.check(yard.assentd)


def test_one_crash_after_the_other(yard, party):
    yard.start("effects.between:20")
    mix = yard.mix(party)
    die(yard.assentd, "effects.between:20")
    for point in STARTING:
        yard.spawn(point)
        die(yard.assentd, point)
    yard.start()
    mix.check(yard.assentd)


def tables(assentd):
    return assentd.db.query(
        "SELECT table_name, column_name, data_type FROM information_schema.columns"
        " WHERE table_schema = 'assent' AND table_name !~ '^history_[0-9]' ORDER BY 1, 2")


def raze(assentd):
    """The cluster stays, without assent's database."""
    assentd.kill9()
    assentd.db.close()
    Database(assentd.dir + "/s", "postgres").query("DROP DATABASE assent WITH (FORCE)")


def stop_postgres(assentd):
    assert assentd.stop() == 0


@pytest.mark.usefixtures("unmade")
@pytest.mark.parametrize("point", MADE + [
    "migrate.within_step:2", "migrate.within_step:3", "migrate.after_step:3"])
def test_crash_while_it_is_made(site, yard, party, point):
    wanted = tables(yard.assentd)
    if point in ("dev.initdb_done", "dev.cluster_made"):
        site = Assentd(site.guard, point.split("_")[0])
    elif point == "dev.launched":
        stop_postgres(site)
    else:
        raze(site)
    site.env = {"ASSENT_CRASH_AT": point}
    site.spawn()
    die(site, point, 60)
    site.env = {}
    site.start()
    assert wanted and tables(site) == wanted
    mix = Mix(site, party, kinds=("pair", "grown"))
    wait_until(lambda: len(mix.answered()) > 10, 20, "some answers")
    mix.stop()
    mix.check(site)


# --- who may ask for a crash -------------------------------------------------------------------


@pytest.mark.parametrize("spec, args, said", [
    ("flush.sent", ["--database", "host=/nowhere"], "with --dev only"),
    ("flush.snet", ["--dev"], 'did you mean "flush.sent"?'),
    ("flush.sent:0", ["--dev"], "name:nth"),
])
def test_refused(guard, spec, args, said):
    done = guard.run([binary("assentd"), "--dev-dir", guard.path("never")] + args,
                     env={"ASSENT_CRASH_AT": spec})
    assert done.returncode == 1 and "ASSENT_CRASH_AT" in done.stderr and said in done.stderr
    assert not os.path.exists(guard.path("never"))


def test_every_point_is_described():
    lines = subprocess.run([binary("assentd"), "--list-crash-points"], check=True, timeout=10,
                           capture_output=True, text=True).stdout.splitlines()
    assert len(lines) > 40 and all(len(line.split(None, 1)) == 2 for line in lines)
    assert len(set(POINTS)) == len(POINTS)
    assert not (set(REACH) | set(OFTEN)) - set(POINTS)
