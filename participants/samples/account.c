/*
 * account - a participant under two-phase commit: takes money from an account.
 *
 * A branch's payload is {"user": 7, "amount": 30}. The work is one statement; libassent prepares,
 * commits and rolls it back, and answers calls that come twice, late or out of order.
 *
 *	account --listen 127.0.0.1:7482 --database CONNINFO
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "participants/sdk/assent.h"

/* Several of these may start at once on the same database. ON CONFLICT would wait for a row that a
 * prepared transaction has changed, and the service that is to commit it would never start. */
static const char tables[] =
    "BEGIN;"
    "SET LOCAL client_min_messages = warning;"
    "SELECT pg_advisory_xact_lock(7482);"
    "CREATE TABLE IF NOT EXISTS account"
    " (user_id bigint PRIMARY KEY, balance bigint NOT NULL CHECK (balance >= 0));"
    "INSERT INTO account SELECT * FROM (VALUES (7, 1000), (8, 20)) AS v"
    " WHERE NOT EXISTS (SELECT FROM account);"
    "COMMIT";

/* Nothing is taken unless all of it is there; either way it answers what was wanted. */
static const char take_sql[] =
    "WITH want AS (SELECT ($1::json->>'user')::bigint AS user_id,"
    "  ($1::json->>'amount')::bigint AS amount),"
    " taken AS (UPDATE account SET balance = balance - amount FROM want"
    "  WHERE account.user_id = want.user_id AND balance >= amount AND amount >= 0 RETURNING 1)"
    " SELECT (SELECT count(*) FROM taken), coalesce(user_id::text, 'unknown') FROM want";

static enum assent_vote take(const struct assent_call *call, PGconn *conn,
                             struct assent_reply *reply, void *ctx)
{
	const char *payload = assent_call_body(call, NULL);
	PGresult *result = PQexecParams(conn, take_sql, 1, NULL, &payload, NULL, NULL, 0);
	enum assent_vote vote = ASSENT_YES;

	(void)ctx;
	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		vote = assent_sql_failed(reply, result);
	else if (strcmp(PQgetvalue(result, 0, 0), "1") != 0)
		vote = assent_refuse(reply, "not enough money on the account of user %s",
		                     PQgetvalue(result, 0, 1));
	PQclear(result);
	return vote;
}

static int create_tables(const char *database)
{
	PGconn *conn = PQconnectdb(database);
	/* Asking a failed connection would replace the reason of its failure. */
	PGresult *result = PQstatus(conn) == CONNECTION_OK ? PQexec(conn, tables) : NULL;
	int ok = PQresultStatus(result) == PGRES_COMMAND_OK;

	if (!ok)
		fprintf(stderr, "account: %s", PQerrorMessage(conn));
	PQclear(result);
	PQfinish(conn);
	return ok;
}

static int serve(const struct assent_server_options *options)
{
	struct assent_error err;
	struct assent_server *server = assent_server_new(options, &err);
	int rc = EXIT_FAILURE;

	if (!server || assent_server_on(server, "/account", "prepare", take, NULL, &err) ||
	    assent_server_start(server, &err)) {
		fprintf(stderr, "account: %s\n", err.text);
	} else {
		printf("ready %s\n", assent_server_url(server));
		(void)fflush(stdout);
		assent_server_run(server);
		rc = EXIT_SUCCESS;
	}
	assent_server_free(server);
	return rc;
}

static void usage(FILE *to)
{
	fprintf(
	    to,
	    "usage: account --database CONNINFO [--listen 127.0.0.1:7482] [--secret-file FILE]\n");
}

int main(int argc, char **argv)
{
	static const struct option names[] = {{"listen", required_argument, NULL, 'l'},
	                                      {"database", required_argument, NULL, 'd'},
	                                      {"coordinator", required_argument, NULL, 'c'},
	                                      {"secret-file", required_argument, NULL, 's'},
	                                      {"help", no_argument, NULL, 'h'},
	                                      {NULL, 0, NULL, 0}};
	struct assent_server_options options = {.listen = "127.0.0.1:7482"};
	int c;

	while ((c = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (c) {
		case 'l':
			options.listen = optarg;
			break;
		case 'd':
			options.database = optarg;
			break;
		case 'c': /* taken for the sake of scripts; only `order` calls the coordinator */
			break;
		case 's':
			options.secret_file = optarg;
			break;
		case 'h':
			usage(stdout);
			return EXIT_SUCCESS;
		default:
			usage(stderr);
			return EXIT_FAILURE;
		}
	}
	if (!options.database || optind != argc) {
		usage(stderr);
		return EXIT_FAILURE;
	}
	return create_tables(options.database) ? serve(&options) : EXIT_FAILURE;
}
