"""`make bench`: throughput and latency of transactions, and where the time goes.

The whole stack on this machine: the load generator, assentd with its private PostgreSQL, and
participants that say yes at once share the cores. Beside assentd stands the limit, a bare loop
that does the same I/O and nothing else (limit/limit.h), on a PostgreSQL of its own; they are
measured in turns, so every figure is also a ratio to what this machine could do at that time.
Compare only figures of one run: a ratio is the median of those of runs that stood beside each
other, and says what noise on the machine does not.

Without @ the load is a closed loop: every client waits for its answer, so a stall slows the
clients down and is hardly seen in their latencies. With @RATE as many requests a second become
due whatever happens, and latency counts from when one was due; @half is half of what the slowest
subject has done before with as many clients.

    make bench ARGS="--clients 1,16,64,64@half --seconds 10"
    make bench ARGS="--clients 64 --rate 1000,2000,3000"
    make bench ARGS="--mode saga"                    or 3pc, tcc, tcc-interactive
    make bench ARGS=--budget                         where the time of one transaction goes
    make bench PARTICIPANTS=samples                  stock and account instead (shop.py)
    make bench ARGS="--against ../before/build"      two builds in turns: A B A B
    make bench ARGS="--address http://10.0.0.5:7470 --participant http://10.0.0.6:9000"
"""

import argparse
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, ".."), HERE]

import budget  # noqa: E402
import shop  # noqa: E402
from harness.client import Client  # noqa: E402
from harness.guard import Guard  # noqa: E402
from harness.process import cpu_seconds  # noqa: E402
from harness.system import BUILD, Assentd  # noqa: E402

MODES = {"2pc": "two-phase commit", "3pc": "three-phase commit", "tcc": "try-confirm-cancel",
         "saga": "saga, one step after the other",
         "tcc-interactive": "interactive try-confirm-cancel, tried by the client"}
# The bare loop does the I/O of these: the same records, calls and rows of history.
LIMIT_MODES = {"2pc", "3pc", "tcc", "saga"}


def ratio(name):
    return lambda r: r["ratio"][name]


# Mode, branches, clients; what is asked of assentd there: text, figure, goal, at least or at most.
GOALS = (
    ("2pc", 2, "64", "of the bare loop's throughput", ratio("per_second"), 0.75, "at least"),
    ("2pc", 2, "64", "transactions a second", lambda r: r["per_second"], 6000, "at least"),
    ("2pc", 2, "64", "times the bare loop's CPU", ratio("cpu"), 1.3, "at most"),
    ("2pc", 2, "64", "commits per transaction", lambda r: r["commits_per_txn"], 0.2, "at most"),
    ("3pc", 2, "64", "of the bare loop's throughput", ratio("per_second"), 0.75, "at least"),
    ("3pc", 2, "64", "transactions a second", lambda r: r["per_second"], 4000, "at least"),
    ("tcc", 2, "64", "of the bare loop's throughput", ratio("per_second"), 0.75, "at least"),
    ("tcc", 2, "64", "transactions a second", lambda r: r["per_second"], 6000, "at least"),
    ("saga", 2, "64", "of the bare loop's throughput", ratio("per_second"), 0.75, "at least"),
    ("saga", 2, "64", "transactions a second", lambda r: r["per_second"], 6000, "at least"),
    ("tcc-interactive", 2, "64", "transactions a second", lambda r: r["per_second"], 2500,
     "at least"),
    ("2pc", 2, "1", "ms at the median", lambda r: r["p50_us"] / 1000, 1.5, "at most"),
)
# The same with participants that do something: all of it, their PostgreSQL included.
SAMPLE_GOALS = (
    ("2pc", 2, "64", "transactions a second", lambda r: r["per_second"], 1500, "at least"),
)


def tool(name):
    return os.path.join(BUILD, "test", name)


