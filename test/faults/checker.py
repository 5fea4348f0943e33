"""Holds what clients were told against what is in every database. Pure: evidence in, findings out.

Each finding has a name; test/trouble/test_faults.py plants one of each and sees it found.
"""

from collections import namedtuple

from .book import ENDED
from .evidence import Effect

Finding = namedtuple("Finding", "name handle text")

# How far a transaction is, as an answer shows it. The end may be told before it is stored: after
# that a crash shows it as being delivered again, with the same outcome.
RANK = {"active": 0, "preparing": 1, "one_phase": 1, "arbitrating": 1, "trying": 1, "running": 1,
        "asking": 1, "pre_committing": 1, "pre_aborting": 1,
        "committing": 2, "aborting": 2, "confirming": 2, "cancelling": 2, "compensating": 2,
        "committed": 2, "aborted": 2, "mixed": 2}
OUTCOME_OF = {"commit": "committed", "abort": "aborted"}
# What is told to participants only with that outcome. A confirm may be undone if that was agreed.
OUTCOME_TOLD = {"commit": "committed", "confirm": "committed", "rollback": "aborted",
                "cancel": "aborted", "compensate": "aborted", "do_commit": "committed",
                "abort": "aborted", "pre_abort": "aborted"}


def check(world, book, found):
    findings = [Finding(name, gid, text) for name, gid, text in book.problems]
    expected = {}
    for plan in book.plans.values():
        gid = found.gid_of.get(plan.handle, plan.gid)
        row = found.txns.get(gid)
        findings += _told(plan, gid, row, book.events(plan.handle), found)
        findings += _stored(plan, gid, row, found)
        findings += _effects(plan, gid, row, found, expected)
    findings += _unexplained(found, expected, book)
    findings += _sums(world, found)
    findings += _left(world, book, found)
    return findings


def may_mix(plan):
    """A participant of a three-phase commit that may commit without having reached anybody; then
    somebody is told."""
    return plan.mode == "3pc" and not plan.waits


def _is_mixed(plan, row):
    return bool(row) and row[1] == "mixed" and may_mix(plan)


def _claims(event):
    """The outcome that an answer claims: pending, committed, aborted, or None for no claim."""
    if event.what == "decision" and event.more and "decision" in event.more:
        if event.more["presumed"]:
            return None
        return OUTCOME_OF.get(event.more["decision"], "pending")
    return event.outcome


def _told(plan, gid, row, events, found):
    handle = plan.handle
    ended = {o for o in map(_claims, events) if o in ENDED}
    if len(ended - {"mixed"} if _is_mixed(plan, row) else ended) > 1:
        yield Finding("outcome changed", handle, "told %s" % sorted(ended))
    for outcome in ended:
        # The decision is told before all have carried it out, or said that they have not.
        if row and row[1] != outcome and not _is_mixed(plan, row):
            yield Finding("outcome contradicted", handle, "told %s, stored %s" % (outcome, row[1]))
    # Only what was known before a request was sent binds its answer.
    stored_at = min((e.got for e in events if e.state or _claims(e)), default=None)
    decided_at = min((e.got for e in events if _claims(e) in ENDED), default=None)
    if stored_at is not None and row is None:
        yield Finding("stored and lost", handle, "told stored, and there is no such transaction")
    for e in events:
        if stored_at is not None and e.sent > stored_at:
            if e.status == 404:
                yield Finding("stored and denied", handle, "%s: 404 after it was stored" % e.what)
            if e.more and e.more.get("presumed"):
                yield Finding("stored and presumed", handle, "presumed unknown after it was stored")
        if decided_at is not None and e.sent > decided_at and _claims(e) == "pending":
            yield Finding("went back", handle, "%s says pending after an outcome" % e.what)
    yield from _backwards(handle, events)
    if row and row[1] in ENDED:
        yield from _enlisted(plan, gid, events, found)


