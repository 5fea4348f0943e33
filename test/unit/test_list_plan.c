/*
 * test_list_plan.c - the plans of lists and of the purge, whatever the planner believes about the
 * tables: along an index that has the order, never through the whole table, never sorting it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h must come after those. */
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "io/pg.h"
#include "io/sql.h"
#include "node/migrate.h"
#include "private_pg.h"

static struct private_pg *server;

static const char list_types[] = "timestamptz,text,timestamptz,int8,int8,bool,int2,int2,int2,"
                                 "bytea,int8,text[],text[]";
static const char purge_types[] = "timestamptz,text,int8,int8";

static const char fill_sql[] =
    "INSERT INTO assent.txn (gid, shard, epoch, mode, state, outcome, created_at, deadline_at,"
    " decided_at, ended_at, branch_state, body_sha256, submission, participants)"
    " SELECT 'g' || n, n % 64, 0, 1, 5, 1, t, t, t, CASE WHEN n % 1000 > 0 THEN t END, '\\x0404',"
    " '', '', '\\x0102030405060708' FROM generate_series(1, 200000) AS n,"
    " LATERAL (SELECT now() - n * interval '1 s' AS t) AS x;"
    "INSERT INTO assent.label SELECT gid, 'env', 'prod', created_at FROM assent.txn";

static char *run(const char *sql)
{
	struct buf value = BUF_INIT;
	char why[256];

	if (pg_run(private_pg_conninfo(server), &sql, 1, &value, why, sizeof why) < 0)
		fail_msg("%s", why);
	return value.data ? value.data : strdup("");
}

static int group_setup(void **state)
{
	unsigned applied;
	char why[256];

	(void)state;
	server = private_pg_start();
	return server ? migrate_run(private_pg_conninfo(server), &applied, why, sizeof why) : -1;
}

static int group_teardown(void **state)
{
	(void)state;
	private_pg_stop(server);
	return 0;
}

static char *plan_of(const struct pg_statement *s, const char *const *setup, const char *types)
{
	struct buf sql = BUF_INIT;
	char *plan;

	for (size_t i = 0; setup[i]; i++)
		buf_printf(&sql, "%s; ", setup[i]);
	buf_printf(&sql, "PREPARE p(%s) AS %s; EXPLAIN (FORMAT YAML) EXECUTE p(NULL", types,
	           s->sql);
	for (unsigned k = 1; k < s->n_param; k++)
		buf_puts(&sql, ", NULL");
	buf_puts(&sql, ")");
	plan = run(sql.data);
	buf_release(&sql);
	return plan;
}

static void check_plan(const struct pg_statement *s, const char *const *setup, const char *types,
                       const char *const *never, const char *const *always)
{
	char *plan = plan_of(s, setup, types);

	for (; *never; never++) {
		if (strstr(plan, *never))
			fail_msg("%s has a %s: %s", s->name, *never, plan);
	}
	for (; *always; always++) {
		if (!strstr(plan, *always))
			fail_msg("%s has no %s: %s", s->name, *always, plan);
	}
	free(plan);
}

static void check_plans(void)
{
	static const char *const never[] = {"Seq Scan",  "Bitmap",     "\"Sort\"", "Incremental",
	                                    "Hash Join", "Merge Join", NULL};
	static const char *const purge_never[] = {"Seq Scan", "Hash Join", "Merge Join", NULL};
	static const char *const walk[] = {"Merge Append", "Index Name: \"txn_open\"",
	                                   "Index Name: \"txn_ended\"", NULL};
	static const char *const label[] = {"Index Name: \"label_value\"",
	                                    "Index Name: \"txn_pkey\"", NULL};
	static const char *const purge[] = {"Index Name: \"txn_ended\"", "Index Name: \"txn_pkey\"",
	                                    "Index Name: \"label_pkey\"",
	                                    "Index Name: \"alert_member_pkey\"", NULL};
	static const char *const alerts[] = {"Index Name: \"alert_closed\"", NULL};

	check_plan(&sql_list_statement[SQL_LIST_WALK], sql_list_setup, list_types, never, walk);
	check_plan(&sql_list_statement[SQL_LIST_LABEL], sql_list_setup, list_types, never, label);
	check_plan(&sql_purge_statement[SQL_PURGE_PAGE], sql_purge_setup, purge_types, purge_never,
	           purge);
	check_plan(&sql_purge_statement[SQL_PURGE_ALERTS], sql_purge_setup, "int8,int8",
	           purge_never, alerts);
}

static void test_fresh(void **state)
{
	(void)state;
	check_plans();
}

static void test_full(void **state)
{
	(void)state;
	free(run("ALTER TABLE assent.txn SET (autovacuum_enabled = off)"));
	free(run(fill_sql));
	check_plans();
	free(run("ANALYZE assent.txn; ANALYZE assent.label"));
	check_plans();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_fresh),
	    cmocka_unit_test(test_full),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
