"""`make bench`: throughput and latency of two-phase commit, and where the time goes.

The whole stack on this machine: the load generator, assentd with its private PostgreSQL, and
participants that say yes at once share the cores. Beside assentd stands the limit, a bare loop
that does the same I/O and nothing else (limit/limit.h), on a PostgreSQL of its own; they are
measured in turns, so every figure is also a ratio to what this machine could do at that time.
Compare only figures of one run.

    make bench ARGS="--clients 1,16,64 --seconds 10"
    make bench ARGS="--against ../before/build"      two builds in turns: A B A B
    make bench ARGS="--address http://10.0.0.5:7470 --participant http://10.0.0.6:9000"
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from harness.client import Client  # noqa: E402
from harness.guard import Guard  # noqa: E402
from harness.system import BUILD, Assentd  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")


def tool(name):
    return os.path.join(BUILD, "test", name)


def cpu_seconds(pids):
    """User and system time of these processes so far."""
    total = 0
    for pid in pids:
        try:
            with open("/proc/%d/stat" % pid, encoding="ascii", errors="replace") as f:
                fields = f.read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


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

    name = url = process = database = None
    postmaster = 0

    def counters(self, participants):
        """Sums since the start: CPU by process, and what /metrics and the database say."""
        used = {"cpu_load": load_cpu_seconds(),
                "cpu_participants": cpu_seconds(p.pid for p in participants)}
        if self.process:
            used["cpu_coordinator"] = cpu_seconds([self.process.pid])
            used["cpu_postgres"] = cpu_seconds([self.postmaster] + children(self.postmaster))
            used["wal_bytes"] = float(self.database.value("SELECT wal_bytes FROM pg_stat_wal"))
        return used

    def memory_mib(self):
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

    def counters(self, participants):
        used = super().counters(participants)
        used["flushes"] = self.client.metric("assent_journal_flushes_total")
        used["records"] = self.client.metric("assent_journal_records_total")
        return used


class Limit(Subject):
    """The bare loop, on a database that assentd has made and left."""

    def __init__(self, guard, participants):
        owner = Assentd(guard, "limit").start()
        owner.kill9()
        self.name = "limit"
        self.process = guard.spawn("limit", [tool("limit"), owner.db.conninfo] + participants)
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
    out = subprocess.run(
        [tool("load"), subject.url, str(clients), str(args.warmup), str(args.seconds)] + urls,
        check=True, capture_output=True, text=True).stdout
    after = subject.counters(participants)
    result = json.loads(out)
    used = {name: after[name] - before[name] for name in after}
    # What is measured begins after the warm-up; what is used does not.
    n = result["committed"] * (args.seconds + args.warmup) / args.seconds or 1
    result["subject"] = subject.name
    result["per_second"] = result["committed"] / result["seconds"]
    result["cpu_us_per_txn"] = {k[4:]: 1e6 * v / n for k, v in used.items() if k[:4] == "cpu_"}
    if "wal_bytes" in used:
        result["wal_bytes_per_txn"] = used["wal_bytes"] / n
    if "flushes" in used:
        result["commits_per_txn"] = used["flushes"] / n
        result["records_per_commit"] = used["records"] / (used["flushes"] or 1)
    return result


def summarize(runs, memory_mib):
    """The run with the median throughput, and the spread of all."""
    runs = sorted(runs, key=lambda r: r["per_second"])
    middle = dict(runs[len(runs) // 2])
    rates = [r["per_second"] for r in runs]
    middle["per_second"] = statistics.median(rates)
    middle["spread"] = (rates[-1] - rates[0]) / middle["per_second"] if rates[0] else 0
    middle["failed"] = sum(r["failed"] + r["other"] for r in runs)
    middle["memory_mib"] = memory_mib
    return middle


def add_ratios(results, reference):
    """Throughput, median latency and coordinator's CPU against `reference` in the same run."""
    base = next((r for r in results if r["subject"] == reference), None)
    for r in results if base else []:
        r["ratio"] = {"to": reference, "per_second": r["per_second"] / (base["per_second"] or 1),
                      "p50": r["p50_us"] / (base["p50_us"] or 1)}
        if "coordinator" in base["cpu_us_per_txn"]:
            r["ratio"]["cpu"] = (r["cpu_us_per_txn"]["coordinator"] /
                                 (base["cpu_us_per_txn"]["coordinator"] or 1))


