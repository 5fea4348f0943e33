/*
 * ledger.c - a participant that does nothing but write down that it did something: one entry for
 * each time the work of an operation has had an effect, and its number as the result.
 *
 * A payload {"refuse": true} is refused after the entry was written. The operation of a cancel that
 * was told of a confirm is written as "cancel+".
 *
 *	ledger --listen 127.0.0.1:0 --database CONNINFO
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "participants/sdk/assent.h"

static const char tables[] = "CREATE TABLE IF NOT EXISTS entry"
                             " (n serial PRIMARY KEY, gid text NOT NULL, op text NOT NULL)";

static const char write_sql[] =
    "INSERT INTO entry (gid, op) VALUES ($1, $2)"
    " RETURNING json_build_object('entry', n), coalesce(($3::json->>'refuse')::boolean, false)";

static enum assent_vote write_entry(const struct assent_call *call, PGconn *conn,
                                    struct assent_reply *reply, void *ctx)
{
	const char *values[] = {assent_call_gid(call),
	                        assent_call_confirmed(call) ? "cancel+" : assent_call_op(call),
	                        assent_call_body(call, NULL)};
	PGresult *result = PQexecParams(conn, write_sql, 3, NULL, values, NULL, NULL, 0);
	enum assent_vote vote = ASSENT_YES;

	(void)ctx;
	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		vote = assent_sql_failed(reply, result);
	else if (*PQgetvalue(result, 0, 1) == 't')
		vote = assent_refuse(reply, "as it was asked to");
	else
		assent_reply_set(reply, 200, PQgetvalue(result, 0, 0),
		                 (size_t)PQgetlength(result, 0, 0));
	PQclear(result);
	return vote;
}

static int create_tables(const char *database)
{
	PGconn *conn = PQconnectdb(database);
	PGresult *result = PQexec(conn, tables);
	int ok = PQresultStatus(result) == PGRES_COMMAND_OK;

	if (!ok)
		fprintf(stderr, "ledger: %s", PQerrorMessage(conn));
	PQclear(result);
	PQfinish(conn);
	return ok;
}

static int add_operations(struct assent_server *server, struct assent_error *err)
{
	static const char *const ops[] = {"prepare", "try",    "confirm",
	                                  "cancel",  "action", "compensate"};
	int rc = 0;

	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]) && !rc; i++)
		rc = assent_server_on(server, "/ledger", ops[i], write_entry, NULL, err);
	return rc;
}

int main(int argc, char **argv)
{
	struct assent_server_options options = {0};
	struct assent_server *server;
	struct assent_error err;
	int rc = EXIT_FAILURE;

	if (argc != 5 || strcmp(argv[1], "--listen") != 0 || strcmp(argv[3], "--database") != 0) {
		fprintf(stderr, "usage: ledger --listen ADDRESS --database CONNINFO\n");
		return rc;
	}
	options.listen = argv[2];
	options.database = argv[4];
	if (!create_tables(options.database))
		return rc;
	server = assent_server_new(&options, &err);
	if (!server || add_operations(server, &err) || assent_server_start(server, &err)) {
		fprintf(stderr, "ledger: %s\n", err.text);
	} else {
		printf("ready %s\n", assent_server_url(server));
		(void)fflush(stdout);
		assent_server_run(server);
		rc = EXIT_SUCCESS;
	}
	assent_server_free(server);
	return rc;
}