def _backwards(handle, events):
    told = sorted((e for e in events if e.state in RANK), key=lambda e: e.got)
    for later in told:
        before = [e for e in told if e.got < later.sent]
        if before and max(RANK[e.state] for e in before) > RANK[later.state]:
            yield Finding("went back", handle, "%s after %s" % (
                later.state, max(before, key=lambda e: RANK[e.state]).state))
        # A GET shows what is stored: that is never taken back.
        if later.what == "GET" and later.state not in ENDED and any(
                e.what == "GET" and e.state in ENDED for e in before):
            yield Finding("went back", handle, "GET: %s after it had ended" % later.state)


def _enlisted(plan, gid, events, found):
    have = found.branches.get(gid, {})
    tries = {}
    for e in events:
        if e.what.startswith("enlist "):
            tries.setdefault(e.what.split()[1], []).append(e)
    for branch, told in tries.items():
        if any(e.status in (200, 202) for e in told) and branch not in have:
            yield Finding("enlisted and lost", plan.handle, "branch %s is not in it" % branch)
        if all(e.status == 409 for e in told) and branch in have:
            yield Finding("refused and enlisted", plan.handle, "branch %s is in it" % branch)


def _stored(plan, gid, row, found):
    api = found.api.get(gid)
    decision, presumed = found.decisions.get(gid, ("abort", True))
    if row is None:
        if api is not None or not presumed or decision != "abort":
            yield Finding("api contradicts", plan.handle, "not stored, and it says %s, %s" % (
                api, decision))
        return
    state, outcome, ended = row
    if not ended:
        yield Finding("unfinished", plan.handle, "%s is still %s" % (gid, state))
    if _is_mixed(plan, row):
        if gid not in {alert[3] for alert in found.alerts}:
            yield Finding("mixed without alert", plan.handle, "nobody was told")
        return
    if outcome == "mixed" or outcome not in ENDED:
        yield Finding("mixed", plan.handle, "outcome %s" % outcome)
    if api is None or api[:2] != (state, outcome) or OUTCOME_OF.get(decision) != outcome:
        yield Finding("api contradicts", plan.handle, "stored %s, it says %s, %s" % (
            row, api, decision))
    if plan.refused and outcome == "committed" and _refusers(plan) & set(
            found.branches.get(gid, {})):
        yield Finding("refused and committed", plan.handle, "a branch asks for too much")
    if plan.mode == "2pc" and len(found.branches.get(gid, {})) == 1:
        return  # its only commit is a vote
    for branch, op, verdict in found.history.get(gid, ()):
        if verdict in ("done", "yes") and OUTCOME_TOLD.get(op, outcome) != outcome and not (
                op == "confirm" and plan.undo_confirms):
            yield Finding("history contradicts", plan.handle, "%s of %s %s, outcome %s" % (
                op, branch, verdict, outcome))


def _refusers(plan):
    return {w.branch for w in plan.works if w.is_poor}


def _stands(mode, ops):
    """Whether the rows of libassent say that a branch's work is there and stays. None for what
    still waits to be decided."""
    did = {op for op, maker in ops.items() if op == maker}
    if mode == "2pc":
        return ops.get("prepare") in ("prepare", "commit")
    if mode == "3pc":
        return ops.get("pre_commit") == "pre_commit"
    if mode == "saga":
        return "action" in did and "compensate" not in did
    if "cancel" in did or "try" not in did:
        return False
    return True if "confirm" in did else None


