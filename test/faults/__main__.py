"""make faults T=SECONDS SEED=N

Starts everything, lets clients submit while an injector kills and stops whatever there is, then
lets it come to rest and compares what clients were told with every database.
"""

import argparse
import random
import shutil
import signal
import sys
import threading
import time

import psycopg2

from harness.guard import Guard

from .book import Book
from .checker import Finding, check, story
from .clients import Shopper
from .evidence import gather
from .injector import Injector
from .world import World

CLIENTS = 14
PACE_S = 0.05
STORIES = 5


def progress(book, injector, began):
    n = book.count()
    faults = ", ".join("%s %d" % k for k in sorted(injector.counts.items()))
    print("%4.0f s  %s  |  %s" % (time.monotonic() - began, "  ".join(
        "%s %d" % k for k in n.items()), faults or "no faults yet"), flush=True)


def run_faults(world, book, seed, seconds):
    """Clients and faults, for so long; then the clients end what they began."""
    halt, quiet = threading.Event(), threading.Event()
    clients = [Shopper(world, book, random.Random("%d/%d" % (seed, i)), quiet, PACE_S)
               for i in range(CLIENTS)]
    injector = Injector(world, book, seed, halt)
    began = time.monotonic()
    for thread in clients + [injector]:
        thread.start()
    while time.monotonic() < began + seconds and not halt.wait(
            min(10, max(0, began + seconds - time.monotonic()))):
        progress(book, injector, began)
    halt.set()
    injector.join()
    quiet.set()
    print("faults end; everything is started again", flush=True)
    try:
        world.all_serve()
    except AssertionError as e:
        book.problem("not at rest", str(e))
    rest(clients)
    return injector


def rest(clients, deadline_s=90):
    until = time.monotonic() + deadline_s
    for client in clients:
        client.join(max(0.1, until - time.monotonic()))
    for client in clients:
        client.give_up.set()
    for client in clients:
        client.join(30)
        if client.is_alive():
            client.book.problem("harness", "a client did not end")


def conclude(world, book):
    """What is found and what is wrong with it. What does not come to rest is looked at all the
    same; no evidence when not even that can be done."""
    try:
        world.settle()
    except AssertionError as e:
        book.problem("not at rest", str(e))
    try:
        world.at_rest()
        found = gather(world, book)
    except (AssertionError, psycopg2.Error) as e:
        book.problem("not at rest", str(e))
        return None, [Finding(name, gid, text) for name, gid, text in book.problems]
    return found, check(world, book, found)


def table(world, book, injector, found):
    by = {}
    for plan in book.plans.values():
        row = found.txns.get(found.gid_of.get(plan.handle, plan.gid))
        line = by.setdefault(plan.kind, {"sent": 0, "committed": 0, "aborted": 0, "mixed": 0,
                                         "not stored": 0, "undone": 0, "told": 0})
        line["sent"] += 1
        outcome = row[1] if row else "not stored"
        line[outcome] = line.get(outcome, 0) + 1
        line["undone"] += any(w.key in found.effects and found.effects[w.key].undone
                              for w in plan.works)
        line["told"] += book.known(plan.handle) in ("committed", "aborted")
    print("\n%-15s %8s %10s %8s %8s %8s %11s %14s" % (
        "transactions", "sent", "committed", "aborted", "mixed", "undone", "not stored",
        "outcome told"))
    for kind, n in sorted(by.items()):
        print("%-15s %8d %10d %8d %8d %8d %11d %14d" % (
            kind, n["sent"], n["committed"], n["aborted"], n["mixed"], n["undone"],
            n["not stored"], n["told"]))
    print("\n%-20s %8s" % ("faults", "survived"))
    for kind, n in sorted(injector.counts.items()):
        print("%-20s %8d" % (kind, n))
    for name, keeper in world.keepers.items():
        print("%-10s started %4d times, %d starts failed, at most %d MiB, %d descriptors" % (
            name, keeper.generation + 1, keeper.starts_failed, keeper.hwm_kib // 1024,
            world.fds[name]))
    print("branches of three-phase commits that ended by themselves: %d" % found.alone)
    print("answers %d, lost %d" % (
        sum(1 for t in book.told.values() for e in t if e.status),
        sum(1 for t in book.told.values() for e in t if not e.status)))


def report(world, book, found, findings):
    """Each finding, and the whole story of the first few transactions."""
    told = []
    for finding in findings:
        print("FAILED %s: %s %s" % (finding.name, finding.handle or "", finding.text))
        if finding.handle in book.plans and finding.handle not in told:
            told.append(finding.handle)
    for handle in told[:STORIES] if found else ():
        print("\n".join(story(world, book, found, handle)))


def main(arguments):
    parser = argparse.ArgumentParser(prog="make faults")
    parser.add_argument("seconds", type=float)
    parser.add_argument("seed", nargs="?", type=int)
    options = parser.parse_args(arguments)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10 ** 6)
    print("seed %d: make faults T=%g SEED=%d" % (seed, options.seconds, seed), flush=True)
    with Guard(prefix="assent-faults-") as guard:
        guard.keep_logs = True
        book = Book(guard.path("log", "clients.jsonl"))
        world = World(guard, book)
        injector = run_faults(world, book, seed, options.seconds)
        found, findings = conclude(world, book)
        world.stop()
        if found:
            table(world, book, injector, found)
        report(world, book, found, findings)
        passed = len(book.plans) - len({f.handle for f in findings if f.handle in book.plans})
        guard.keep_logs = bool(findings)
        if findings:
            shutil.copy(world.assentd.dir + "/postgres.log", guard.logs)
            print("seed %d; logs are kept in %s-log" % (seed, guard.dir))
        print("%d passed, %d failed" % (passed if found else 0, len(findings)), flush=True)
    return 1 if findings else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main(sys.argv[1:]))
