"""kill -9, in every order: nothing that an answer promised is lost, and no branch hears two
decisions. No test sleeps: a participant's answer is held back until the moment has come."""

import json
import os
import random
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.load import QUICK, Load, agreed, alive, crash, told, two
from harness.participant import Answer, Gate
from harness.postgres import connect
from harness.wait import wait_until


def states(txn):
    return {b["id"]: b["state"] for b in txn["branches"]}


def test_after_created(fresh, part, gid):
    hold = Gate()
    part.on("a", "prepare", Answer(gate=hold))
    part.on("b", "prepare", Answer(gate=hold))
    reply = fresh.client.put(gid, two(part))
    part.wait_calls(2)
    assert reply.status == 202 and fresh.state(gid) == "preparing"
    fresh.kill9()
    hold.open()
    crashed = fresh.state(gid)
    fresh.start()
    assert crashed == "preparing"
    txn = fresh.client.ended(gid)
    assert (txn["outcome"], txn["created_at"]) == ("committed", reply["created_at"])
    assert states(txn) == {"a": "committed", "b": "committed"}
    assert len(part.calls("a", "prepare")) == 2
    agreed(part)


def test_what_a_client_sent_survives(fresh, part, gid):
    """Payload bytes, headers, addresses, labels, idempotency: all from the disk."""
    payload = '{"price":19.990,"id":12345678901234567890,"t":"\\u0000\\ud83d\\ude00", "n" : [ 1 ]}'
    branch = part.branch("a", headers={"X-Tenant": "t"}, ops={"commit": part.url("x", "pay")})
    body = json.dumps(two(part, labels={"order": "7"}, branches=[branch, part.branch("b")]))
    body = body.replace('"id": "a",', '"id": "a", "payload": %s,' % payload)
    hold = Gate()
    part.on("b", "prepare", Answer(gate=hold))
    first = fresh.client.put(gid, body)
    part.wait_calls(2)
    crash(fresh)
    hold.open()
    txn = fresh.client.ended(gid)
    assert txn["outcome"] == "committed" and txn["labels"] == {"order": "7"}
    calls = part.calls("a") + part.calls("x")
    assert {(c.op, c.path) for c in calls} == {("prepare", "/a/prepare"), ("pay", "/x/pay")}
    for call in calls:
        assert call.body == payload.encode() and call.headers["X-Tenant"] == "t"
    again = fresh.client.put(gid, body)
    assert again.status == 200 and again["created_at"] == first["created_at"]
    conflict = fresh.client.put(gid, body + " ")
    assert (conflict.status, conflict["code"]) == (422, "gid_conflict")


def test_after_all_votes_before_the_decision_is_durable(fresh, part, gid):
    """The write-ahead rule: as long as the decision is not on the disk nobody hears of it."""
    hold = Gate()
    part.on("b", "prepare", Answer(gate=hold))
    fresh.client.put(gid, two(part))
    part.wait_calls(2)
    lock = connect(fresh.dir + "/s")
    lock.autocommit = False
    try:
        lock.cursor().execute("LOCK TABLE assent.txn IN EXCLUSIVE MODE")
        hold.open()
        wait_until(lambda: fresh.db.value(
            "SELECT count(*) FROM pg_locks WHERE relation = 'assent.txn'::regclass"
            " AND NOT granted") > 0, what="the decision to wait for the lock")
        decision = fresh.client.get("/v1/transactions/%s/decision" % gid)
        assert decision.status == 503 or decision["decision"] == "pending"
        txn = fresh.client.get("/v1/transactions/" + gid)
        assert txn.status == 503 or txn["outcome"] == "pending"
        assert not part.calls(op="commit")
        fresh.kill9()
        assert not part.calls(op="commit")
    finally:
        lock.rollback()
        lock.close()
    fresh.start()
    assert fresh.client.ended(gid)["outcome"] == "committed"
    agreed(part)


