/*
 * Rules for statements here (they run in pipeline mode, a batch is one implicit transaction):
 * no BEGIN or COMMIT, no SET LOCAL, no LOCK TABLE; "not mine any more" is a missing row, never
 * an SQL error; every write joins assent.shard on the epoch its owner believes in.
 */
#include "io/sql.h"

/* 'asst': the class of the shards' advisory locks. */
#define LOCK_CLASS "1634956148"

/* In the order of enum get_column in api/stored.c. */
#define GET_SQL                                                                        \
	"SELECT mode, state, outcome, created_at, deadline_at, decided_at, ended_at,"  \
	" branch_state, body_sha256, submission, assent.enlisted_of(gid), parked_for," \
	" parked_until FROM assent.txn WHERE gid = $1"

/* In the order of enum load_column in node/load.c. `page` has all columns of assent.txn. A page is
 * bounded in bytes, too: `size` of its first rows, of one at least. */
#define PAGE(order, limit, bytes)                                                          \
	"SELECT gid, shard, mode, state, outcome, created_at, deadline_at, decided_at,"    \
	" branch_state, body_sha256, submission, assent.enlisted_of(gid), traceparent,"    \
	" parked_until, parked_calls, CASE mode WHEN 3 THEN assent.results_of(gid) END"    \
	" FROM (SELECT page.*, sum(page.size) OVER (ORDER BY " order                       \
	" ROWS UNBOUNDED PRECEDING) - page.size AS before FROM (SELECT t.*, "              \
	"octet_length(t.submission) + coalesce((SELECT sum(octet_length(e.branch))"        \
	" FROM assent.enlisted e WHERE e.gid = t.gid), 0) AS size FROM assent.txn t" limit \
	") AS page) AS page WHERE before < " bytes " ORDER BY " order

#define INSERT_TXN                                                                               \
	"INSERT INTO assent.txn (gid, shard, epoch, mode, state, outcome, created_at,"           \
	" deadline_at, decided_at, ended_at, branch_state, body_sha256, submission, "            \
	"participants, traceparent)"                                                             \
	" SELECT u.gid, u.shard, u.epoch, u.mode, u.state, u.outcome, u.created_at,"             \
	" u.deadline_at, u.decided_at, u.ended_at, u.branch_state, u.body_sha256, u.submission," \
	" u.participants, u.traceparent FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, "   \
	"$11, $12, $13, "                                                                        \
	"$14, $15)"                                                                              \
	" WITH ORDINALITY AS u(gid, shard, epoch, state, outcome, decided_at, ended_at,"         \
	" branch_state, deadline_at, mode, created_at, body_sha256, submission, participants, "  \
	"traceparent, n)"                                                                        \
	" JOIN assent.shard s ON s.shard = u.shard AND s.epoch = u.epoch ORDER BY u.n"           \
	" ON CONFLICT (gid) DO NOTHING RETURNING gid"
#define CREATE_PARAMS                                                                            \
	PG_TEXT_ARRAY, PG_INT2_ARRAY, PG_INT8_ARRAY, PG_INT2_ARRAY, PG_INT2_ARRAY,               \
	    PG_TIMESTAMPTZ_ARRAY, PG_TIMESTAMPTZ_ARRAY, PG_BYTEA_ARRAY, PG_TIMESTAMPTZ_ARRAY,    \
	    PG_INT2_ARRAY, PG_TIMESTAMPTZ_ARRAY, PG_BYTEA_ARRAY, PG_BYTEA_ARRAY, PG_BYTEA_ARRAY, \
	    PG_TEXT_ARRAY

/* Arrays travel through unnest; a generic plan made while the table was small would scan or
 * hash the big one for ever, so the journal's session may only use nested loops over indexes. */
const char *const sql_write_setup[] = {
    /* Before the session that waits is given up, so that no crowd of them is left behind. */
    "SET lock_timeout = '8s'",
    "SET synchronous_commit = on",
    "SET enable_seqscan = off",
    "SET enable_hashjoin = off",
    "SET enable_mergejoin = off",
    "SET plan_cache_mode = force_generic_plan",
    "SET jit = off",
    "SET timezone = 'UTC'",
    "SET tcp_keepalives_idle = 5",
    "SET tcp_keepalives_interval = 2",
    "SET tcp_keepalives_count = 3",
    NULL,
};

const char *const sql_read_setup[] = {
    "SET default_transaction_read_only = on",
    "SET statement_timeout = '10s'",
    "SET lock_timeout = '1s'",
    "SET jit = off",
    "SET timezone = 'UTC'",
    NULL,
};

