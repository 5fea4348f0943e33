"""`make bench`: throughput and latency of two-phase commit, and where the time goes.

The whole stack on this machine: the load generator, assentd with its private PostgreSQL, and
participants that say yes at once share the cores. Compare only figures of one run.

    bench.py [-o json] [--clients 1,64] [--branches 2] [--seconds 5] [--warmup 1] [--repeat 3]
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

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


def peak_memory_mib(pid):
    with open("/proc/%d/status" % pid, encoding="ascii", errors="replace") as f:
        for line in f:
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    return 0.0


class Stack:
    """assentd and its participants, and what they have used so far."""

    def __init__(self, guard, branches):
        self.assentd = Assentd(guard, args=["--log-level", "warn"]).start()
        self.participants = [guard.spawn("noop", [tool("noop")]) for _ in range(branches)]
        self.urls = [p.ready_url() for p in self.participants]

    def processes(self):
        postmaster = self.assentd.postmaster_pid()
        return {"assentd": [self.assentd.process.pid],
                "postgres": [postmaster] + children(postmaster),
                "participants": [p.pid for p in self.participants]}

    def counters(self):
        text = self.assentd.client.get("/metrics").body.decode()
        values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[:1] != "#")
        used = {"cpu_" + name: cpu_seconds(pids) for name, pids in self.processes().items()}
        used["flushes"] = float(values["assent_journal_flushes_total"])
        used["records"] = float(values["assent_journal_records_total"])
        used["submitted"] = float(values["assent_transactions_submitted_total"])
        used["wal"] = float(self.assentd.db.value("SELECT wal_bytes FROM pg_stat_wal"))
        return used

    def run(self, clients, warmup, seconds):
        before = self.counters()
        out = subprocess.run(
            [tool("load"), self.assentd.url, str(clients), str(warmup), str(seconds)] + self.urls,
            check=True, capture_output=True, text=True).stdout
        after = self.counters()
        used = {name: after[name] - before[name] for name in after}
        n = used["submitted"] or 1
        result = json.loads(out)
        result.update({
            "per_second": result["committed"] / result["seconds"],
            "commits_per_txn": used["flushes"] / n,
            "records_per_flush": used["records"] / (used["flushes"] or 1),
            "wal_bytes_per_txn": used["wal"] / n,
            "cpu_us_per_txn": {name[4:]: 1e6 * used[name] / n
                               for name in used if name.startswith("cpu_")},
        })
        return result


def summarize(runs):
    """The median of each figure, and the spread of the throughput."""
    rates = [r["per_second"] for r in runs]
    middle = dict(sorted(runs, key=lambda r: r["per_second"])[len(runs) // 2])
    middle["per_second"] = statistics.median(rates)
    middle["spread"] = (max(rates) - min(rates)) / middle["per_second"] if middle["per_second"] else 0
    middle["failed"] = sum(r["failed"] + r["other"] for r in runs)
    return middle


def print_table(results, memory):
    head = ("clients", "txn/s", "spread", "p50 ms", "p95 ms", "p99 ms", "max ms", "commits/txn",
            "WAL B/txn", "CPU us/txn: assentd", "postgres", "participants", "failed")
    rows = [head]
    for r in results:
        cpu = r["cpu_us_per_txn"]
        rows.append((
            str(r["clients"]), "%.0f" % r["per_second"], "%.0f%%" % (100 * r["spread"]),
            *("%.2f" % (r[p + "_us"] / 1000) for p in ("p50", "p95", "p99", "max")),
            "%.3f" % r["commits_per_txn"], "%.0f" % r["wal_bytes_per_txn"],
            "%.0f" % cpu["assentd"], "%.0f" % cpu["postgres"], "%.0f" % cpu["participants"],
            str(r["failed"])))
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    for row in rows:
        print("  ".join(cell.rjust(w) for cell, w in zip(row, widths)))
    print("assentd's peak memory: %.0f MiB" % memory)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    parser.add_argument("--clients", default="1,64")
    parser.add_argument("--branches", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--warmup", type=float, default=1)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()

    results = []
    with Guard() as guard:
        stack = Stack(guard, args.branches)
        for clients in (int(c) for c in args.clients.split(",")):
            runs = []
            for i in range(args.repeat):
                print("%d clients, run %d of %d ..." % (clients, i + 1, args.repeat),
                      file=sys.stderr, flush=True)
                runs.append(stack.run(clients, args.warmup, args.seconds))
            results.append(summarize(runs))
        memory = peak_memory_mib(stack.assentd.process.pid)
        stack.assentd.stop()
    if args.output == "json":
        print(json.dumps({"machine": platform.platform(), "cores": os.cpu_count(),
                          "mode": "2pc", "branches": args.branches, "results": results,
                          "assentd_peak_memory_mib": memory}, indent=1))
        return
    print("two-phase commit, %d branches, %d cores, median of %d runs of %.0f s" % (
        args.branches, os.cpu_count(), args.repeat, args.seconds))
    print_table(results, memory)


if __name__ == "__main__":
    main()
