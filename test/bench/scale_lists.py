"""A million stored transactions, and lists over them."""

import math
import threading
import time

# As the load generator makes them and the coordinator stores them: ended, committed, two branches,
# four calls; one in ten has two labels. The newest was created an hour ago, a hundred a second.
FILL = r"""
INSERT INTO assent.txn (gid, shard, epoch, mode, state, outcome, created_at, deadline_at, decided_at,
	ended_at, branch_state, body_sha256, submission, participants)
SELECT gid, n %% 64, 1, 1, state, CASE state WHEN 5 THEN 1 ELSE 2 END, at, at + interval '10 s',
	at + interval '2 ms', at + interval '4 ms', CASE state WHEN 5 THEN '\x0404' ELSE '\x0505' END::bytea,
	sha256(body), body, key
FROM (SELECT n, 'bench-' || n / 1000 || '-' || n %% 64 || '-' || n AS gid,
		CASE WHEN n %% 100 = 0 THEN 6 ELSE 5 END AS state,
		now() - interval '1 hour' - n * interval '10 ms' AS at,
		convert_to(format('{"gid":"bench-%%s-%%s-%%s","mode":"2pc","branches":[' ||
			'{"id":"b0","participant":"%%s","payload":{"n":1}},' ||
			'{"id":"b1","participant":"%%s","payload":{"n":1}}]}', n / 1000, n %% 64, n,
			%(a)s, %(b)s), 'UTF8') AS body,
		substr(sha256(convert_to(%(a)s, 'UTF8')), 1, 8)
			|| substr(sha256(convert_to(%(b)s, 'UTF8')), 1, 8) AS key
	FROM generate_series(1, %(n)s) AS n) AS t
"""
LABELS = r"""
INSERT INTO assent.label (gid, name, value, created_at)
SELECT t.gid, l.name, l.value, t.created_at FROM (SELECT gid, created_at,
	row_number() OVER () AS n FROM assent.txn) AS t
CROSS JOIN LATERAL (VALUES ('customer', 'c' || t.n %% 5000), ('region', 'r' || t.n %% 3))
	AS l(name, value) WHERE t.n %% 10 = 0
"""
HISTORY = r"""
INSERT INTO assent.history (gid, branch, op, attempt, started_at, ended_at, status, verdict, node)
SELECT t.gid, c.branch, c.op, 1, t.created_at + c.op * interval '1 ms',
	t.created_at + c.op * interval '1 ms' + interval '500 us', 200, c.verdict, 'bench'
FROM assent.txn t CROSS JOIN (VALUES ('b0', 1, 1), ('b1', 1, 1), ('b0', 2, 4), ('b1', 2, 4))
	AS c(branch, op, verdict)
"""


def fill(db, n, urls):
    db.query("SET synchronous_commit = off")
    run(db, FILL, {"n": n, "a": urls[0], "b": urls[1]})
    run(db, LABELS, {})
    run(db, HISTORY, {})
    db.query("VACUUM ANALYZE assent.txn")
    db.query("VACUUM ANALYZE assent.label")
    db.query("VACUUM ANALYZE assent.history")
    db.query("CHECKPOINT")


def run(db, sql, values):
    with db.connection.cursor() as cursor:
        cursor.execute(sql, values)


def kinds(urls, n):
    """Queries by name. Rare: matches few or none of those that are looked at."""
    return {
        "newest": {},
        "state": {"state": "committed"},
        "outcome": {"outcome": "aborted"},
        "outcome, none": {"outcome": "mixed"},
        "unfinished": {"outcome": "pending"},
        "stuck": {"stuck_for_ms": "1000"},
        "participant": {"participant": urls[1]},
        "participant, none": {"participant": "http://127.0.0.1:1"},
        "label, rare": {"label.customer": "c0"},
        "label, common": {"label.region": "r1"},
        "label, both": {"label.region": "r1", "label.customer": "c70"},
        "label, contradiction": {"label.region": "r1", "outcome": "mixed"},
        "created before": {"created_before": before(n // 2)},
        "between, none": {"created_after": before(n), "created_before": before(n // 2),
                          "outcome": "mixed"},
    }


def before(n):
    """The time at which the n-th newest of those stored was created."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 3600 - n / 100))


def ask(node, query, cursor=None):
    query = dict(query, limit="50")
    if cursor:
        query["cursor"] = cursor
    began = time.monotonic()
    reply = node.client.session.get(node.url + "/v1/transactions", params=query, timeout=30)
    took = 1e3 * (time.monotonic() - began)
    assert reply.status_code == 200, reply.text
    return took, reply.json()["next_cursor"]


def time_lists(node, query, n):
    """Milliseconds of n requests, each for the page after the one before, as Python sees it."""
    took, cursor = [], None
    for _ in range(n):
        ms, cursor = ask(node, query, cursor)
        took.append(ms)
    return took


def percentile(values, p):
    return sorted(values)[min(len(values) - 1, math.ceil(p * len(values)) - 1)]


class Beside:
    """One list after the other, every so many seconds, while the block runs."""

    def __init__(self, node, queries, every_s):
        self.node, self.queries, self.every_s = node, queries, every_s
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_exc):
        self.over.set()
        self.thread.join()

    def _run(self):
        n = 0
        while not self.over.wait(self.every_s):
            ask(self.node, self.queries[n % len(self.queries)])
            n += 1