/* clang-format off */
const struct pg_statement sql_write_statement[SQL_WRITE_MAX] = {
	[SQL_CREATE] = {
		.name = "create_txn",
		/* returns the gids that were new, in the arrays' order */
		.sql = INSERT_TXN,
		.param = { CREATE_PARAMS },
		.n_param = 15,
	},
	[SQL_CREATE_LABELED] = {
		.name = "create_txn_labeled",
		/* the same; labels of gids that were there already are left out. A plain IN would
		 * become a join, which is a nested loop in this session. */
		.sql =
		"WITH made AS (" INSERT_TXN "), labels AS ("
		" INSERT INTO assent.label (gid, name, value, created_at)"
		" SELECT l.gid, l.name, l.value, l.created_at"
		" FROM unnest($16, $17, $18, $19) AS l(gid, name, value, created_at)"
		" WHERE (l.gid IN (SELECT gid FROM made)) IS TRUE)"
		" SELECT gid FROM made",
		.param = { CREATE_PARAMS, PG_TEXT_ARRAY, PG_TEXT_ARRAY, PG_TEXT_ARRAY,
			PG_TIMESTAMPTZ_ARRAY },
		.n_param = 19,
	},
	[SQL_UPDATE] = {
		.name = "update_txn",
		/* returns the places in the arrays, from 1, of what is there and ours, in any order:
		 * with statistics that know of one row the table is scanned before the arrays */
		.sql =
		"UPDATE assent.txn t SET epoch = u.epoch, state = u.state, outcome = u.outcome,"
		" decided_at = u.decided_at, ended_at = u.ended_at, branch_state = u.branch_state,"
		" deadline_at = u.deadline_at"
		" FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9) WITH ORDINALITY"
		" AS u(gid, shard, epoch, state, outcome, decided_at, ended_at, branch_state,"
		" deadline_at, n)"
		" JOIN assent.shard s ON s.shard = u.shard AND s.epoch = u.epoch"
		" WHERE t.gid = u.gid RETURNING u.n",
		.param = { PG_TEXT_ARRAY, PG_INT2_ARRAY, PG_INT8_ARRAY, PG_INT2_ARRAY, PG_INT2_ARRAY,
			PG_TIMESTAMPTZ_ARRAY, PG_TIMESTAMPTZ_ARRAY, PG_BYTEA_ARRAY,
			PG_TIMESTAMPTZ_ARRAY },
		.n_param = 9,
	},
	[SQL_PARK] = {
		.name = "park",
		/* returns the places in the arrays, like update_txn */
		.sql =
		"UPDATE assent.txn t SET epoch = u.epoch, parked_for = u.parked_for,"
		" parked_until = u.parked_until, parked_calls = u.parked_calls,"
		" branch_state = u.branch_state"
		" FROM unnest($1, $2, $3, $4, $5, $6, $7) WITH ORDINALITY"
		" AS u(gid, shard, epoch, parked_for, parked_until, parked_calls, branch_state, n)"
		" JOIN assent.shard s ON s.shard = u.shard AND s.epoch = u.epoch"
		" WHERE t.gid = u.gid RETURNING u.n",
		.param = { PG_TEXT_ARRAY, PG_INT2_ARRAY, PG_INT8_ARRAY, PG_TEXT_ARRAY,
			PG_TIMESTAMPTZ_ARRAY, PG_BYTEA_ARRAY, PG_BYTEA_ARRAY },
		.n_param = 7,
	},
	[SQL_ENLIST] = {
		.name = "enlist",
		.sql =
		"INSERT INTO assent.enlisted (gid, n, branch, participant)"
		" SELECT u.gid, u.n, u.branch, u.participant FROM unnest($1, $2, $3, $4, $5, $6)"
		" AS u(gid, shard, epoch, n, branch, participant)"
		" JOIN assent.shard s ON s.shard = u.shard AND s.epoch = u.epoch",
		.param = { PG_TEXT_ARRAY, PG_INT2_ARRAY, PG_INT8_ARRAY, PG_INT2_ARRAY,
			PG_BYTEA_ARRAY, PG_BYTEA_ARRAY },
		.n_param = 6,
	},
	[SQL_RESULT] = {
		.name = "result",
		.sql =
		"INSERT INTO assent.result (gid, n, body)"
		" SELECT u.gid, u.n, u.body FROM unnest($1, $2, $3, $4, $5)"
		" AS u(gid, shard, epoch, n, body)"
		" JOIN assent.shard s ON s.shard = u.shard AND s.epoch = u.epoch",
		.param = { PG_TEXT_ARRAY, PG_INT2_ARRAY, PG_INT8_ARRAY, PG_INT2_ARRAY,
			PG_BYTEA_ARRAY },
		.n_param = 5,
	},
	[SQL_HISTORY] = {
		.name = "history",
		.sql =
		"INSERT INTO assent.history (gid, branch, op, attempt, started_at, ended_at, status,"
		" verdict, error, node)"
		" SELECT u.gid, u.branch, u.op, u.attempt, u.started_at, u.ended_at, u.status,"
		" u.verdict, u.error, $12"
		" FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
		" AS u(gid, shard, epoch, branch, op, attempt, started_at, ended_at, status, verdict, error)"
		" JOIN assent.shard s ON s.shard = u.shard AND s.epoch = u.epoch",
		.param = { PG_TEXT_ARRAY, PG_INT2_ARRAY, PG_INT8_ARRAY, PG_TEXT_ARRAY, PG_INT2_ARRAY,
			PG_INT4_ARRAY, PG_TIMESTAMPTZ_ARRAY, PG_TIMESTAMPTZ_ARRAY, PG_INT2_ARRAY,
			PG_INT2_ARRAY, PG_TEXT_ARRAY, PG_TEXT },
		.n_param = 12,
	},
	[SQL_ALERT_RAISE] = {
		.name = "alert_raise",
		/* A branch that is a member already is no new occurrence: after a restart nobody
		 * remembers. Of two in one flush the later one speaks for the alert. */
		.sql =
		"WITH u AS (SELECT DISTINCT ON (u.gid, u.branch, u.kind) u.*"
		"  FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) WITH ORDINALITY"
		"  AS u(gid, shard, epoch, branch, at, kind, severity, participant, error, detail,"
		"   lasting, n)"
		"  JOIN assent.shard s ON s.shard = u.shard AND s.epoch = u.epoch"
		"  ORDER BY u.gid, u.branch, u.kind, u.n DESC),"
		" fresh AS (SELECT * FROM u WHERE NOT EXISTS (SELECT FROM assent.alert_member m"
		"  WHERE m.gid = u.gid AND m.branch = u.branch AND m.kind = u.kind"
		"  AND (m.closed_at IS NULL OR m.lasting))),"
		" a AS (INSERT INTO assent.alert AS a (kind, severity, participant, error, gid, branch,"
		"   detail, count, n_open, first_at, last_at)"
		"  SELECT kind, max(severity), participant, error, (array_agg(gid ORDER BY n DESC))[1],"
		"   (array_agg(branch ORDER BY n DESC))[1], (array_agg(detail ORDER BY n DESC))[1],"
		"   count(*), count(*), min(at), max(at) FROM fresh GROUP BY kind, participant, error"
		"  ON CONFLICT (kind, participant, error) WHERE closed_at IS NULL DO UPDATE SET"
		"   gid = excluded.gid, branch = excluded.branch, detail = excluded.detail,"
		"   count = a.count + excluded.count, n_open = a.n_open + excluded.n_open,"
		"   last_at = greatest(a.last_at, excluded.last_at)"
		"  RETURNING a.id, a.kind, a.participant, a.error)"
		" INSERT INTO assent.alert_member (gid, branch, kind, alert, lasting, raised_at)"
		" SELECT f.gid, f.branch, f.kind, a.id, f.lasting <> 0, f.at FROM fresh f"
		" JOIN a ON a.kind = f.kind AND a.participant = f.participant AND a.error = f.error"
		" ON CONFLICT (gid, branch, kind) DO UPDATE SET alert = excluded.alert,"
		"  lasting = excluded.lasting, raised_at = excluded.raised_at, closed_at = NULL",
		.param = { PG_TEXT_ARRAY, PG_INT2_ARRAY, PG_INT8_ARRAY, PG_TEXT_ARRAY,
			PG_TIMESTAMPTZ_ARRAY, PG_TEXT_ARRAY, PG_TEXT_ARRAY, PG_TEXT_ARRAY,
			PG_TEXT_ARRAY, PG_TEXT_ARRAY, PG_INT2_ARRAY },
		.n_param = 11,
	},
	[SQL_ALERT_CLOSE] = {
		.name = "alert_close",
		.sql =
		"WITH m AS (UPDATE assent.alert_member m SET closed_at = greatest(u.at, m.raised_at)"
		"  FROM unnest($1, $2, $3, $4, $5) AS u(gid, shard, epoch, branch, at)"
		"  JOIN assent.shard s ON s.shard = u.shard AND s.epoch = u.epoch"
		"  WHERE m.gid = u.gid AND m.branch = u.branch AND NOT m.lasting"
		"  AND m.closed_at IS NULL RETURNING m.alert, m.closed_at),"
		" n AS (SELECT alert, count(*) AS n, max(closed_at) AS at FROM m GROUP BY alert)"
		" UPDATE assent.alert a SET n_open = a.n_open - n.n,"
		"  closed_at = CASE WHEN a.n_open = n.n THEN greatest(n.at, a.last_at) END"
		" FROM n WHERE a.id = n.alert",
		.param = { PG_TEXT_ARRAY, PG_INT2_ARRAY, PG_INT8_ARRAY, PG_TEXT_ARRAY,
			PG_TIMESTAMPTZ_ARRAY },
		.n_param = 5,
	},
	[SQL_ALERT_COUNTS] = {
		.name = "alert_counts",
		.sql = "SELECT kind, count(*) FROM assent.alert WHERE closed_at IS NULL GROUP BY kind",
	},
	[SQL_LOCK] = {
		.name = "lock_shards",
		/* got, and who holds what is missing */
		.sql =
		"SELECT count(*) FILTER (WHERE got), count(*),"
		" (SELECT coalesce(min(l.pid), 0) FROM pg_locks l WHERE l.locktype = 'advisory'"
		"  AND l.classid = " LOCK_CLASS " AND l.objsubid = 2 AND l.granted"
		"  AND l.pid <> pg_backend_pid()"
		"  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
		" FROM (SELECT pg_try_advisory_lock(" LOCK_CLASS ", shard) AS got"
		"  FROM assent.shard ORDER BY shard) AS l",
	},
	[SQL_UNLOCK] = {
		.name = "unlock_shards",
		.sql = "SELECT pg_advisory_unlock_all()",
	},
	[SQL_TAKE] = {
		.name = "take_shards",
		.sql =
		"UPDATE assent.shard SET epoch = epoch + 1, node = $1, taken_at = now()"
		" RETURNING shard, epoch",
		.param = { PG_TEXT },
		.n_param = 1,
	},
	[SQL_HELLO] = {
		.name = "hello",
		.sql =
		"SELECT (SELECT id FROM assent.cluster),"
		" (extract(epoch FROM clock_timestamp()) * 1000000)::int8,"
		" (SELECT coalesce(max(version), 0) FROM assent.migration), pg_is_in_recovery()",
	},
	[SQL_LOAD] = {
		.name = "load_page",
		/* $1, $2: behind this one; $3 rows, $4 bytes; $5: 0 what is not decided, 1 what is.
		 * Whatever the present owner has written is in its memory. */
		.sql = PAGE("created_at, gid",
			" JOIN assent.shard s ON s.shard = t.shard AND t.epoch < s.epoch"
			" WHERE t.ended_at IS NULL AND t.parked_for IS NULL"
			" AND (t.created_at, t.gid) > ($1, $2)"
			" AND CASE $5 WHEN 0 THEN t.outcome = 0 ELSE t.outcome <> 0 END"
			" ORDER BY t.created_at, t.gid LIMIT $3", "$4"),
		.param = { PG_TIMESTAMPTZ, PG_TEXT, PG_INT8, PG_INT8, PG_INT2 },
		.n_param = 5,
	},
	[SQL_LANES] = {
		.name = "lanes",
		.sql =
		"SELECT parked_for, count(*), max(parked_until) FROM assent.txn WHERE parked_for IS NOT NULL"
		" AND ended_at IS NULL GROUP BY parked_for",
	},
	[SQL_TAKE_BACK] = {
		.name = "take_back",
		/* $1: whose; $2, $3: behind this one; $4 rows, $5 bytes; $6: due until then, or
		 * $7 where the participant asked for the time (txn_memo) */
		.sql = PAGE("parked_until, gid",
			" WHERE t.parked_for = $1 AND t.ended_at IS NULL"
			" AND (t.parked_until, t.gid) > ($2, $3) AND t.parked_until <= $6"
			" AND (t.parked_until <= $7 OR get_byte(t.parked_calls, 0) = 0)"
			" ORDER BY t.parked_until, t.gid LIMIT $4", "$5"),
		.param = { PG_TEXT, PG_TIMESTAMPTZ, PG_TEXT, PG_INT8, PG_INT8, PG_TIMESTAMPTZ,
			PG_TIMESTAMPTZ },
		.n_param = 7,
	},
	[SQL_PARKED_NEXT] = {
		.name = "parked_next",
		/* $1: whose; $2, $3: what take_back has as $6 and $7 */
		.sql =
		"SELECT parked_until FROM assent.txn WHERE parked_for = $1 AND ended_at IS NULL"
		" AND parked_until > least($2, $3)"
		" AND (parked_until > $2 OR get_byte(parked_calls, 0) = 1)"
		" ORDER BY parked_until LIMIT 1",
		.param = { PG_TEXT, PG_TIMESTAMPTZ, PG_TIMESTAMPTZ },
		.n_param = 3,
	},
	[SQL_PARTITIONS] = {
		.name = "partitions",
		.sql = "SELECT assent.history_prepare(3)",
	},
	[SQL_FIND] = {
		.name = "find_txn",
		.sql = GET_SQL,
		.param = { PG_TEXT },
		.n_param = 1,
	},
};