def children(pid):
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open("/proc/%s/stat" % entry, encoding="ascii", errors="replace") as f:
                    if int(f.read().rsplit(")", 1)[1].split()[1]) == pid:
                        found.append(int(entry))
            except OSError:
                pass
    return found


def load_cpu_seconds():
    """Of the load generators that have ended; nothing else here ends while it is measured."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Subject:
    """Something that takes transactions, and what it has used so far."""

    name = url = process = database = shop = None
    postmaster = 0

    def counters(self, participants):
        """Sums since the start: CPU by process, and what /metrics and the database say."""
        used = {"cpu_load": load_cpu_seconds()}
        if self.shop:
            used.update(self.shop.cpu())
        else:
            used["cpu_participants"] = cpu_seconds(p.pid for p in participants)
        if self.process:
            used["cpu_coordinator"] = cpu_seconds([self.process.pid])
            used["cpu_postgres"] = cpu_seconds([self.postmaster] + children(self.postmaster))
            used["cpu_postgres"] -= sum(used[k] for k in used if k.startswith("cpu_pg_"))
            used["wal_bytes"] = float(self.database.value("SELECT wal_bytes FROM pg_stat_wal"))
        return used

    def forget_peak(self):
        if self.process:
            with open("/proc/%d/clear_refs" % self.process.pid, "w", encoding="ascii") as f:
                f.write("5")

    def memory_mib(self):
        """The most that was resident since forget_peak."""
        if not self.process:
            return None
        with open("/proc/%d/status" % self.process.pid, encoding="ascii", errors="replace") as f:
            peak = [line for line in f if line.startswith("VmHWM")]
        return int(peak[0].split()[1]) / 1024 if peak else None


class Daemon(Subject):
    """assentd of one build, with its private PostgreSQL."""

    def __init__(self, guard, name, build):
        assentd = Assentd(guard, "a%s" % len(guard.processes), args=["--log-level", "warn"],
                          program=os.path.join(build, "bin", "assentd")).start()
        self.name, self.url, self.process = name, assentd.url, assentd.process
        self.database, self.postmaster = assentd.db, assentd.postmaster_pid()
        self.client = assentd.client
        self.assentd = assentd

    def counters(self, participants):
        used = super().counters(participants)
        used["flushes"] = self.client.metric("assent_journal_flushes_total")
        used["records"] = self.client.metric("assent_journal_records_total")
        return used


class Limit(Subject):
    """The bare loop, on a database that assentd has made and left."""

    def __init__(self, guard, participants, mode):
        owner = Assentd(guard, "limit").start()
        owner.kill9()
        self.name = "limit"
        self.process = guard.spawn("limit", [tool("limit"), mode, owner.db.conninfo] + participants)
        self.url = self.process.ready_url()
        self.database, self.postmaster = owner.db, owner.postmaster_pid()


class Remote(Subject):
    """A coordinator that somebody else started."""

    def __init__(self, url):
        self.name, self.url = "remote", url
        if Client(url).get("/readyz").status != 200:
            sys.exit("%s is not ready" % url)


def measure(subject, participants, urls, clients, args):
    before = subject.counters(participants)
    subject.forget_peak()
    payload = ["-p", shop.PAYLOAD] if subject.shop else []
    taken = subject.shop and subject.shop.taken()
    out = subprocess.run(
        [tool("load"), "-m", args.mode] + payload
        + [subject.url, clients, str(args.warmup), str(args.seconds)] + urls,
        check=True, capture_output=True, text=True).stdout
    after = subject.counters(participants)
    result = json.loads(out)
    if subject.shop:
        subject.shop.check(taken, result)
    used = {name: after[name] - before[name] for name in after}
    n = result["answered"] or 1  # of the warm-up too, as what was used
    result["subject"], result["load"] = subject.name, clients
    result["per_second"] = result["committed"] / result["seconds"]
    result["cpu_us_per_txn"] = {k[4:]: 1e6 * v / n for k, v in used.items() if k[:4] == "cpu_"}
    result["memory_mib"] = subject.memory_mib()
    if "wal_bytes" in used:
        result["wal_bytes_per_txn"] = used["wal_bytes"] / n
    if "flushes" in used:
        result["commits_per_txn"] = used["flushes"] / n
        result["records_per_commit"] = used["records"] / (used["flushes"] or 1)
    return result


def median_of(dicts):
    """One of the same shape: the median of every number in them."""
    first = dicts[0]
    if isinstance(first, dict):
        return {k: median_of([d[k] for d in dicts]) for k in first}
    return statistics.median(dicts) if isinstance(first, (int, float)) else first


def compare(run, base):
    """Throughput, median latency and the coordinator's CPU against `base`."""
    ratio_to = {"per_second": run["per_second"] / (base["per_second"] or 1),
                "p50": run["p50_us"] / (base["p50_us"] or 1)}
    if "coordinator" in base["cpu_us_per_txn"]:
        ratio_to["cpu"] = (run["cpu_us_per_txn"]["coordinator"] /
                           (base["cpu_us_per_txn"]["coordinator"] or 1))
    return ratio_to


