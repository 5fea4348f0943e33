/*
 * statement.c - statements about a branch, each parsed and planned once per connection.
 *
 * Only on connections that the library has opened: on a caller's own, DISCARD ALL or a pooler may
 * take a named statement away. Where that happens all the same (26000), the call fails, is repeated,
 * and from then on nothing is named on that connection. What a connection knows is kept in libpq's
 * instance data, so that it lives as long as the connection, and nobody has to carry it along.
 */
#include <assert.h>
#include <libpq-events.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define PARAM_MAX     12
#define STATEMENT_MAX 32
#define NAME_SIZE     24

struct known {
	bool off;
	unsigned n;
	char *sql[STATEMENT_MAX]; /* named assent_0, assent_1, ... */
};

struct params {
	int n;
	const char *value[PARAM_MAX];
	int length[PARAM_MAX];
	int format[PARAM_MAX];
};

static void forget(struct known *known)
{
	while (known->n > 0)
		free(known->sql[--known->n]);
}

static int on_event(PGEventId id, void *info, void *ctx)
{
	PGconn *conn;
	struct known *known;

	(void)ctx;
	if (id == PGEVT_CONNRESET) {
		known = PQinstanceData(((PGEventConnReset *)info)->conn, on_event);
		if (known)
			forget(known);
	} else if (id == PGEVT_CONNDESTROY) {
		conn = ((PGEventConnDestroy *)info)->conn;
		known = PQinstanceData(conn, on_event);
		if (known)
			forget(known);
		free(known);
		PQsetInstanceData(conn, on_event, NULL);
	}
	return 1;
}

/* Without memory for it, statements stay without a name. */
void sdk_name_statements(PGconn *conn)
{
	struct known *known;

	if (!PQregisterEventProc(conn, on_event, "assent", NULL))
		return;
	known = calloc(1, sizeof(*known));
	if (known && !PQsetInstanceData(conn, on_event, known))
		free(known);
}

/* True: run it under `name`, or without one when that is "". False: *failed is what came of
 * parsing it. A text is compared as a whole: its address may have held another one before. */
static bool find_name(PGconn *conn, const char *sql, int n_param, char *name, PGresult **failed)
{
	struct known *known = PQinstanceData(conn, on_event);
	char *copy = NULL;
	unsigned i;

	*name = '\0';
	if (!known || known->off)
		return true;
	for (i = 0; i < known->n && strcmp(known->sql[i], sql) != 0; i++)
		;
	if (i == STATEMENT_MAX || (i == known->n && !(copy = strdup(sql))))
		return true;
	snprintf(name, NAME_SIZE, "assent_%u", i);
	if (i < known->n)
		return true;
	*failed = PQprepare(conn, name, sql, n_param, NULL);
	if (!sdk_pg_ok(*failed)) {
		known->off |= strcmp(sdk_sqlstate(*failed), "42P05") == 0;
		free(copy);
		return false;
	}
	PQclear(*failed);
	known->sql[known->n++] = copy;
	return true;
}

static PGresult *check_name(PGconn *conn, PGresult *result)
{
	struct known *known = PQinstanceData(conn, on_event);

	if (known && strcmp(sdk_sqlstate(result), "26000") == 0)
		known->off = true;
	return result;
}

static PGresult *execute(PGconn *conn, const char *sql, const struct params *p, int binary)
{
	char name[NAME_SIZE];
	PGresult *failed;

	if (!find_name(conn, sql, p->n, name, &failed))
		return failed;
	if (!*name)
		return PQexecParams(conn, sql, p->n, NULL, p->value, p->length, p->format, binary);
	return check_name(conn,
	                  PQexecPrepared(conn, name, p->n, p->value, p->length, p->format, binary));
}

static void set_params(struct params *p, const struct assent_call *call, const char *const *more)
{
	*p = (struct params){.n = 4,
	                     .value = {call->cluster, call->space, call->gid, call->branch}};
	for (; more && *more; more++) {
		assert(p->n < PARAM_MAX - 1);
		p->value[p->n++] = *more;
	}
}

PGresult *sdk_branch_exec(PGconn *conn, const struct assent_call *call, const char *sql,
                          const char *const *more, const struct sdk_text *blob)
{
	struct params p;

	set_params(&p, call, more);
	if (blob) {
		p.value[p.n] = blob->len ? blob->data : NULL;
		p.length[p.n] = (int)blob->len;
		p.format[p.n++] = 1;
	}
	return execute(conn, sql, &p, 1);
}

PGresult *assent_exec(PGconn *conn, const char *sql, const struct assent_call *call)
{
	const struct params p = {.n = 1, .value = {call ? call->body : NULL}};

	if (!conn || !sql)
		return NULL; /* as libpq does; assent_sql_failed takes it */
	return execute(conn, sql, &p, 0);
}

/* ---- several in one round trip ---- */

static bool send_one(PGconn *conn, const struct assent_call *call, const struct sdk_query *query,
                     const char *name)
{
	struct params p;

	set_params(&p, call, query->more);
	return *name
	           ? PQsendQueryPrepared(conn, name, p.n, p.value, p.length, p.format, 1)
	           : PQsendQueryParams(conn, query->sql, p.n, NULL, p.value, p.length, p.format, 1);
}

static bool send_all(PGconn *conn, const struct assent_call *call, const struct sdk_query *before,
                     const struct sdk_query *inside, char (*name)[NAME_SIZE])
{
	return send_one(conn, call, before, name[0]) && PQpipelineSync(conn) &&
	       PQsendQueryParams(conn, "BEGIN", 0, NULL, NULL, NULL, NULL, 1) &&
	       send_one(conn, call, inside, name[1]) && PQpipelineSync(conn);
}

/* The last result, or the first that failed. What was sent before a failure to send is read as
 * well, as far as a Sync follows it. */
static PGresult *take_results(PGconn *conn, int n_sync)
{
	PGresult *kept = NULL, *result;

	while (n_sync > 0 && PQstatus(conn) == CONNECTION_OK) {
		result = PQgetResult(conn);
		if (!result)
			continue;
		if (PQresultStatus(result) == PGRES_PIPELINE_SYNC)
			n_sync--;
		if (PQresultStatus(result) == PGRES_PIPELINE_SYNC || (kept && !sdk_pg_ok(kept))) {
			PQclear(result);
		} else {
			PQclear(kept);
			kept = result;
		}
	}
	return kept;
}

PGresult *sdk_branch_begin(PGconn *conn, const struct assent_call *call,
                           const struct sdk_query *before, const struct sdk_query *inside)
{
	char name[2][NAME_SIZE];
	struct params p;
	PGresult *result;

	set_params(&p, call, before->more);
	if (!find_name(conn, before->sql, p.n, name[0], &result))
		return result;
	set_params(&p, call, inside->more);
	if (!find_name(conn, inside->sql, p.n, name[1], &result))
		return result;
	if (!PQenterPipelineMode(conn))
		return NULL;
	result = send_all(conn, call, before, inside, name) ? take_results(conn, 2) : NULL;
	PQexitPipelineMode(conn);
	return check_name(conn, result);
}
