"""More than the node, or a participant, keeps up with: who is refused, who is not, and that what
was taken on is finished."""

import json
import os
import statistics
import subprocess

import psycopg2

from harness.load import two
from harness.participant import Answer, Gate
from harness.process import cpu_seconds
from harness.system import BUILD, Assentd
from harness.wait import wait_until


def noop(guard, *args):
    return guard.spawn("noop", [os.path.join(BUILD, "test", "noop"), *args]).ready_url()


def load_argv(assentd, clients, seconds, *participants):
    return [os.path.join(BUILD, "test", "load"), assentd.url, clients, "0", str(seconds),
            *participants]


def load(assentd, clients, seconds, *participants):
    out = subprocess.run(load_argv(assentd, clients, seconds, *participants), check=True,
                         capture_output=True, text=True, timeout=120).stdout
    return json.loads(out)


def memory_kib(process):
    with open("/proc/%d/status" % process.pid, encoding="ascii", errors="replace") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))


def refused(api, gid, body, **kw):
    reply = api.put(gid, body, **kw)
    if reply.status != 503:
        return None
    assert (reply["code"], reply.headers["Retry-After"]) == ("overloaded", "1"), reply
    return reply["detail"]


def idle(api, deadline_s=30):
    wait_until(lambda: api.metric("assent_transactions_in_flight") == 0, deadline_s,
               lambda: "everything to end; in flight: %s"
               % api.metric("assent_transactions_in_flight"))


class Stall:
    """Nobody can write a transaction: what a full disk queue or a lost standby looks like."""

    def __init__(self, assentd):
        self.connection = psycopg2.connect(assentd.db.conninfo)

    def __enter__(self):
        self.connection.cursor().execute("LOCK TABLE assent.txn IN EXCLUSIVE MODE")
        return self

    def __exit__(self, *_exc):
        self.connection.rollback()
        self.connection.close()


def test_database_that_does_not_keep_up(fresh, part, gid, gids):
    """States wait to be stored. Beyond a crowd that waits too long nobody is taken on; who reads,
    repeats or rolls back is not refused; and nothing that was taken on is lost."""
    api = fresh.client
    fast = noop(fresh.guard)
    api.put(gid, two(part), wait=10)
    memory = memory_kib(fresh.process)
    grown = gids()
    api.put(grown, {"mode": "2pc", "interactive": True})
    with Stall(fresh):
        clients = fresh.guard.spawn("load", load_argv(fresh, "2000@500", 3, fast, fast))
        wait_until(lambda: api.metric("assent_submissions_refused_total") > 0, 30, "a refusal")
        why = refused(api, gids(), two(part))
        assert "this node keeps up with" in why
        assert api.metric("assent_journal_delay_seconds") > 0.5
        # Refused was what came then, not what was in.
        assert api.metric("assent_transactions_in_flight") > 256
        assert memory_kib(fresh.process) < memory + 96 * 1024
        assert api.txn(gid)["outcome"] == "committed"
        assert api.get("/v1/transactions").status == 200
        assert api.get("/v1/admin/overview").status == 200
    assert api.request("POST", "/v1/transactions/%s/rollback" % grown,
                       headers={"Prefer": "wait=10"}).json["outcome"] == "aborted"
    # As soon as the queue is gone.
    wait_until(lambda: refused(api, gids(), two(part), wait=10) is None, 10, "to be taken on")
    assert clients.wait(60) == 0
    told = json.loads(clients.stdout())
    assert told["failed"] == 0 and told["committed"] > 256 and told["refused"] > 0, told
    idle(api)