def summarize(runs, base):
    """Medians, and how far the fastest and the slowest run are from each other."""
    total = median_of(runs)
    rates = [r["per_second"] for r in runs]
    total["spread"] = (max(rates) - min(rates)) / (total["per_second"] or 1)
    total["p50_spread"] = ((max(r["p50_us"] for r in runs) - min(r["p50_us"] for r in runs)) /
                           (total["p50_us"] or 1))
    for name in ("failed", "other", "refused", "unsent"):
        total[name] = sum(r[name] for r in runs)
    total["max_us"] = max(r["max_us"] for r in runs)
    if base:
        total["ratio"] = median_of([compare(r, b) for r, b in zip(runs, base)])
        total["ratio"]["to"] = base[0]["subject"]
    return total


COLUMNS = (
    ("clients", lambda r: r["load"]),
    ("", lambda r: r["subject"]),
    ("txn/s", lambda r: "%.0f" % r["per_second"]),
    ("spread", lambda r: "%.0f%%" % (100 * r["spread"])),
    ("p50 ms", lambda r: "%.2f" % (r["p50_us"] / 1000)),
    ("p95", lambda r: "%.2f" % (r["p95_us"] / 1000)),
    ("p99", lambda r: "%.2f" % (r["p99_us"] / 1000)),
    ("max", lambda r: "%.1f" % (r["max_us"] / 1000)),
    ("CPU us/txn", lambda r: "%.0f" % r["cpu_us_per_txn"]["coordinator"]),
    ("postgres", lambda r: "%.0f" % r["cpu_us_per_txn"]["postgres"]),
    ("participants", lambda r: "%.0f" % r["cpu_us_per_txn"]["participants"]),
    ("stock", lambda r: "%.0f" % r["cpu_us_per_txn"]["stock"]),
    ("its pg", lambda r: "%.0f" % r["cpu_us_per_txn"]["pg_stock"]),
    ("account", lambda r: "%.0f" % r["cpu_us_per_txn"]["account"]),
    ("its pg", lambda r: "%.0f" % r["cpu_us_per_txn"]["pg_account"]),
    ("load", lambda r: "%.0f" % r["cpu_us_per_txn"]["load"]),
    ("all", lambda r: "%.0f" % sum(r["cpu_us_per_txn"].values())),
    ("commits/txn", lambda r: "%.3f" % r["commits_per_txn"]),
    ("batch", lambda r: "%.1f" % r["records_per_commit"]),
    ("WAL B/txn", lambda r: "%.0f" % r["wal_bytes_per_txn"]),
    ("peak MiB", lambda r: "%.0f" % r["memory_mib"]),
    ("failed", lambda r: "%d" % (r["failed"] + r["other"])),
    ("late", lambda r: "%d" % (r["refused"] + r["unsent"])),
    ("x txn/s", lambda r: "%.2f" % r["ratio"]["per_second"]),
    ("x p50", lambda r: "%.2f" % r["ratio"]["p50"]),
    ("x CPU", lambda r: "%.2f" % r["ratio"]["cpu"]),
)


