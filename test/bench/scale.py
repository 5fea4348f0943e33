"""`make bench-scale`: what happens with much of everything. One row per promise.

Every figure that depends on the machine is also a ratio to another one, taken in turns on the same
machine in the same minutes; where others use its processors, the figures in CPU time are the ones
to go by. `coordinator` and `postgres` are CPU seconds of assentd and of all of PostgreSQL.

    make bench-scale                             all rows, about ten minutes
    make bench-scale ARGS="--rows lists,burst -o json"
    make bench-scale ARGS="--size 0.1"           a tenth of everything, to try it
"""

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, ".."), HERE]

from harness.guard import Guard  # noqa: E402
from harness.process import cpu_seconds  # noqa: E402
from harness.system import Assentd  # noqa: E402
from harness.wait import wait_until  # noqa: E402

from bench import Limit, children, load_cpu_seconds, tool  # noqa: E402
import scale_lists  # noqa: E402

# Room for all that the rows keep waiting, and no refusals for it.
ROOMY = ["--in-flight-max", "1000000", "--memory-max", str(4 << 30), "--participant-queue-max",
         "1000000", "--overload-delay-ms", "60000"]


def say(text, *args):
    print(text % args, file=sys.stderr, flush=True)


class Node(Assentd):
    """assentd with its private PostgreSQL."""

    def __init__(self, guard, name, *args):
        super().__init__(guard, name, args=["--log-level", "error", *args])
        self.start()

    def postgres(self):
        postmaster = self.postmaster_pid()
        return [postmaster] + children(postmaster)

    def used(self):
        return {"coordinator": cpu_seconds([self.process.pid]),
                "postgres": cpu_seconds(self.postgres())}

    def memory_kib(self):
        if not self.process.running():
            raise AssertionError("%s has ended with status %s; its last lines:\n%s" % (
                self.name, self.process.popen.returncode, self.process.last_lines()))
        with open("/proc/%d/status" % self.process.pid, encoding="ascii", errors="replace") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))

    def unfinished(self):
        return self.db.value("SELECT count(*) FROM assent.txn WHERE ended_at IS NULL")

    def waiting(self):
        """Unfinished, as the node has them: to count them in the database costs a second of it."""
        return (self.client.metric("assent_transactions_in_flight")
                + self.client.metric("assent_transactions_parked"))

    def committed(self):
        """Since it was started."""
        return self.client.metric('assent_transactions_ended_total{outcome="committed"}')

    def idle(self, deadline_s=120):
        wait_until(lambda: self.waiting() == 0, deadline_s,
                   lambda: "everything to end; unfinished: %d" % self.waiting(), every_s=0.05)


class Participants:
    """A few that do nothing, and some time later if wanted."""

    def __init__(self, guard, n=2, delay_ms=0):
        self.processes = [guard.spawn("noop", [tool("noop"), str(delay_ms)]) for _ in range(n)]
        self.urls = [p.ready_url() for p in self.processes]

    def each(self, what):
        for process in self.processes:
            what(process)

    def toggle(self):
        """From healthy to broken, where commits get 503, and back."""
        self.each(lambda p: p.popen.send_signal(signal.SIGUSR1))


def load_argv(node, clients, seconds, urls, *options, warmup=0, cpu=None):
    argv = ["taskset", "-c", str(cpu)] if cpu is not None else []
    return argv + [tool("load"), *options, node.url, str(clients), str(warmup), str(seconds), *urls]


def load(*args, **kw):
    return json.loads(subprocess.run(load_argv(*args, **kw), check=True, capture_output=True,
                                     text=True).stdout)


def store(node, n, urls, members="", clients=256):
    """n transactions that are accepted and not waited for."""
    members = '"timeout_ms":3600000,"retry":{"initial_ms":5000}' + members
    result = load(node, min(n, clients), 3600, urls, "-n", "-c", str(n), "-x", members)
    if result["accepted"] != n:
        raise AssertionError("%d were to be accepted: %s" % (n, result))


