#include <stdio.h>
#include <string.h>

#include "internal.h"

const char *sdk_sqlstate(const PGresult *result)
{
	const char *state = result ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;

	return state ? state : "";
}

bool sdk_is_contended(const PGresult *result)
{
	const char *state = sdk_sqlstate(result);

	return strcmp(state, "40001") == 0 || strcmp(state, "55P03") == 0;
}

bool sdk_is_transient(const PGresult *result)
{
	/* Connection, rollback (deadlock and serialization too), resources, operator. */
	static const char *const classes[] = {"08", "40", "53", "57"};
	const char *state = sdk_sqlstate(result);

	if (!*state || sdk_is_contended(result))
		return true;
	for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
		if (strncmp(state, classes[i], 2) == 0)
			return true;
	}
	return false;
}

bool sdk_pg_ok(const PGresult *result)
{
	ExecStatusType status = PQresultStatus(result);

	return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
}

bool sdk_pg_tag(PGresult *result, const char *tag)
{
	return sdk_pg_ok(result) && strcmp(PQcmdStatus(result), tag) == 0;
}

void sdk_pg_rollback(PGconn *conn)
{
	if (PQstatus(conn) == CONNECTION_OK && PQtransactionStatus(conn) != PQTRANS_IDLE)
		PQclear(PQexec(conn, "ROLLBACK"));
}

bool sdk_pg_begin(PGconn *conn, const struct assent_call *call, struct assent_reply *reply)
{
	int ms = sdk_patience_ms(call);
	char sql[128];
	PGresult *result;
	bool ok;

	snprintf(sql, sizeof(sql),
	         "BEGIN; SET LOCAL lock_timeout = %d; SET LOCAL statement_timeout = %d", ms, ms);
	result = PQexec(conn, sql);
	ok = sdk_pg_ok(result);
	if (!ok) {
		sdk_reply_sql(reply, conn, result);
		sdk_pg_rollback(conn);
	}
	PQclear(result);
	return ok;
}

static void drop_notice(void *ctx, const PGresult *result)
{
	(void)ctx;
	(void)result;
}

PGconn *sdk_pg_connect(const char *database)
{
	/* What stands later wins: the caller may set another timeout, but is not left without. */
	const char *const names[] = {"connect_timeout", "dbname", NULL};
	const char *const values[] = {"5", database, NULL};
	PGconn *conn = PQconnectdbParams(names, values, 1);

	if (conn) {
		PQsetNoticeReceiver(conn, drop_notice, NULL);
		sdk_name_statements(conn);
	}
	return conn;
}
