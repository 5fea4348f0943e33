#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* Any number, the same in every process: two that install at once take turns. */
#define LOCK_SQL "SELECT pg_advisory_xact_lock(4702111234474983745)"

static int exec_ok(PGconn *conn, const char *sql, struct assent_error *err)
{
	PGresult *result = PQexec(conn, sql);
	int rc = sdk_pg_ok(result) ? 0 : sdk_fail_pg(err, conn, result);

	PQclear(result);
	return rc;
}

/* A number the statement returns; a NULL is 0. */
static int query_number(PGconn *conn, const char *sql, unsigned *n, struct assent_error *err)
{
	PGresult *result = PQexec(conn, sql);
	int rc = 0;

	*n = 0;
	if (!sdk_pg_ok(result))
		rc = sdk_fail_pg(err, conn, result);
	else if (PQntuples(result) == 1)
		*n = (unsigned)strtoul(PQgetvalue(result, 0, 0), NULL, 10);
	PQclear(result);
	return rc;
}

/* The catalogue is read as a table: to_regclass() may answer from a cache that has not heard what
 * was committed while this session waited for the lock. */
static int current_version(PGconn *conn, unsigned *version, struct assent_error *err)
{
	static const char find[] = "SELECT count(*) FROM pg_class c JOIN pg_namespace n"
	                           " ON n.oid = c.relnamespace WHERE n.nspname = "
	                           "'assent_participant' AND c.relname = 'version'";
	unsigned exists;
	int rc = query_number(conn, find, &exists, err);

	*version = 0;
	if (rc || !exists)
		return rc;
	return query_number(conn, "SELECT max(version) FROM assent_participant.version", version,
	                    err);
}

/* Each file registers itself in assent_participant.version. All in one transaction: a process
 * that dies halfway leaves nothing. */
static int upgrade(PGconn *conn, struct assent_error *err)
{
	unsigned version;
	int rc;

	if ((rc = exec_ok(conn, "BEGIN ISOLATION LEVEL READ COMMITTED", err)) ||
	    (rc = exec_ok(conn, LOCK_SQL, err)) || (rc = current_version(conn, &version, err)))
		return rc;
	for (; version < participant_sql_n; version++) {
		rc = exec_ok(conn, participant_sql[version], err);
		if (rc)
			return rc;
	}
	return exec_ok(conn, "COMMIT", err);
}

/* PostgreSQL says what is denied, but not what to do about it. */
static void explain_denial(const PGconn *conn, const unsigned *version, struct assent_error *err)
{
	const char *user = PQuser(conn);

	if (strcmp(err->sqlstate, "42501") != 0)
		return;
	if (!version)
		sdk_fail(err, ASSENT_E_DATABASE,
		         "%.60s may not read the schema assent_participant: " SDK_GRANTS, user);
	else if (*version)
		sdk_fail(err, ASSENT_E_DATABASE,
		         "%.60s may not bring the schema assent_participant from version %u to %u:"
		         " let its owner install it once more",
		         user, *version, participant_sql_n);
	else
		sdk_fail(err, ASSENT_E_DATABASE,
		         "%.60s may not create the schema assent_participant: GRANT CREATE ON"
		         " DATABASE %.60s TO it, or install as another role and then " SDK_GRANTS,
		         user, PQdb(conn));
	snprintf(err->sqlstate, sizeof(err->sqlstate), "42501");
}

int assent_participant_install(PGconn *conn, struct assent_error *err)
{
	struct assent_error unread;
	unsigned version;
	int rc;

	err = err ? err : &unread;
	if (PQtransactionStatus(conn) != PQTRANS_IDLE)
		return sdk_fail(
		    err, PQstatus(conn) == CONNECTION_OK ? ASSENT_E_INVALID : ASSENT_E_UNREACHABLE,
		    "the connection is lost or inside a transaction block");
	rc = current_version(conn, &version, err);
	if (rc)
		explain_denial(conn, NULL, err);
	if (rc || version >= participant_sql_n)
		return rc;
	rc = upgrade(conn, err);
	if (rc)
		explain_denial(conn, &version, err);
	sdk_pg_rollback(conn);
	return rc;
}

/* What PREPARE TRANSACTION and COMMIT PREPARED make durable in any case is not all: tombstones, what
 * a peer has been told, and confirms would be answered first and could be lost in a crash then. */
int sdk_check_durable(PGconn *conn, struct assent_error *err)
{
	unsigned off;
	int rc = query_number(conn, "SELECT (current_setting('synchronous_commit') = 'off')::int",
	                      &off, err);

	if (rc || !off)
		return rc;
	return sdk_fail(err, ASSENT_E_INVALID,
	                "synchronous_commit is off: what a call was answered could be forgotten in "
	                "a crash of PostgreSQL; set it to on for this role and database");
}

int assent_participant_check(PGconn *conn, struct assent_error *err)
{
	unsigned n;
	int rc = query_number(conn, "SELECT current_setting('max_prepared_transactions')", &n, err);

	if (rc)
		return rc;
	if (n)
		return sdk_check_durable(conn, err);
	return sdk_fail(err, ASSENT_E_INVALID,
	                "max_prepared_transactions is 0: set it in postgresql.conf to the number "
	                "of branches in flight at once (for example 100) and restart PostgreSQL");
}
