/*
 * sql_list.c - statements of lists and of the purge; the rules of sql.c hold here, too.
 */
#include "io/sql.h"

/* 'assu': held during a batch of the purge, so that two nodes do not work on the same rows. */
#define PURGE_CLASS "1634956149"

/* Each statement has one good plan, along an index that has the list's order; the settings leave
 * the planner no other, whatever it believes about the tables. */
const char *const sql_list_setup[] = {
    "SET default_transaction_read_only = on",
    "SET statement_timeout = '2s'",
    "SET lock_timeout = '1s'",
    "SET enable_seqscan = off",
    "SET enable_bitmapscan = off",
    "SET enable_hashjoin = off",
    "SET enable_mergejoin = off",
    "SET enable_sort = off",
    "SET plan_cache_mode = force_generic_plan",
    "SET jit = off",
    "SET timezone = 'UTC'",
    NULL,
};

/* Nobody waits for its commits, and what a crash loses of them is purged once more. */
const char *const sql_purge_setup[] = {
    "SET synchronous_commit = off",
    "SET statement_timeout = '30s'",
    "SET lock_timeout = '200ms'",
    "SET enable_seqscan = off",
    "SET enable_hashjoin = off",
    "SET enable_mergejoin = off",
    "SET plan_cache_mode = force_generic_plan",
    "SET jit = off",
    "SET timezone = 'UTC'",
    NULL,
};

/* $1, $2: only what is older than this; $3: not older than this; $4: rows to look at; $5: rows to
 * return; then the filters, each NULL for none: $6 unfinished, $7 mode, $8 state, $9 outcome,
 * $10 participant, $11 in its phase for so many milliseconds, $12, $13 labels. */
#define LIST_PARAMS                                                                           \
	PG_TIMESTAMPTZ, PG_TEXT, PG_TIMESTAMPTZ, PG_INT8, PG_INT8, PG_BOOL, PG_INT2, PG_INT2, \
	    PG_INT2, PG_BYTEA, PG_INT8, PG_TEXT_ARRAY, PG_TEXT_ARRAY

#define FILTERS                                                                                   \
	" ($7::int2 IS NULL OR t.mode = $7) AND ($8::int2 IS NULL OR t.state = $8)"               \
	" AND ($9::int2 IS NULL OR t.outcome = $9)"                                               \
	" AND ($10::bytea IS NULL OR position($10 IN t.participants) > 0"                         \
	" OR (length(t.branch_state) > length(t.participants) / 8"                                \
	" AND EXISTS (SELECT FROM assent.enlisted e"                                              \
	" WHERE e.gid = t.gid AND e.participant = $10)))"                                         \
	" AND ($11::int8 IS NULL OR (t.ended_at IS NULL"                                          \
	" AND coalesce(t.decided_at, t.created_at) <= now() - $11 * interval '1 millisecond'))"   \
	" AND ($12::text[] IS NULL OR NOT EXISTS (SELECT FROM unnest($12, $13) AS w(name, value)" \
	" WHERE NOT EXISTS (SELECT FROM assent.label x WHERE x.gid = t.gid AND x.name = w.name"   \
	" AND x.value = w.value)))"

/* In the order of enum list_column in api/list.c. */
#define SUMMARY                                                                                   \
	"t.gid, t.mode, t.state, t.outcome, t.created_at, t.deadline_at, t.decided_at,"           \
	" t.ended_at, t.parked_for, t.parked_until, length(t.branch_state) AS n_branch, (SELECT " \
	"json_object_agg(x.name, x.value"                                                         \
	" ORDER BY x.name)::text FROM assent.label x WHERE x.gid = t.gid) AS labels"

/* Behind the page, when it is not full, the place up to which was looked, if anything is beyond;
 * it has no mode. */
#define PAGE_AND_REACHED                                                                          \
	" SELECT * FROM page UNION ALL SELECT r.gid, NULL, NULL, NULL, r.created_at, NULL, NULL," \
	" NULL, NULL, NULL, NULL, NULL FROM reached r WHERE (SELECT count(*) FROM page) < $5"

/* Unfinished and ended transactions have an index each; this merges the two. */
#define WALK(columns)                                                         \
	"((SELECT " columns " FROM assent.txn t WHERE t.ended_at IS NULL"     \
	" AND $6::boolean IS NOT FALSE AND (t.created_at, t.gid) < ($1, $2)"  \
	" AND t.created_at >= $3 ORDER BY t.created_at DESC, t.gid DESC)"     \
	" UNION ALL"                                                          \
	" (SELECT " columns " FROM assent.txn t WHERE t.ended_at IS NOT NULL" \
	" AND $6::boolean IS NOT TRUE AND (t.created_at, t.gid) < ($1, $2)"   \
	" AND t.created_at >= $3 ORDER BY t.created_at DESC, t.gid DESC))"

#define NEWEST_FIRST " ORDER BY t.created_at DESC, t.gid DESC"