@pytest.mark.parametrize("op, outcome", [("commit", "committed"), ("rollback", "aborted")])
def test_after_the_decision_before_any_acknowledgement(fresh, part, gid, op, outcome):
    hold = Gate()
    for name in ("a", "b"):
        part.on(name, op, Answer(gate=hold), Answer(200))
    if op == "rollback":
        part.on("b", "prepare", Answer(409), Answer(200))
    fresh.client.put(gid, two(part))
    part.wait_calls(1, op=op)
    assert fresh.state(gid) == ("committing" if op == "commit" else "aborting")
    crash(fresh)
    decision = fresh.client.decision(gid)["decision"]
    assert decision == ("commit" if op == "commit" else "abort")
    txn = fresh.client.ended(gid)
    assert (txn["outcome"], states(txn)) == (outcome, {"a": outcome, "b": outcome})
    hold.open()
    assert {c.name for c in part.calls(op=op)} == {"a", "b"}
    agreed(part)


def test_after_one_acknowledgement_of_two(fresh, part, gid):
    hold = Gate()
    part.on("b", "commit", Answer(gate=hold), Answer(200))
    fresh.client.put(gid, two(part))
    part.wait_calls(1, "b", "commit")
    part.wait_calls(1, "a", "commit")
    crash(fresh)
    assert fresh.client.ended(gid)["outcome"] == "committed"
    hold.open()
    agreed(part)


def test_after_a_heuristic_finding(fresh, part, gid):
    """Mixed stays mixed: the participant says it only once."""
    hold = Gate()
    part.on("a", "commit", Answer(409, '{"outcome":"aborted"}'), Answer(200))
    part.on("b", "commit", Answer(gate=hold), Answer(200))
    fresh.client.put(gid, two(part))
    wait_until(lambda: fresh.client.txn(gid)["outcome"] == "mixed", what="the finding")
    crash(fresh)
    txn = fresh.client.ended(gid)
    assert (txn["state"], txn["outcome"]) == ("mixed", "mixed")
    assert states(txn) == {"a": "heuristic_aborted", "b": "committed"}
    assert len(part.calls("a", "commit")) == 1
    hold.open()


def test_deadline_passes_while_it_is_down(fresh, part, gid):
    """The deadline is the stored one, not as much time again."""
    hold = Gate()
    part.on("b", "prepare", Answer(gate=hold))
    fresh.client.put(gid, two(part, timeout_ms=600000))
    part.wait_calls(2)
    fresh.kill9()
    fresh.db.query("UPDATE assent.txn SET deadline_at = now() WHERE gid = %s", gid)
    fresh.start()
    txn = fresh.client.ended(gid)
    assert (txn["outcome"], states(txn)) == ("aborted", {"a": "aborted", "b": "aborted"})
    assert {c.name for c in part.calls(op="rollback")} == {"a", "b"}
    hold.open()
    agreed(part)


def test_many_are_loaded(fresh, gid):
    """More than a page of them, and none is left behind: their deadline has passed."""
    fresh.client.put(gid, {"mode": "2pc", "interactive": True})
    fresh.kill9()
    fresh.db.query(
        "INSERT INTO assent.txn (gid, shard, epoch, mode, state, outcome, created_at, deadline_at,"
        "  branch_state, body_sha256, submission, participants)"
        " SELECT gid || '-' || n, n %% 61, epoch, mode, state, outcome, created_at, now(),"
        "  branch_state, body_sha256, submission, participants"
        " FROM assent.txn, generate_series(1, 1300) n WHERE gid = %s", gid)
    fresh.start()
    wait_until(lambda: fresh.db.value(
        "SELECT count(*) FROM assent.transactions WHERE outcome = 'aborted'") == 1300, 60,
        "all of them to be rolled back")


def test_one_phase_is_asked_again(fresh, part, gid):
    """The commit may have happened: no answer is not an abort."""
    hold = Gate()
    part.on("a", "commit", Answer(gate=hold), Answer(200))
    body = {"mode": "2pc", "retry": QUICK, "timeout_ms": 60000, "branches": [part.branch("a")]}
    fresh.client.put(gid, body)
    part.wait_calls(1, "a", "commit")
    crash(fresh)
    assert fresh.client.ended(gid)["outcome"] == "committed"
    assert not part.calls(op="rollback")
    hold.open()


