"""Ended transactions are forgotten after retention_ms, with all that belongs to them; nothing else."""

import os
import re

import pytest

from harness.contract import ROOT
from harness.participant import Answer
from harness.system import Assentd
from harness.wait import wait_until

DAY = """CREATE TABLE assent.history_20200%s PARTITION OF assent.history
         FOR VALUES FROM ('2020-0%s-%s+00') TO ('2020-0%s-%s+00')"""


@pytest.fixture
def short(guard):
    return Assentd(guard, args=["--retention-ms", "1000"]).start()


def count(assentd, table, gid):
    return assentd.db.value("SELECT count(*) FROM assent.%s WHERE gid = %%s" % table, gid)


def test_what_goes_and_what_stays(short, part):
    api = short.client
    part.on("down", "commit", Answer(503))
    part.on("alone", "commit", Answer(409, '{"outcome":"aborted"}'))
    body = {"mode": "2pc", "labels": {"x": "y"}, "retry": {"initial_ms": 10, "cap_ms": 100}}
    api.put("stuck", dict(body, branches=[part.branch("a"), part.branch("down")]))
    api.put("mixed", dict(body, branches=[part.branch("a"), part.branch("alone")]))
    api.put("done", dict(body, branches=[part.branch("a"), part.branch("b")]), wait=10)
    api.put("joined", {"mode": "2pc", "interactive": True, "branches": []})
    api.request("POST", "/v1/transactions/joined/branches", part.branch("c"))
    assert count(short, "enlisted", "joined") == 1
    api.request("POST", "/v1/transactions/joined/rollback")
    for gid in ("done", "joined"):
        wait_until(lambda g=gid: not count(short, "txn", g), 15, "the purge of " + gid)
        assert count(short, "label", gid) == count(short, "enlisted", gid) == 0
        assert api.get("/v1/transactions/" + gid).status == 404
    assert short.state("mixed") == "mixed" and short.state("stuck") == "committing"
    assert count(short, "label", "mixed") == count(short, "label", "stuck") == 1
    # The rows go before the daemon hears of it.
    wait_until(lambda: short.client.metric("assent_purged_transactions_total") == 2, 15, "the count")
    part.on("down", "commit", Answer(200))
    wait_until(lambda: not count(short, "txn", "stuck"), 15, "the purge of what ended late")


def test_alerts_go_with_what_they_are_about(short, part):
    """Those that are closed, and their members; what is open stays, and so does what a person has to
    see."""
    retry = {"initial_ms": 10, "cap_ms": 100, "alert_after": 1}
    part.on("alone", "commit", Answer(409, '{"outcome":"aborted"}'))
    part.on("down", "commit", *[Answer(503)] * 2, Answer(200))
    part.on("dead", "commit", Answer(500))
    for gid, name in (("mixed", "alone"), ("mended", "down"), ("open", "dead")):
        short.client.put(gid, {"mode": "2pc", "retry": retry, "branches": [
            part.branch("a"), part.branch(name)]})
    for gid in ("mended", "mixed", "open"):
        wait_until(lambda g=gid: count(short, "alert", g) or g == "mended", 10, "the alert of " + gid)
    wait_until(lambda: not count(short, "txn", "mended"), 15, "the purge of what was mended")
    assert count(short, "alert_member", "mended") == 0
    wait_until(lambda: not count(short, "alert", "mended"), 15, "the purge of its alert")
    for gid in ("mixed", "open"):
        assert count(short, "alert", gid) == count(short, "alert_member", gid) == 1
    # A person closes it as the README says, and it leaves the figures.
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as f:
        close = re.search(r"`(UPDATE assent.alert .* id = )17`", f.read()).group(1)
    mixed = short.client.get("/v1/admin/alerts", query={"kind": "heuristic"})["alerts"][0]
    short.db.query(close + mixed["id"] + " RETURNING 1")
    wait_until(lambda: not short.client.metric('assent_alerts_open{kind="heuristic"}'), 15,
               "the figure of open alerts")
    wait_until(lambda: not count(short, "alert", "mixed"), 15, "the purge of the closed one")
    assert short.state("mixed") == "mixed"


def test_many_and_history(short):
    """More than a batch, behind some that stay; days of history go whole, the oldest first."""
    for first, last in (("03", "04"), ("04", "05")):
        short.db.query(DAY % ("1" + first, 1, first, 1, last) + "; SELECT 1")
    short.db.query("""
        INSERT INTO assent.txn (gid, shard, epoch, mode, state, outcome, created_at, deadline_at,
          decided_at, ended_at, branch_state, body_sha256, submission)
        SELECT 'g' || n, n % 64, 0, 1, 5, CASE WHEN n % 3 = 0 THEN 3 ELSE 1 END, t, t, t,
          CASE WHEN n % 3 < 2 THEN t END, '\\x0404', '', ''
        FROM generate_series(1, 6000) AS n, LATERAL (SELECT now() - n * interval '1 s' AS t) AS x
        RETURNING 1""")
    for at in ("2020-01-03", "2020-01-04", "2019-01-01"):
        short.db.query("INSERT INTO assent.history (gid, branch, op, attempt, started_at, ended_at,"
                       " verdict, node) VALUES ('g', 'b', 1, 1, %s, %s, 1, 'n') RETURNING 1", at, at)
    wait_until(lambda: short.db.value("SELECT count(*) FROM assent.txn") == 4000, 60, "the purge")
    assert short.db.value("SELECT count(*) FROM assent.txn"
                          " WHERE ended_at IS NOT NULL AND outcome <> 3") == 0
    wait_until(lambda: short.client.metric("assent_purged_history_days_total") == 2, 30, "the days")
    wait_until(lambda: short.db.value("SELECT count(*) FROM assent.history") == 0, 30,
               "what lay outside of the days")
    assert short.db.value("SELECT count(*) FROM pg_class WHERE relname LIKE 'history_2020%%'") == 0
    today = short.db.value("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')")
    assert short.db.value("SELECT to_regclass('assent.history_' || %s) IS NOT NULL", today)


def test_kept_by_default(fresh, part):
    fresh.client.put("g", {"mode": "2pc", "branches": [part.branch("a")]}, wait=10)
    other = Assentd(fresh.guard, name="config", args=["--retention-ms", "999"])
    assert other.spawn().wait(30) != 0
    assert fresh.client.metric("assent_purged_transactions_total") == 0
    assert fresh.client.txn("g")["outcome"] == "committed"