/* In the order of enum alert_column in api/alerts.c. Open alerts name members that are open, and
 * closed ones those that were; twenty at most. */
#define ALERT_MEMBERS(which) \
	"SELECT json_agg(json_build_object('gid', m.gid, 'branch', m.branch)) FROM (SELECT gid, branch" \
	" FROM assent.alert_member WHERE alert = a.id" which " ORDER BY raised_at DESC LIMIT 20) m"
#define ALERTS(which) \
	"SELECT a.id, a.kind, a.severity, a.participant, a.error, a.gid, a.branch, a.detail, a.count," \
	" a.n_open, a.first_at, a.last_at, a.closed_at, coalesce(CASE WHEN a.closed_at IS NULL THEN (" \
	ALERT_MEMBERS(" AND closed_at IS NULL") ") ELSE (" ALERT_MEMBERS("") ") END, '[]')::text" \
	" FROM assent.alert a WHERE " which " AND ($2 IS NULL OR a.kind = $2)" \
	" AND ($3 IS NULL OR a.severity = $3) AND ($4 IS NULL OR a.participant = $4)" \
	" AND ($5 IS NULL OR a.id < $5) ORDER BY a.id DESC LIMIT $6"

const struct pg_statement sql_read_statement[SQL_READ_MAX] = {
	[SQL_GET] = {
		.name = "get_txn",
		.sql = GET_SQL,
		.param = { PG_TEXT },
		.n_param = 1,
	},
	[SQL_BRANCH_CALLS] = {
		.name = "branch_calls",
		/* verdicts: 1 yes, 2 read_only, 4 done */
		.sql =
		"SELECT branch, count(*), (array_agg(coalesce(error, 'HTTP ' || status)"
		" ORDER BY started_at DESC) FILTER (WHERE verdict NOT IN (1, 2, 4)))[1]"
		" FROM assent.history WHERE gid = $1 GROUP BY branch",
		.param = { PG_TEXT },
		.n_param = 1,
	},
	[SQL_EXISTS] = {
		.name = "exists",
		.sql = "SELECT FROM assent.txn WHERE gid = $1",
		.param = { PG_TEXT },
		.n_param = 1,
	},
	[SQL_ATTEMPTS] = {
		.name = "get_attempts",
		.sql =
		"SELECT branch, op, attempt, started_at, ended_at, status, verdict, error, node"
		" FROM assent.history WHERE gid = $1 ORDER BY started_at, branch, op, attempt LIMIT $2",
		.param = { PG_TEXT, PG_INT8 },
		.n_param = 2,
	},
	[SQL_ALERTS_ANY] = {
		.name = "alerts_any",
		.sql = ALERTS("($1 IS DISTINCT FROM 'closed' OR a.closed_at IS NOT NULL)"),
		.param = { PG_TEXT, PG_TEXT, PG_TEXT, PG_TEXT, PG_INT8, PG_INT8 },
		.n_param = 6,
	},
	[SQL_ALERTS_OPEN] = {
		.name = "alerts_open",
		.sql = ALERTS("$1 IS NOT NULL AND a.closed_at IS NULL"),
		.param = { PG_TEXT, PG_TEXT, PG_TEXT, PG_TEXT, PG_INT8, PG_INT8 },
		.n_param = 6,
	},
	[SQL_OWNERS] = {
		.name = "owners",
		.sql =
		"SELECT node, max(epoch) FROM assent.shard WHERE node IS NOT NULL"
		" GROUP BY node ORDER BY node",
	},
	[SQL_PARKED_OLDEST] = {
		.name = "parked_oldest",
		.sql =
		"SELECT l.label, t.gid, t.state, t.created_at, t.decided_at FROM unnest($1) AS l(label)"
		" CROSS JOIN LATERAL (SELECT * FROM assent.txn t WHERE t.parked_for = l.label"
		" AND t.ended_at IS NULL ORDER BY t.created_at, t.gid LIMIT 1) AS t"
		" ORDER BY t.created_at",
		.param = { PG_TEXT_ARRAY },
		.n_param = 1,
	},
	[SQL_PING] = {
		.name = "ping",
		.sql = "SELECT 1",
	},
};
/* clang-format on */