def measure(node, clients, seconds, urls, *options, warmup=0.5, cpu=None):
    """What `load` says, and the CPU time of each of its transactions in microseconds. Connections
    are made during the warm-up, which counts for neither."""
    began = time.monotonic()
    with subprocess.Popen(load_argv(node, clients, seconds, urls, *options, warmup=warmup, cpu=cpu),
                          stdout=subprocess.PIPE, text=True) as process:
        used = []
        for after_s in (warmup, warmup + seconds):
            wait_until(lambda: time.monotonic() - began >= after_s, 3600, every_s=0.001)
            used.append(node.used())
        result = json.loads(process.communicate()[0])
    n = result["committed"] + result["accepted"] or 1
    result["cpu_us"] = {k: 1e6 * (used[1][k] - used[0][k]) / n for k in used[0]}
    result["per_second"] = n / result["seconds"]
    return result


def in_turns(repeat, a, b):
    """A B A B ...: the medians of what each measured, and of B's ratios to the A before it."""
    pairs = []
    for i in range(repeat):
        pairs.append((a(), b()))
        say("    %d of %d: %.0f and %.0f transactions/s", i + 1, repeat,
            pairs[-1][0]["per_second"], pairs[-1][1]["per_second"])

    def middle(value):
        return statistics.median(value(x, y) for x, y in pairs)

    def both(r):
        return sum(r["cpu_us"].values())
    return {
        "per_second": [middle(lambda x, y: x["per_second"]), middle(lambda x, y: y["per_second"])],
        "coordinator_us": [middle(lambda x, y: x["cpu_us"]["coordinator"]),
                           middle(lambda x, y: y["cpu_us"]["coordinator"])],
        "postgres_us": [middle(lambda x, y: x["cpu_us"]["postgres"]),
                        middle(lambda x, y: y["cpu_us"]["postgres"])],
        "x_throughput": middle(lambda x, y: y["per_second"] / x["per_second"]),
        "x_coordinator": middle(lambda x, y: x["cpu_us"]["coordinator"] /
                                y["cpu_us"]["coordinator"]),
        "x_cpu": middle(lambda x, y: both(x) / both(y)),
    }


# --- unfinished ---


def undecided(node):
    found = node.client.get("/v1/admin/overview")["in_flight"]
    return found["being_stored"] + sum(s["n"] for s in found["by_state"]
                                       if s["state"] == "preparing")