/* clang-format off */
const struct pg_statement sql_list_statement[SQL_LIST_MAX] = {
	[SQL_LIST_KEY] = {
		.name = "list_key",
		.sql = "SELECT cursor_key FROM assent.cluster",
	},
	[SQL_LIST_WALK] = {
		.name = "list_walk",
		.sql =
		"WITH page AS MATERIALIZED (SELECT " SUMMARY " FROM (SELECT * FROM "
		WALK("t.gid, t.mode, t.state, t.outcome, t.created_at, t.deadline_at, t.decided_at,"
			" t.ended_at, t.parked_for, t.parked_until, t.branch_state, t.participants")
		" AS t" NEWEST_FIRST " LIMIT $4) AS t WHERE" FILTERS NEWEST_FIRST " LIMIT $5),"
		" reached AS (SELECT t.gid, t.created_at FROM " WALK("t.gid, t.created_at")
		" AS t" NEWEST_FIRST " OFFSET $4 - 1 LIMIT 1)"
		PAGE_AND_REACHED,
		.param = { LIST_PARAMS },
		.n_param = 13,
	},
	[SQL_LIST_LABEL] = {
		.name = "list_label",
		/* the first label leads, all of them are checked */
		.sql =
		"WITH page AS MATERIALIZED (SELECT " SUMMARY " FROM (SELECT t.gid, t.created_at"
		" FROM assent.label t WHERE t.name = ($12)[1] AND t.value = ($13)[1]"
		" AND (t.created_at, t.gid) < ($1, $2) AND t.created_at >= $3"
		NEWEST_FIRST " LIMIT $4) AS k JOIN assent.txn t ON t.gid = k.gid WHERE"
		" ($6::boolean IS NULL OR (t.ended_at IS NULL) = $6) AND" FILTERS
		" ORDER BY k.created_at DESC, k.gid DESC LIMIT $5),"
		" reached AS (SELECT t.gid, t.created_at FROM assent.label t"
		" WHERE t.name = ($12)[1] AND t.value = ($13)[1]"
		" AND (t.created_at, t.gid) < ($1, $2) AND t.created_at >= $3"
		NEWEST_FIRST " OFFSET $4 - 1 LIMIT 1)"
		PAGE_AND_REACHED,
		.param = { LIST_PARAMS },
		.n_param = 13,
	},
};

const struct pg_statement sql_purge_statement[SQL_PURGE_MAX] = {
	[SQL_PURGE_PAGE] = {
		.name = "purge_page",
		/* $1, $2: only what is younger than this; $3: milliseconds to keep; $4: rows to look
		 * at. Returns how many it looked at, how many it deleted, and the last place. Outcome
		 * 3 is mixed: a person has to see it. */
		.sql =
		"WITH turn AS MATERIALIZED"
		" (SELECT pg_try_advisory_xact_lock(" PURGE_CLASS ", 0) AS mine),"
		" page AS MATERIALIZED (SELECT t.gid, t.created_at,"
		" t.outcome <> 3 AND t.ended_at < now() - $3 * interval '1 millisecond' AS due"
		" FROM assent.txn t WHERE t.ended_at IS NOT NULL AND (SELECT mine FROM turn)"
		" AND (t.created_at, t.gid) > ($1, $2)"
		" AND t.created_at < now() - $3 * interval '1 millisecond'"
		" ORDER BY t.created_at, t.gid LIMIT $4),"
		" labels AS (DELETE FROM assent.label l USING page p WHERE p.due AND l.gid = p.gid),"
		" joined AS (DELETE FROM assent.enlisted e USING page p WHERE p.due AND e.gid = p.gid),"
		" results AS (DELETE FROM assent.result r USING page p WHERE p.due AND r.gid = p.gid),"
		" members AS (DELETE FROM assent.alert_member m USING page p WHERE p.due"
		" AND m.gid = p.gid AND m.closed_at IS NOT NULL),"
		" gone AS (DELETE FROM assent.txn t USING page p WHERE p.due AND t.gid = p.gid"
		" RETURNING t.gid)"
		" SELECT (SELECT count(*) FROM page), (SELECT count(*) FROM gone), l.created_at, l.gid"
		" FROM (VALUES (0)) AS one LEFT JOIN LATERAL (SELECT p.created_at, p.gid FROM page p"
		" ORDER BY p.created_at DESC, p.gid DESC LIMIT 1) AS l ON true",
		.param = { PG_TIMESTAMPTZ, PG_TEXT, PG_INT8, PG_INT8 },
		.n_param = 4,
	},
	[SQL_PURGE_ALERTS] = {
		.name = "purge_alerts",
		.sql =
		"DELETE FROM assent.alert WHERE id = ANY (ARRAY(SELECT a.id FROM assent.alert a"
		" WHERE a.closed_at < now() - $1 * interval '1 millisecond'"
		" ORDER BY a.closed_at LIMIT $2))",
		.param = { PG_INT8, PG_INT8 },
		.n_param = 2,
	},
	[SQL_PURGE_DAY] = {
		.name = "purge_day",
		.sql = "SELECT assent.history_drop(now() - $1 * interval '1 millisecond')",
		.param = { PG_INT8 },
		.n_param = 1,
	},
	[SQL_PURGE_OTHER] = {
		.name = "purge_other",
		.sql =
		"DELETE FROM assent.history_other WHERE ctid = ANY (ARRAY(SELECT h.ctid"
		" FROM assent.history_other h WHERE h.started_at < now() - $1 * interval '1 millisecond'"
		" LIMIT $2))",
		.param = { PG_INT8, PG_INT8 },
		.n_param = 2,
	},
};
/* clang-format on */
