"""`make bench ARGS=--budget`: where the time of one two-phase commit goes, step by step.

One client, two branches, participants that do nothing. What is between the coordinator's own time
stamps is taken from what it stores; the first and the last step, which no stamp separates, are what
is left of the latency that the client saw. Every figure is a median, so they add up nearly.
"""

import json
import subprocess

STAMPS = """
    WITH call AS (
        SELECT gid, min(started_at) FILTER (WHERE op = 'prepare') AS prepare,
            max(ended_at) FILTER (WHERE op = 'prepare') AS voted,
            min(started_at) FILTER (WHERE op = 'commit') AS commit,
            max(ended_at) FILTER (WHERE op = 'commit') AS done
        FROM assent.attempts GROUP BY gid),
    step AS (
        SELECT prepare - created_at AS a, voted - prepare AS b, decided_at - voted AS c,
            commit - decided_at AS d, done - commit AS e, ended_at - done AS f
        FROM call JOIN assent.transactions USING (gid) WHERE outcome = 'committed')
    SELECT count(*), %s FROM step""" % ", ".join(
        "percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM %s)) * 1e6" % c
        for c in "abcdef")

STEPS = ("created in memory, stored: first commit of the database, then the calls begin",
         "both prepares, until the second vote is there",
         "judged, decided",
         "the decision stored: second commit of the database, then the calls begin",
         "both commits, until the second is acknowledged",
         "judged, ended; the record of the end goes with a later flush")


def measure(load, assentd, participants, seconds):
    """{step: microseconds} in order, and the latency that the client saw."""
    out = subprocess.run([load, assentd.url, "1", "1", str(seconds)] + participants, check=True,
                         capture_output=True, text=True).stdout
    seen_us = json.loads(out)["p50_us"]
    n, *us = assentd.db.query(STAMPS)[0]
    rest = seen_us - sum(us)
    steps = dict(zip(STEPS, (float(u) for u in us)))
    steps["request read and decoded, answer written, and the client's own part"] = rest
    return n, steps, seen_us


def print_table(n, steps, seen_us):
    for what, us in steps.items():
        print("%7.0f us  %3.0f%%  %s" % (us, 100 * us / seen_us, what))
    print("%7.0f us  as one client saw it; medians of %d transactions" % (seen_us, n))