def test_ended_stays_ended(fresh, part, gids):
    done = [gids() for _ in range(20)]
    before = {g: fresh.client.put(g, two(part), wait=10).json for g in done}
    n_calls = len(part.calls())
    crash(fresh)
    for g in done:
        txn = fresh.client.ended(g)
        assert (txn["outcome"], txn["decided_at"]) == ("committed", before[g]["decided_at"])
        assert fresh.client.decision(g)["decision"] == "commit"
    # The record of the end is lazy: the last transactions may have been asked once more.
    assert len(part.calls()) - n_calls <= 4
    agreed(part)


def test_paused_beyond_the_deadline(fresh, part, gid):
    hold = Gate()
    part.on("b", "prepare", Answer(gate=hold))
    fresh.client.put(gid, two(part, timeout_ms=1000))
    part.wait_calls(2)
    fresh.process.pause()
    hold.open()
    wait_until(lambda: fresh.db.value(
        "SELECT now() > deadline_at FROM assent.transactions WHERE gid = %s", gid),
        what="the deadline")
    fresh.process.resume()
    assert fresh.client.ended(gid)["outcome"] in ("committed", "aborted")
    agreed(part)


def test_both_die(fresh, part, gid):
    """The machine goes down: assentd and PostgreSQL at once, then a start from nothing."""
    hold = Gate()
    part.on("a", "commit", Answer(gate=hold), Answer(200))
    fresh.client.put(gid, two(part))
    part.wait_calls(1, "a", "commit")
    postmaster = fresh.postmaster_pid()
    fresh.process.pause()
    os.kill(postmaster, signal.SIGKILL)
    fresh.kill9()
    fresh.db.close()
    wait_until(lambda: not alive(postmaster), what="the postmaster to go")
    fresh.start()
    assert fresh.postmaster_pid() not in (0, postmaster)
    assert fresh.client.ended(gid)["outcome"] == "committed"
    hold.open()
    agreed(part)


def test_postgres_dies_under_load(fresh, part):
    """assentd starts its private PostgreSQL again; until then 503 or waiting, no wrong word."""
    load = Load(fresh, lambda gid: two(part))
    try:
        wait_until(lambda: load.n("committed") >= 20, what="20 commits")
        postmaster = fresh.postmaster_pid()
        os.kill(postmaster, signal.SIGKILL)
        wait_until(lambda: not alive(postmaster), what="the postmaster to go")
        assert fresh.client.get("/livez").status == 200
        wait_until(lambda: fresh.postmaster_pid() not in (0, postmaster), 60, "a new PostgreSQL")
        before = load.n("committed")
        wait_until(lambda: load.n("committed") >= before + 20, 60, "20 more commits")
    finally:
        load.stop()
    assert fresh.process.running()
    load.check(fresh)
    agreed(part)


def test_an_orphan_of_postgres_stays(fresh, part, gid):
    """A backend that waits for a lock of a killed one never notices the end of its postmaster, and
    keeps the memory that a new one needs. Here it is stopped, which comes to the same."""
    orphan = connect(fresh.dir + "/s")
    pid, postmaster = orphan.get_backend_pid(), fresh.postmaster_pid()
    os.kill(pid, signal.SIGSTOP)
    os.kill(postmaster, signal.SIGKILL)
    wait_until(lambda: not alive(postmaster), what="the postmaster to go")
    wait_until(lambda: fresh.postmaster_pid() not in (0, postmaster), 30, "a new PostgreSQL")
    wait_until(lambda: fresh.client.get("/readyz").status == 200, 30, "readiness")
    assert not alive(pid)
    assert fresh.client.put(gid, two(part), wait=20)["outcome"] == "committed"
    orphan.close()