def print_table(results):
    def cell(render, r):
        try:
            return render(r)
        except (KeyError, TypeError):
            return "-"
    columns = [c for c in COLUMNS if any(cell(c[1], r) != "-" for r in results)]
    rows = [[title for title, _ in columns]]
    rows += [[cell(render, r) for _, render in columns] for r in results]
    widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
    for row in rows:
        print("  ".join(text.rjust(width) for text, width in zip(row, widths)).rstrip())


def judge(results, args):
    """What is asked of it, what it was, whether that is met."""
    verdicts = []
    goals = SAMPLE_GOALS if args.participants == "samples" else GOALS
    for mode, branches, load, text, figure, goal, sense in goals:
        row = next((r for r in results if (r["subject"], r["load"]) == ("assent", load)), None)
        if not row or args.address or args.against or (mode, branches) != (
                args.mode, args.branches):
            continue
        try:
            value = figure(row)
        except KeyError:
            continue
        met = value >= goal if sense == "at least" else value <= goal
        verdicts.append({"clients": load, "what": text, "goal": goal, "sense": sense,
                         "value": value, "met": met})
    return verdicts


def print_goals(verdicts):
    for v in verdicts:
        print("%3s  with %2s clients %s %g %s: %.4g" % (
            "ok" if v["met"] else "NO", v["clients"], v["sense"], v["goal"], v["what"],
            v["value"]))


def machine(measured):
    """What this ran on, for whoever reads the figures elsewhere."""
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as f:
        model = re.search(r"^model name\s*:\s*(.*)$", f.read(), re.M)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2 ** 30
    versions = [s.database.value("SHOW server_version") for s in measured if s.database]
    return "%d x %s, %.0f GiB, Linux %s%s" % (
        os.cpu_count(), model.group(1) if model else platform.machine(), memory,
        platform.release(), ", PostgreSQL " + versions[0].split()[0] if versions else "")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    parser.add_argument("--mode", choices=sorted(MODES), default="2pc")
    parser.add_argument("--clients", default="1,64,64@half",
                        help="how many at once, a list; N@RATE: at a fixed rate")
    parser.add_argument("--rate", help="a list: every N of --clients with each of these rates")
    parser.add_argument("--branches", type=int, default=2, help="per transaction, at most 4")
    parser.add_argument("--seconds", type=float, default=4, help="of each measurement")
    parser.add_argument("--warmup", type=float, default=1, help="seconds before each")
    parser.add_argument("--repeat", type=int, default=3, help="measurements; medians count")
    parser.add_argument("--against", metavar="BUILD", help="another build directory, in turns")
    parser.add_argument("--no-limit", action="store_true", help="without the bare loop")
    parser.add_argument("--budget", action="store_true",
                        help="instead: the latency of one transaction, step by step")
    parser.add_argument("--participants", choices=["noop", "samples"], default="noop")
    parser.add_argument("--address", metavar="URL", help="a coordinator that runs elsewhere")
    parser.add_argument("--participant", metavar="URL", action="append", default=[],
                        help="with --address: where that coordinator finds its participants")
    args = parser.parse_args()
    if bool(args.address) != bool(args.participant):
        parser.error("--address and --participant belong together: the coordinator elsewhere has "
                     "to reach the participants; start build/test/noop there for one")
    if args.participants == "samples":
        if args.address or args.against or args.branches != 2 or "interactive" in args.mode:
            parser.error("the samples are two branches, of one coordinator here, in one request")
        args.no_limit = True
    if not 1 <= args.branches <= 4:
        parser.error("--branches is 1 to 4")
    args.loads = [c.strip() for c in args.clients.split(",")]
    if args.rate:
        args.loads = ["%s@%s" % (c.split("@")[0], rate.strip())
                      for c in dict.fromkeys(c.split("@")[0] for c in args.loads)
                      for rate in args.rate.split(",")]
    for load in args.loads:
        if not re.fullmatch(r"[1-9][0-9]*(@(half|[1-9][0-9]*))?", load):
            parser.error("\"%s\" is not N, N@RATE or N@half" % load)
    args.no_limit = args.no_limit or args.mode not in LIMIT_MODES
    return args