COLUMNS = (
    ("clients", lambda r: "%d" % r["clients"]),
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
    ("load", lambda r: "%.0f" % r["cpu_us_per_txn"]["load"]),
    ("commits/txn", lambda r: "%.3f" % r["commits_per_txn"]),
    ("batch", lambda r: "%.1f" % r["records_per_commit"]),
    ("WAL B/txn", lambda r: "%.0f" % r["wal_bytes_per_txn"]),
    ("peak MiB", lambda r: "%.0f" % r["memory_mib"]),
    ("failed", lambda r: "%d" % r["failed"]),
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
    rows = [[title for title, _ in COLUMNS]]
    rows += [[cell(render, r) for _, render in COLUMNS] for r in results]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    for row in rows:
        print("  ".join(text.rjust(width) for text, width in zip(row, widths)).rstrip())


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    parser.add_argument("--clients", default="1,64", help="how many at once, a list")
    parser.add_argument("--branches", type=int, default=2, help="per transaction, at most 4")
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--warmup", type=float, default=1, help="seconds before each")
    parser.add_argument("--repeat", type=int, default=3, help="measurements; the median counts")
    parser.add_argument("--against", metavar="BUILD", help="another build directory, in turns")
    parser.add_argument("--no-limit", action="store_true", help="without the bare loop")
    parser.add_argument("--address", metavar="URL", help="a coordinator that runs elsewhere")
    parser.add_argument("--participant", metavar="URL", action="append", default=[],
                        help="with --address: where that coordinator finds its participants")
    args = parser.parse_args()
    if bool(args.address) != bool(args.participant):
        parser.error("--address and --participant belong together: the coordinator elsewhere has "
                     "to reach the participants; start build/test/noop there for one")
    return args


def subjects(guard, urls, args):
    if args.address:
        return [Remote(args.address)], "remote"
    found = [Daemon(guard, "assent", BUILD)]
    reference = "assent"
    if args.against:
        found.append(Daemon(guard, "against", os.path.abspath(args.against)))
        reference = "against"
    if not args.no_limit:
        found.append(Limit(guard, urls))
        reference = reference if args.against else "limit"
    return found, reference


def run_all(guard, args):
    urls, participants = args.participant, []
    if not args.address:
        participants = [guard.spawn("noop", [tool("noop")]) for _ in range(args.branches)]
        urls = [p.ready_url() for p in participants]
    measured, reference = subjects(guard, urls, args)
    results = []
    for clients in (int(c) for c in args.clients.split(",")):
        runs = {subject.name: [] for subject in measured}
        for i in range(args.repeat):
            for subject in measured:
                print("%d clients, %s, run %d of %d ..." % (clients, subject.name, i + 1,
                                                            args.repeat),
                      file=sys.stderr, flush=True)
                runs[subject.name].append(measure(subject, participants, urls, clients, args))
        row = [summarize(runs[s.name], s.memory_mib()) for s in measured]
        add_ratios(row, reference)
        results += row
    return results


def main():
    args = arguments()
    with Guard() as guard:
        results = run_all(guard, args)
    if args.output == "json":
        print(json.dumps({"machine": platform.platform(), "cores": os.cpu_count(), "mode": "2pc",
                          "branches": args.branches, "results": results}, indent=1))
        return
    print("two-phase commit, %d branches, %d cores, median of %d runs of %.0f s; x: ratio" % (
        len(args.participant) or args.branches, os.cpu_count(), args.repeat, args.seconds))
    print_table(results)


if __name__ == "__main__":
    main()