def test_not_ready_without_postgres(fresh, part, gid):
    """While there is no database: livez says ok, readyz says why not, and nothing is promised."""
    fresh.client.put(gid, two(part), wait=10)
    postmaster = fresh.postmaster_pid()
    backends = [r[0] for r in fresh.db.query(
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
        " AND pid <> pg_backend_pid()")]
    os.kill(postmaster, signal.SIGSTOP)
    try:
        # New connections hang at the stopped postmaster; the old ones are cut off.
        for pid in backends:
            fresh.db.query("SELECT pg_terminate_backend(%s)", pid)
        ready = wait_until(lambda: (lambda r: r if r.status == 503 else None)(
            fresh.client.get("/readyz")), what="readyz to notice")
        assert ready["status"] == "not_ready" and ready["checks"]["database"] != "ok"
        assert fresh.client.get("/livez").status == 200
        reply = fresh.client.get("/v1/transactions/never-heard-of/decision", timeout=30)
        assert (reply.status, reply["code"]) == (503, "not_ready"), reply
        reply = fresh.client.put(gid + "-2", two(part))
        assert (reply.status, reply["code"]) == (503, "not_ready"), reply
    finally:
        os.kill(postmaster, signal.SIGCONT)
    wait_until(lambda: fresh.client.get("/readyz").status == 200, 20, "readiness")
    assert fresh.client.put(gid + "-2", two(part), wait=10)["outcome"] == "committed"


def test_backend_dies(fresh, part):
    """The journal's session is terminated: lock and epoch are taken again, nobody notices much."""
    load = Load(fresh, lambda gid: two(part))
    try:
        for _ in range(3):
            before = load.n("committed")
            wait_until(lambda: load.n("committed") >= before + 10, 20, "10 commits")
            fresh.db.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <>"
                           " pg_backend_pid() AND backend_type = 'client backend'")
        before = load.n("committed")
        wait_until(lambda: load.n("committed") >= before + 10, 20, "10 commits")
    finally:
        load.stop()
    assert fresh.process.running()
    load.check(fresh)
    agreed(part)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_drain(fresh, part, gid, signum):
    """Whoever is waiting gets an answer; the work goes on at the next start."""
    hold = Gate()
    part.on("b", "prepare", Answer(gate=hold))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(fresh.client.put, gid, two(part), 60)
        part.wait_calls(2)
        fresh.process.terminate(signum)
        reply = waiting.result(20)
    assert reply.status in (202, 503)
    assert fresh.process.wait(20) == 0
    fresh.db.close()
    assert fresh.postmaster_pid() == 0
    hold.open()
    fresh.start()
    assert fresh.client.ended(gid)["outcome"] == "committed"
    agreed(part)


def test_kill_loop(fresh, part):
    """Fifteen crashes at random moments under load."""
    dice = random.Random(7)
    part.on("no", "prepare", Answer(409))

    def body(gid):
        names = ["a", "no"] if gid.endswith("3") else ["a", "b"]
        return two(part, branches=[part.branch(n) for n in names])
    load = Load(fresh, body)
    try:
        for _ in range(15):
            target = load.n("committed") + dice.randrange(1, 12)
            wait_until(lambda: load.n("committed") >= target, 30, "some commits")
            fresh.kill9()
            fresh.start()
    finally:
        load.stop()
    found = load.check(fresh)
    assert list(found.values()).count("committed") > 15
    for gid, outcome in found.items():
        assert outcome == ("aborted" if gid.endswith("3") else "committed")
    agreed(part)
    assert fresh.db.value("SELECT count(*) FROM assent.txn WHERE ended_at IS NULL") == 0


def test_the_trace_survives(fresh, part, gid):
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    part.on("a", "prepare", Answer(503))
    fresh.client.submit(two(part), method="PUT", gid=gid, headers={"traceparent": trace})
    part.wait_calls(1, "a", "prepare")
    crash(fresh)
    part.on("a", "prepare", Answer(200))
    assert fresh.client.ended(gid)["outcome"] == "committed"
    assert {c.headers.get("traceparent") for c in part.calls(op="commit")} == {trace}
