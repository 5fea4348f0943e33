"""What is found when all is quiet: every database, the API's answers, the processes."""

import re
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from .clients import Http

# A log line that no fault explains.
BUGS = re.compile(r"assert|unexpected (?!postmaster exit)|refused in state|cannot be read|not resumed|invariant"
                  r"|not as migrated|Sanitizer|double free|(?<!possibly )corrupt|buffer overflow", re.I)

# How often a row was changed by an amount: taken, put back, held for a confirm, held no longer.
Effect = namedtuple("Effect", "taken undone held freed", defaults=(0, 0, 0, 0))


@dataclass
class Evidence:
    txns: dict = field(default_factory=dict)  # gid -> row of assent.txn
    gid_of: dict = field(default_factory=dict)  # handle -> gid
    branches: dict = field(default_factory=dict)  # gid -> {branch: state}
    history: dict = field(default_factory=dict)  # gid -> [(branch, op, verdict)]
    effects: dict = field(default_factory=dict)  # (service, row, amount) -> Effect
    levels: dict = field(default_factory=dict)  # service -> {row: what is left}
    held: dict = field(default_factory=dict)  # service -> {row: what is reserved or frozen}
    barrier: dict = field(default_factory=dict)  # (service, gid, branch) -> {op: made_by}
    api: dict = field(default_factory=dict)  # gid -> (state, outcome, {branch: state}) or None
    decisions: dict = field(default_factory=dict)  # gid -> (decision, presumed)
    alone: int = 0  # branches that ended without the coordinator
    prepared: list = field(default_factory=list)
    locks: list = field(default_factory=list)
    sessions: list = field(default_factory=list)
    alerts: list = field(default_factory=list)
    log_lines: list = field(default_factory=list)


def gather(world, book, workers=4):
    found, db = Evidence(), world.assentd.db
    for gid, state, outcome, ended in db.query(
            "SELECT gid, state, outcome, ended_at FROM assent.transactions"):
        found.txns[gid] = (state, outcome, ended is not None)
    for gid, handle in db.query("SELECT gid, value FROM assent.label WHERE name = 'plan'"):
        found.gid_of[handle] = gid
    for gid, branch, state in db.query("SELECT gid, branch, state FROM assent.branches"):
        found.branches.setdefault(gid, {})[branch] = state
    for gid, branch, op, verdict in db.query(
            "SELECT gid, branch, op, verdict FROM assent.attempts ORDER BY started_at"):
        found.history.setdefault(gid, []).append((branch, op, verdict))
    found.alerts = db.query(
        "SELECT kind, participant, error, gid, n_open FROM assent.alert WHERE closed_at IS NULL")
    _databases(world, found)
    found.log_lines = list(_log_lines(world))
    gids = [found.gid_of.get(p.handle, p.gid) for p in book.plans.values()]
    _ask(world, book, [g for g in gids if g], found, workers)
    return found


def _databases(world, found):
    for service, db in world.databases.items():
        if service == "order":
            rows = db.query("SELECT id, 1, placed::int, 0, 1 - placed::int, 0 FROM orders")
        else:
            rows = db.query(
                "SELECT row, greatest(abs(amount), abs(held)), count(*) FILTER (WHERE amount > 0),"
                " count(*) FILTER (WHERE amount < 0), count(*) FILTER (WHERE held > 0),"
                " count(*) FILTER (WHERE held < 0) FROM effect GROUP BY 1, 2")
            found.levels[service] = world.levels(service)
            found.held[service] = world.held(service)
        for row, amount, *counts in rows:
            found.effects[(service, row, amount)] = Effect(*counts)
        for gid, branch, op, maker in db.query(
                "SELECT gid, branch, op, made_by FROM assent_participant.barrier"):
            found.barrier.setdefault((service, gid, branch), {})[op] = maker
        found.alone += db.value("SELECT count(*) FROM assent_participant.branch"
                                " WHERE heuristic IS NOT NULL")
    db = world.assentd.db
    found.prepared = db.query("SELECT database, gid FROM pg_prepared_xacts")
    found.locks = db.query(
        "SELECT d.datname, l.pid, a.application_name, count(*) FROM pg_locks l"
        " JOIN pg_database d ON d.oid = l.database LEFT JOIN pg_stat_activity a ON a.pid = l.pid"
        " WHERE l.locktype = 'advisory' AND l.granted GROUP BY 1, 2, 3")
    found.sessions = db.query(
        "SELECT datname, application_name, state, query FROM pg_stat_activity"
        " WHERE state LIKE 'idle in transaction%%' AND application_name <> 'test'")


def _log_lines(world):
    for process in world.assentd.guard.processes:
        for line in (process.stderr() + process.stdout()).splitlines():
            if BUGS.search(line):
                yield "%s: %s" % (process.name, line)


def _ask(world, book, gids, found, workers):
    def some(mine):
        http = Http(world.address, book)
        for gid in mine:
            answer = _insist(http, "/v1/transactions/" + gid)
            if answer[0] == 200:
                value = answer[2]
                found.api[gid] = (value["state"], value["outcome"],
                                  {b["id"]: b["state"] for b in value["branches"]})
            else:
                found.api[gid] = None if answer[0] == 404 else answer
            value = _insist(http, "/v1/transactions/%s/decision" % gid)[2]
            found.decisions[gid] = (value.get("decision"), value.get("presumed"))
        http.close()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(some, [gids[i::workers] for i in range(workers)]))


def _insist(http, path):
    """Nothing is broken any more: an answer that is not one is a finding."""
    for _ in range(20):
        answer = http.ask("GET", path)
        if answer and answer[0] in (200, 404):
            break
    return answer or (0, None, {})
