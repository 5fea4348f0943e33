/*
 * pg_run.c - blocking SQL, for the command line and start-up.
 */
#include <libpq-fe.h>
#include <string.h>

#include "base/crash.h"
#include "io/pg.h"

static void notice_drop(void *ctx, const PGresult *res)
{
	(void)ctx;
	(void)res;
}

static void message_set(char *message, size_t size, const char *text)
{
	size_t len = strcspn(text, "\n");

	if (size == 0)
		return;
	if (len > size - 1)
		len = size - 1;
	memcpy(message, text, len);
	message[len] = '\0';
}

/* libpq's own complaint about a bad string may quote a password in it. The one about a mistyped
 * keyword quotes only that, and helps. */
static bool conninfo_valid(const char *conninfo, char *message, size_t size)
{
	char *error = NULL;
	PQconninfoOption *options = PQconninfoParse(conninfo, &error);
	bool valid = options != NULL;

	if (!valid && error && strncmp(error, "invalid connection option ", 26) == 0)
		message_set(message, size, error);
	else if (!valid)
		message_set(message, size, "the connection string cannot be parsed");
	PQfreemem(error);
	PQconninfoFree(options);
	return valid;
}

static int connect_to(const char *conninfo, PGconn **conn, char *message, size_t size)
{
	const char *keyword[] = {"connect_timeout", "dbname", "client_encoding", NULL};
	const char *value[] = {"5", conninfo, "UTF8", NULL};

	if (!conninfo_valid(conninfo, message, size))
		return ERR_IO;
	*conn = PQconnectdbParams(keyword, value, 1);
	if (*conn == NULL)
		return ERR_NOMEM;
	if (PQstatus(*conn) != CONNECTION_OK) {
		message_set(message, size, PQerrorMessage(*conn));
		return ERR_IO;
	}
	PQsetNoticeReceiver(*conn, notice_drop, NULL);
	return 0;
}

static int result_check(PGconn *conn, const PGresult *res, char *message, size_t size)
{
	const char *state = res != NULL ? PQresultErrorField(res, PG_DIAG_SQLSTATE) : NULL;
	const char *text = res != NULL ? PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY) : NULL;

	switch (PQresultStatus(res)) {
	case PGRES_TUPLES_OK:
	case PGRES_COMMAND_OK:
	case PGRES_EMPTY_QUERY:
		return 0;
	case PGRES_COPY_OUT:
	case PGRES_COPY_IN:
	case PGRES_BAD_RESPONSE:
	case PGRES_NONFATAL_ERROR:
	case PGRES_FATAL_ERROR:
	case PGRES_COPY_BOTH:
	case PGRES_SINGLE_TUPLE:
	case PGRES_PIPELINE_SYNC:
	case PGRES_PIPELINE_ABORTED:
		break;
	}
	message_set(message, size, text != NULL ? text : PQerrorMessage(conn));
	if (PQstatus(conn) != CONNECTION_OK)
		return ERR_IO;
	if (state != NULL && (strncmp(state, "22", 2) == 0 || strncmp(state, "23", 2) == 0))
		return ERR_DATA;
	return ERR_STATE;
}

int pg_run(const char *conninfo, const char *const *sql, size_t n_sql, struct buf *value,
           char *message, size_t size)
{
	PGconn *conn = NULL;
	PGresult *res = NULL;
	int err;

	message_set(message, size, "");
	err = connect_to(conninfo, &conn, message, size);
	for (size_t i = 0; i < n_sql && err == 0; i++) {
		if (i > 0)
			crash_point(CRASH_MIGRATE_WITHIN_STEP);
		PQclear(res);
		res = PQexec(conn, sql[i]);
		err = result_check(conn, res, message, size);
	}
	if (err == 0 && value != NULL) {
		buf_reset(value);
		if (PQntuples(res) > 0 && PQnfields(res) > 0)
			buf_puts(value, PQgetvalue(res, 0, 0));
	}
	PQclear(res);
	PQfinish(conn);
	return err;
}