def _effects(plan, gid, row, found, expected):
    have = found.branches.get(gid, {}) if row else {}
    for work in plan.works:
        wanted = bool(row) and row[1] == "committed" and work.branch in have
        if _is_mixed(plan, row):
            wanted = have.get(work.branch) in ("committed", "heuristic_committed")
        expected[work.key] = plan.handle
        effect = found.effects.get(work.key, Effect())
        seen = "%s: %s, stored: %s" % (work.key, effect, row)
        if effect.taken > 1 or effect.held > 1:
            yield Finding("effect doubled", plan.handle, seen)
        if effect.undone > 1 or effect.freed > 1:
            yield Finding("undone twice", plan.handle, seen)
        if effect.taken - effect.undone < wanted:
            yield Finding("effect lost", plan.handle, seen)
        if effect.taken > effect.undone and not wanted:
            yield Finding("effect of nothing", plan.handle, seen)
        if effect.held != effect.freed:
            yield Finding("held and left", plan.handle, seen)
        ops = found.barrier.get((work.service, gid, work.branch), {})
        if _stands(plan.mode, ops) is not wanted:
            yield Finding("barrier contradicts", plan.handle, "%s: %s, stored: %s" % (
                work.branch, ops, row))


def _unexplained(found, expected, book):
    for key in found.effects:
        if key not in expected:
            yield Finding("effect unexplained", None, "%s" % (key,))
    known = {found.gid_of.get(p.handle, p.gid) for p in book.plans.values()}
    for gid in found.txns:
        if gid not in known:
            yield Finding("transaction unexplained", None, gid)


def _sums(world, found):
    for service, levels in found.levels.items():
        taken = {}
        for (of, row, amount), effect in found.effects.items():
            if of == service:
                taken[row] = taken.get(row, 0) + (effect.taken - effect.undone) * amount
        for row, level in levels.items():
            if level < 0 or world.initial[service][row] - taken.get(row, 0) != level:
                yield Finding("sum broken", None, "%s %s: %d at first, %d taken, %d left" % (
                    service, row, world.initial[service][row], taken.get(row, 0), level))
        for row, n in found.held[service].items():
            yield Finding("held and left", None, "%s %s: %d" % (service, row, n))


def _left(world, book, found):
    mixed = {found.gid_of.get(p.handle, p.gid) for p in book.plans.values()
             if _is_mixed(p, found.txns.get(found.gid_of.get(p.handle, p.gid)))}
    for database, name in found.prepared:
        yield Finding("prepared and left", None, "%s in %s" % (name, database))
    owners = [lock for lock in found.locks if lock[0] == "assent"]
    if [lock[2:] for lock in owners] != [("assentd journal", 64)]:
        yield Finding("lock left", None, "locks on shards: %s" % owners)
    for lock in found.locks:
        if lock[0] != "assent":
            yield Finding("lock left", None, "%s" % (lock,))
    for session in found.sessions:
        yield Finding("transaction left open", None, "%s" % (session,))
    for alert in (a for a in found.alerts if a[3] not in mixed):
        yield Finding("alert open", None, "%s" % (alert,))
    for line in found.log_lines:
        yield Finding("log", None, line)
    for name, keeper in world.keepers.items():
        if keeper.hwm_kib > world.hwm_max_kib:
            yield Finding("memory", None, "%s used %d KiB" % (name, keeper.hwm_kib))
        if world.fds.get(name, 0) > world.fds_max:
            yield Finding("descriptors", None, "%s has %d open" % (name, world.fds[name]))


def story(world, book, found, handle):
    """All that is known of one transaction, for a person."""
    plan = book.plans[handle]
    gid = found.gid_of.get(handle, plan.gid)
    yield "%s %s, gid %s%s" % (plan.kind, handle, gid, ", to be refused" if plan.refused else "")
    for event in book.events(handle):
        yield "  told    %s" % event
    yield "  stored  %s  branches %s" % (found.txns.get(gid), found.branches.get(gid))
    yield "  api     %s  decision %s" % (found.api.get(gid), found.decisions.get(gid))
    for work in plan.works:
        yield "  effect  %s: %s, barrier %s" % (
            work.key, found.effects.get(work.key),
            found.barrier.get((work.service, gid, work.branch)))
    rows = world.assentd.db.query(
        "SELECT started_at, ended_at, branch, op, attempt, status, verdict, error"
        " FROM assent.attempts WHERE gid = %s ORDER BY started_at", gid) if gid else []
    for row in rows:
        yield "  attempt %s" % "  ".join(str(v) for v in row)