def test_twice_what_a_participant_takes(guard, gids):
    """Six first calls at a time that take 20 ms: 300 a second. Of twice as many the rest is
    refused at once, and those who do not name it are served as ever."""
    assentd = Assentd(guard, args=["--participant-concurrency", "8"]).start()
    api, slow, fast = assentd.client, noop(guard, "20"), noop(guard)
    peak = load(assentd, "64", 2, slow)["committed"] / 2
    idle(api)
    clients = guard.spawn("load", load_argv(assentd, "1500@%d" % (2 * peak), 5, slow))
    wait_until(lambda: api.metric("assent_submissions_refused_total") > 0, 20, "a refusal")
    memory = []
    # Who is named does not count when its first call goes elsewhere.
    ops = {op: "%s/%s" % (fast, op) for op in ("prepare", "commit", "rollback")}
    while clients.running():
        body = {"mode": "2pc", "branches": [{"id": "x", "participant": fast},
                                            {"id": "y", "participant": slow, "ops": ops}]}
        reply = api.put(gids(), body, wait=10)
        assert reply.status == 200 and reply["outcome"] == "committed", reply
        memory.append(memory_kib(assentd.process))
    assert clients.wait(60) == 0
    told = json.loads(clients.stdout())
    assert told["failed"] == told["other"] == 0, told
    assert told["committed"] / told["seconds"] >= 0.9 * peak, (peak, told)
    # The crowd of 256 that may always wait, and overload_delay_ms, at 300 a second.
    assert told["p99_us"] < 3e6, told
    third = len(memory) // 3
    assert statistics.median(memory[-third:]) < 1.2 * statistics.median(memory[:third]) + 8192
    body = {"mode": "2pc", "branches": [{"id": "x", "participant": slow}]}
    assert api.put(gids(), body, wait=10).status == 200
    idle(api)


def test_more_than_the_node_does(guard, gids):
    """A closed loop shows what the processors do. Of four times as many, or of more if others leave
    the machine, the rest is refused, and a transaction takes no more of their time than before,
    refusals included. Memory stays bounded, and when the crowd has gone nothing is left of it. By
    processor time, because others use these processors too."""
    assentd = Assentd(guard, args=["--overload-delay-ms", "100"]).start()
    api, noops = assentd.client, (noop(guard), noop(guard))
    pids = [assentd.process.pid, assentd.postmaster_pid()]
    pids += [row[0] for row in assentd.db.query("SELECT pid FROM pg_stat_activity")]

    def committed():
        return api.metric('assent_transactions_ended_total{outcome="committed"}')

    def measured(clients, seconds):
        """What the clients were told, and processor time for each that was committed."""
        before, n = cpu_seconds(pids), committed()
        told = load(assentd, clients, seconds, *noops)
        assert told["failed"] == told["other"] == 0, told
        idle(api)
        return told, (cpu_seconds(pids) - before) / (committed() - n)

    def turn(factor, seconds):
        """What it costs in a crowd, to what it costs at the peak right before; 9 if none is refused."""
        peak, cost = measured("64", 1)
        crowd, cost_then = measured("2000@%d" % (factor * peak["committed"]), seconds)
        return cost_then / cost if crowd["refused"] > 0 else 9
    measured("64", 1)
    memory = memory_kib(assentd.process)
    # Whoever else uses the processors can spoil a turn, not all of them.
    turns = []
    for factor, seconds in ((4, 2), (16, 2), (4, 2), (16, 10)):
        turns.append(turn(factor, seconds))
        if turns[-1] < 1 / 0.8:
            break
    assert turns[-1] < 1 / 0.8, turns
    assert memory_kib(assentd.process) < memory + 96 * 1024
    body = {"mode": "2pc", "branches": [{"id": "x", "participant": noops[0]}]}
    assert api.put(gids(), body, wait=10)["outcome"] == "committed"


def test_a_refusal_costs_little(shared, guard, part, gids, gid):
    """At twice what the processor does there is one refusal for each transaction: 90% of the peak
    remain when it takes a ninth of the processor time of one. And who repeats what is in memory is
    not refused, however the request is written."""
    full = Assentd(guard, args=["--in-flight-max", "1"]).start()
    noops = noop(guard), noop(guard)
    gate = Gate()
    part.on("a", "prepare", Answer(gate=gate))
    api = full.client
    body = two(part, gid=gid)
    assert api.put(gid, body).status == 202

    def cost(assentd, what):
        before = cpu_seconds([assentd.process.pid])
        n = load(assentd, "16", 1, *noops)[what]
        return (cpu_seconds([assentd.process.pid]) - before) / n
    assert cost(full, "refused") < cost(shared, "committed") / 9
    # Nobody has read what is wrong with it.
    assert refused(api, gids(), {"mode": "no such mode"}, valid=False)
    for method in ("POST", "PUT"):
        assert api.submit(body, method=method).status == 202
        reply = api.submit(two(part, gid=gids()), method=method)
        assert (reply.status, reply["code"]) == (503, "overloaded"), reply
    gate.open()
    assert api.ended(gid)["outcome"] == "committed"