def prepare_unfinished(node, parts, slow, n, some):
    """n transactions that died in the middle: half of them decided, with participants that were
    broken then, half of them still asking for votes. `some` of them have the slow participant."""
    parts.toggle()
    store(node, n // 2, parts.urls)
    wait_until(lambda: undecided(node) == 0, 120,
               lambda: "decisions; missing: %d" % undecided(node), every_s=0.05)
    parts.each(lambda p: p.pause())
    store(node, n - n // 2 - some, parts.urls)
    if some:
        store(node, some, parts.urls[:1] + slow.urls)
    node.kill9()
    parts.toggle()
    parts.each(lambda p: p.resume())


def finish_unfinished(node, n_slow):
    """Restarts and looks on. Seconds until it is ready and until all but `n_slow` have ended, and
    the rate of these since the restart."""
    total = node.unfinished() - n_slow
    began = time.monotonic()
    node.spawn()
    node.ready(120)
    wait_until(lambda: node.client.get("/readyz").status == 200, 120, "/readyz")
    result = {"ready_s": time.monotonic() - began, "unfinished": total}
    seen = []

    def look():
        seen.append((time.monotonic() - began, node.committed()))
        return seen[-1][1] >= total
    wait_until(look, 300, lambda: "all to end; %d of %d have" % (seen[-1][1], total),
               every_s=0.05)
    result["all_s"] = seen[-1][0]
    result["per_second"] = total / result["all_s"]
    used = node.used()
    result["coordinator_us"] = 1e6 * used["coordinator"] / total
    return result


def row_unfinished(guard, args):
    """100,000 unfinished transactions: half of them decided (participants broken), half preparing
    (participants stopped); kill -9; participants mended; restart. Then the same with one more
    participant, which takes 1 s for each call and is in 300 of them: as many as there are other
    ones count. Then the first once more; x: to the mean of both."""
    n = int(100000 * args.size)
    some = max(1, int(300 * args.size))
    parts, slow = Participants(guard), Participants(guard, 1, 1000)
    node = Node(guard, "unfinished", *ROOMY)
    results = []
    for n_slow in (0, some, 0):
        say("  storing %d unfinished transactions, %d of them with the slow participant", n, n_slow)
        prepare_unfinished(node, parts, slow, n, n_slow)
        results.append(finish_unfinished(node, n_slow))
        say("    ready after %.1f s, all after %.1f s, %.0f/s", results[-1]["ready_s"],
            results[-1]["all_s"], results[-1]["per_second"])
        node.idle()
    hot = measure(node, 64, args.seconds, parts.urls)
    plain, beside, again = results
    return {
        "ready_s": plain["ready_s"], "per_second": plain["per_second"], "all_s": plain["all_s"],
        "coordinator_us": plain["coordinator_us"], "hot_per_second": hot["per_second"],
        "hot_coordinator_us": hot["cpu_us"]["coordinator"],
        "x_hot": plain["per_second"] / hot["per_second"],
        "beside_slow_per_second": beside["per_second"], "beside_slow_ready_s": beside["ready_s"],
        "again_per_second": again["per_second"],
        "x_beside_slow": 2 * beside["per_second"] / (plain["per_second"] + again["per_second"]),
    }, [("ready_s", "<=", 5), ("per_second", ">=", 3000), ("x_hot", ">=", 1),
        ("x_beside_slow", ">=", 0.9)]


# --- stored, in flight ---


def row_stored(guard, args):
    """1,000 and 1,000,000 ended transactions with labels and history, in two databases in turns, 64
    clients. The stored rows are made by SQL, with gids of the load generator's kind, then VACUUM
    ANALYZE; x: the CPU time (coordinator and PostgreSQL) with few to that with many."""
    parts = Participants(guard)
    few, many = Node(guard, "few"), Node(guard, "many")
    scale_lists.fill(few.db, 1000, parts.urls)
    say("  storing %d ended transactions", 1000000 * args.size)
    scale_lists.fill(many.db, int(1000000 * args.size), parts.urls)
    result = in_turns(args.repeat, lambda: measure(few, 64, args.seconds, parts.urls),
                      lambda: measure(many, 64, args.seconds, parts.urls))
    return result, [("x_cpu", ">=", 0.95)]


def row_in_flight(guard, args):
    """10 and 100,000 in flight: one node has 10 interactive transactions of two branches that
    nobody has closed yet, the other one 100,000; beside them 64 clients, in turns. x: CPU time
    with few to that with many."""
    n = int(100000 * args.size)
    parts = Participants(guard)
    few, many = Node(guard, "few", *ROOMY), Node(guard, "many", *ROOMY)
    before = many.memory_kib()
    store(few, 10, parts.urls, ',"interactive":true')
    store(many, n, parts.urls, ',"interactive":true')
    grown = many.memory_kib() - before
    say("  %d in flight, %.1f KiB each", n, grown / n)
    result = in_turns(args.repeat, lambda: measure(few, 64, args.seconds, parts.urls),
                      lambda: measure(many, 64, args.seconds, parts.urls))
    result["in_flight"] = many.client.metric("assent_transactions_in_flight")
    result["kib_each"] = grown / n
    return result, [("x_cpu", ">=", 0.95), ("kib_each", "<=", 4)]


# --- burst ---


class Bare(Limit):
    """The bare loop that stores submissions and calls nobody: what this machine can accept."""

    def __init__(self, guard, urls):
        super().__init__(guard, urls, "submit")

    def used(self):
        return {"coordinator": cpu_seconds([self.process.pid]),
                "postgres": cpu_seconds([self.postmaster] + children(self.postmaster))}


def submit(subject, seconds, urls):
    """As many submissions as 256 clients get through, and nobody waits for the end of any."""
    before = load_cpu_seconds()
    result = measure(subject, 256, seconds, urls, "-n", "-x", '"timeout_ms":600000', warmup=0)
    result["cpu_us"]["load"] = 1e6 * (load_cpu_seconds() - before) / (result["accepted"] or 1)
    return result


def burst(node, seconds, parts):
    """Accepted, and what the node has grown by for each that has not ended."""
    before = node.memory_kib()
    result = submit(node, seconds, parts.urls)
    result["waiting"] = node.unfinished()
    result["kib_each"] = (node.memory_kib() - before) / (result["waiting"] or 1)
    return result


def drain(node, parts, waiting):
    """All that waits ends: per second, and the CPU time of each."""
    def used():
        return dict(node.used(), participants=cpu_seconds(p.pid for p in parts.processes))
    before, began = used(), time.monotonic()
    parts.each(lambda p: p.resume())
    node.idle(600)
    took_s, after = time.monotonic() - began, used()
    return waiting / took_s, {k: 1e6 * (after[k] - before[k]) / waiting for k in before}


def row_burst(guard, args):
    """256 clients submit for 10 s without waiting for the end (two branches), all durable when
    accepted; everything is drained later. Once participants stand still during the burst, so that
    all that is accepted waits, once they answer and take their share of the processors. Limits of
    the node are raised so that nothing is refused. x_limit, x_cpu: to what a bare loop accepts that
    parses the same requests, inserts the same rows and calls nobody, before and behind the burst;
    the CPU is that of load generator, coordinator and PostgreSQL together. Where processors_used is
    far from what the machine has, somebody else had the rest, and rates say little."""
    seconds = max(1, 10 * args.size)
    parts = Participants(guard)
    bare = Bare(guard, parts.urls)
    node = Node(guard, "burst", *ROOMY)
    load(node, 256, 1, parts.urls)
    node.idle()
    parts.each(lambda p: p.pause())
    bounds = [submit(bare, seconds / 2, parts.urls)]
    still = burst(node, seconds, parts)
    bounds.append(submit(bare, seconds / 2, parts.urls))
    drained, drain_us = drain(node, parts, still["waiting"])
    say("    %.0f/s accepted, %d waited, %.1f KiB each, drained at %.0f/s", still["per_second"],
        still["waiting"], still["kib_each"], drained)
    hot = measure(node, 64, 3, parts.urls)
    busy = burst(node, seconds, parts)
    node.idle(600)
    say("    %.0f/s accepted while participants answer, %d waited", busy["per_second"],
        busy["waiting"])
    lost = node.db.value("SELECT count(*) FROM assent.txn WHERE outcome <> 1")
    limit = statistics.mean(b["per_second"] for b in bounds)
    limit_us = {k: statistics.mean(b["cpu_us"][k] for b in bounds) for k in still["cpu_us"]}
    all_us = sum(still["cpu_us"].values())
    return {
        "accepted_per_second": still["per_second"],
        "processors_used": still["per_second"] * all_us / 1e6, "waiting": still["waiting"],
        "kib_each": still["kib_each"], "cpu_us": still["cpu_us"], "p99_ms": still["p99_us"] / 1e3,
        "limit_per_second": limit, "limit_cpu_us": limit_us,
        "x_limit": still["per_second"] / limit,
        "x_cpu": all_us / sum(limit_us.values()),
        "x_coordinator": still["cpu_us"]["coordinator"] / limit_us["coordinator"],
        "drained_per_second": drained, "drained_cpu_us": drain_us,
        "hot_per_second": hot["per_second"], "hot_cpu_us": hot["cpu_us"],
        "x_drained_hot": drained / hot["per_second"],
        "x_drained_cpu": sum(hot["cpu_us"].values()) / (drain_us["coordinator"] +
                                                        drain_us["postgres"]),
        "busy_accepted_per_second": busy["per_second"], "busy_waiting": busy["waiting"],
        "refused": still["refused"] + busy["refused"], "failed": still["failed"] + busy["failed"],
        "not_committed": lost,
    }, [("accepted_per_second", ">=", 12000), ("kib_each", "<=", 4), ("failed", "<=", 0),
        ("not_committed", "<=", 0), ("x_limit", ">=", 0.75), ("x_cpu", "<=", 1.3),
        ("x_drained_hot", ">=", 0.75), ("x_drained_cpu", ">=", 1)]


# --- lists ---


def row_lists(guard, args):
    """Lists with filters over 1,000,000 stored (see `stored`) and what is submitted meanwhile: 99th
    percentile of each kind, one client, pages of 50; and the throughput of 64 clients with one
    list every 100 ms beside them to that without, in turns."""
    parts = Participants(guard)
    node = Node(guard, "lists")
    say("  storing %d ended transactions", 1000000 * args.size)
    scale_lists.fill(node.db, int(1000000 * args.size), parts.urls)
    kinds = scale_lists.kinds(parts.urls, int(1000000 * args.size))
    p99 = {}
    for name, query in kinds.items():
        p99[name] = scale_lists.percentile(scale_lists.time_lists(node, query, 100), 0.99)
        say("    %-24s p99 %.1f ms", name, p99[name])

    def beside():
        with scale_lists.Beside(node, list(kinds.values()), 0.1):
            return measure(node, 64, args.seconds, parts.urls)
    result = in_turns(args.repeat, lambda: measure(node, 64, args.seconds, parts.urls), beside)
    result["p99_ms"] = max(p99.values())
    result["p99_ms_by_kind"] = p99
    return result, [("p99_ms", "<=", 50), ("x_throughput", ">=", 0.95)]


# --- overload ---


def pin(pids, cpu):
    for pid in pids:
        for task in os.listdir("/proc/%d/task" % pid):
            try:
                os.sched_setaffinity(int(task), {cpu})
            except OSError:
                pass  # it has ended


def row_overload(guard, args):
    """More than the processor does: assentd and PostgreSQL on one, load generator and participants
    on the other one. An open loop at once, twice and four times the peak of a closed one. x: what
    was committed per CPU second of the node, refusals included, to the peak's before and after."""
    parts = Participants(guard)
    node = Node(guard, "overload")
    pin([node.process.pid] + node.postgres(), 0)
    pin([p.pid for p in parts.processes], 1)

    def peak():
        return measure(node, 64, args.seconds, parts.urls, cpu=1)

    def per_cpu_second(r):
        return 1e6 / sum(r["cpu_us"].values())
    result = {}
    before = peak()
    for factor in (1, 2, 4):
        found = []
        for _ in range(args.repeat):
            rate = factor * before["per_second"]
            over = measure(node, "1500@%d" % rate, args.seconds, parts.urls, cpu=1)
            memory = node.memory_kib()
            after = peak()
            reference = (per_cpu_second(before) + per_cpu_second(after)) / 2
            found.append({"x_cpu": per_cpu_second(over) / reference,
                          "x_throughput": 2 * over["per_second"] /
                          (before["per_second"] + after["per_second"]),
                          "refused_per_second": over["refused"] / over["seconds"],
                          "unsent_per_second": over["unsent"] / over["seconds"],
                          "failed": over["failed"] + over["other"], "p99_ms": over["p99_us"] / 1e3,
                          "memory_mib": memory / 1024})
            before = after
            say("    %d x %.0f/s: %s", factor, rate / factor,
                ", ".join("%s %.2f" % item for item in found[-1].items()))
        for key in found[0]:
            result["%s_at_%d" % (key, factor)] = statistics.median(f[key] for f in found)
    return result, [("x_cpu_at_2", ">=", 0.9), ("failed_at_2", "<=", 0)]


ROWS = {f.__name__[4:]: f for f in (row_unfinished, row_stored, row_in_flight, row_burst, row_lists,
                                    row_overload)}


def met(value, relation, goal):
    return value <= goal if relation == "<=" else value >= goal


def shown(value):
    if isinstance(value, dict):
        return ", ".join("%s %s" % (k, shown(v)) for k, v in value.items())
    if isinstance(value, list):
        return " and ".join(shown(v) for v in value)
    return "%.0f" % value if abs(value) >= 100 else "%.3g" % value


def print_row(name, row):
    print("%s: %s" % (name, row["what"]))
    goals = {g["figure"]: g for g in row["goals"]}
    for key, value in row["figures"].items():
        goal = goals.get(key)
        print("    %-26s %s%s" % (key, shown(value), "" if goal is None else "    goal %s %s: %s" % (
            goal["relation"], shown(goal["goal"]), "reached" if goal["met"] else "MISSED")))
    print(flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    parser.add_argument("--rows", default=",".join(ROWS), help="a list; default: %(default)s")
    parser.add_argument("--size", type=float, default=1, help="of everything; 0.1 is a tenth")
    parser.add_argument("--seconds", type=float, default=4, help="of each measurement")
    parser.add_argument("--repeat", type=int, default=3, help="pairs of measurements in turns")
    args = parser.parse_args()
    args.rows = args.rows.split(",")
    for name in args.rows:
        if name not in ROWS:
            parser.error("there is no row %s; there are %s" % (name, ", ".join(ROWS)))
    return args


def main():
    args = arguments()
    rows = {}
    for name in args.rows:
        began = time.monotonic()
        say("%s ...", name)
        with Guard() as guard:
            figures, goals = ROWS[name](guard, args)
        rows[name] = {
            "what": " ".join(ROWS[name].__doc__.split()), "figures": figures,
            "seconds": time.monotonic() - began,
            "goals": [{"figure": f, "relation": r, "goal": g, "met": met(figures[f], r, g)}
                      for f, r, g in goals]}
        if args.output == "text":
            print_row(name, rows[name])
    if args.output == "json":
        print(json.dumps({"machine": platform.platform(), "cores": os.cpu_count(),
                          "size": args.size, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