def subjects(guard, urls, args):
    if args.address:
        return [Remote(args.address)], "remote"
    found = [Daemon(guard, "assent", BUILD)]
    if args.participants == "samples":
        found[0].shop = shop.Shop(guard, found[0].assentd)
        urls += found[0].shop.urls
    reference = "assent"
    if args.against:
        found.append(Daemon(guard, "against", os.path.abspath(args.against)))
        reference = "against"
    if not args.no_limit:
        found.append(Limit(guard, urls, args.mode))
        reference = reference if args.against else "limit"
    return found, reference


def at_rate(load, results):
    """`64@half` with the number that it stands for."""
    clients, _, rate = load.partition("@")
    if rate != "half":
        return load
    done = [r["per_second"] for r in results if r["load"] == clients]
    if not done:
        sys.exit("%s: nothing was measured with %s clients before" % (load, clients))
    return "%s@%d" % (clients, max(1, min(done) / 2))


def run_load(load, measured, reference, others, args):
    """Every subject in turn, as often as was asked; one summary each."""
    participants, urls = others
    runs = {subject.name: [] for subject in measured}
    for i in range(args.repeat):
        for subject in measured:
            print("%s clients, %s, run %d of %d ..." % (load, subject.name, i + 1, args.repeat),
                  file=sys.stderr, flush=True)
            runs[subject.name].append(measure(subject, participants, urls, load, args))
    base = runs.get(reference) if len(measured) > 1 else None
    return [summarize(runs[subject.name], base) for subject in measured]


def run_all(guard, args):
    urls, participants = args.participant, []
    if not args.address and args.participants == "noop":
        participants = [guard.spawn("noop", [tool("noop")]) for _ in range(args.branches)]
        urls = [p.ready_url() for p in participants]
    measured, reference = subjects(guard, urls, args)
    results = []
    for load in args.loads:
        results += run_load(at_rate(load, results), measured, reference, (participants, urls),
                            args)
    return results, machine(measured)


def run_budget(args):
    with Guard() as guard:
        urls = [guard.spawn("noop", [tool("noop")]).ready_url() for _ in range(2)]
        assentd = Assentd(guard, args=["--log-level", "warn"]).start()
        n, steps, seen_us = budget.measure(tool("load"), assentd, urls, args.seconds)
    if args.output == "json":
        print(json.dumps({"transactions": n, "steps_us": steps, "p50_us": seen_us}, indent=1))
    else:
        budget.print_table(n, steps, seen_us)


def main():
    args = arguments()
    if args.budget:
        run_budget(args)
        return
    with Guard() as guard:
        results, where = run_all(guard, args)
    verdicts = judge(results, args)
    if args.output == "json":
        print(json.dumps({"machine": where, "mode": args.mode, "branches": args.branches,
                          "results": results, "goals": verdicts}, indent=1))
        return
    print("%s, %d branches, median of %d runs of %.0f s; x: ratio\n%s" % (
        MODES[args.mode], len(args.participant) or args.branches, args.repeat, args.seconds,
        where))
    print_table(results)
    if args.mode not in LIMIT_MODES and args.participants == "noop":
        print("no ratio: one transaction is several requests, and the bare loop takes one")
    print_goals(verdicts)


if __name__ == "__main__":
    main()