def test_a_participant_that_hangs_does_not_fill_the_node(guard, part, gids):
    """It may hold a quarter of what fits."""
    api = Assentd(guard, args=["--in-flight-max", "40"]).start().client
    gate = Gate()
    part.on("hangs", "prepare", Answer(gate=gate))
    body = two(part, branches=[part.branch("hangs"), part.branch("a")])
    other = noop(guard)
    held = [gids() for _ in range(11)]
    for gid in held:
        assert api.put(gid, body).status == 202
    part.wait_calls(11, "hangs", "prepare")
    part.wait_calls(11, "a", "prepare")
    assert "wait for the participant of branch hangs" in refused(api, gids(), body)
    healthy = {"mode": "2pc", "branches": [{"id": "x", "participant": other},
                                           {"id": "y", "participant": other}]}
    for _ in range(60):
        assert api.put(gids(), healthy, wait=10)["outcome"] == "committed"
    # Who repeats what is in memory is answered, not refused.
    assert api.put(held[0], body).status == 202
    gate.open()
    for gid in held:
        assert api.ended(gid)["outcome"] == "committed"
    assert api.put(gids(), body, wait=10)["outcome"] == "committed"


def test_memory_for_submissions_is_bounded(guard, part, gids):
    """Each body may be as large as it may be; what all of them take together is bounded."""
    assentd = Assentd(guard, args=["--memory-max", "4194304"]).start()
    api = assentd.client
    gate = Gate()
    part.on("a", "prepare", Answer(gate=gate))
    large = two(part, branches=[part.branch("a", payload="x" * 1_000_000), part.branch("b")])
    grown = gids()
    api.put(grown, {"mode": "2pc", "interactive": True, "timeout_ms": 60000})
    held = []
    while True:
        gid = gids()
        why = refused(api, gid, large)
        if why:
            break
        held.append(gid)
    assert "too much memory" in why and 2 <= len(held) <= 4
    assert api.metric("assent_transactions_bytes") <= 4194304
    # What is small still fits, and what would grow too much does not, without harm to it.
    assert api.put(gids(), two(part, branches=[part.branch("b"), part.branch("c")]),
                   wait=10)["outcome"] == "committed"
    path = "/v1/transactions/" + grown
    enlist = {"id": "b", "participant": part.url("b"), "payload": "x" * 1_000_000}
    reply = api.request("POST", path + "/branches", enlist)
    assert (reply.status, reply["code"]) == (503, "overloaded")
    assert api.request("POST", path + "/branches", part.branch("c")).status == 200
    gate.open()
    for gid in held:
        assert api.ended(gid)["outcome"] == "committed"
    assert api.put(gids(), large, wait=20)["outcome"] == "committed"
    assert api.request("POST", path + "/branches", enlist).status == 200
    assert api.request("POST", path + "/rollback", headers={"Prefer": "wait=10"}).json[
        "outcome"] == "aborted"
    idle(api)
    assert api.metric("assent_transactions_bytes") == 0


def test_memory_for_results_is_counted(fresh, part, gid):
    """What a step answered is kept for those after it, and takes room like the submission."""
    api = fresh.client
    gate = Gate()
    part.on(gid + "/a", "action", Answer(200, '{"text": "%s"}' % ("x" * 12000)))
    part.on(gid + "/b", "action", Answer(200, gate=gate))
    api.put(gid, {"mode": "saga", "timeout_ms": 60000, "branches": [
        part.branch(gid + "/a"),
        part.branch(gid + "/b", payload={"text": "{{steps.a.result.text}}"})]})
    part.wait_calls(1, gid + "/b", "action")
    assert api.metric("assent_transactions_bytes") > 12000
    gate.open()
    assert api.ended(gid)["outcome"] == "committed"
