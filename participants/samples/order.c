/*
 * order - starts a global transaction per order, and is a participant of it.
 *
 * POST /orders {"id": "42", "sku": "tea", "n": 2, "user": 7, "amount": 30} submits transaction
 * order-42 with the branches order, stock and account, and waits for its end: 201 committed, 409
 * aborted, 202 not known yet. Posting the same order again is safe and gives the same answer. The
 * order's row is written by the order's own branch, so that it exists if and only if the goods
 * and the money were taken.
 *
 *	order --listen 127.0.0.1:7480 --database CONNINFO
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "participants/sdk/assent.h"

#define TIMEOUT_MS 10000
#define WAIT_MS    15000

struct order {
	struct assent_server_options options;
	struct assent_server *server;
	struct assent_client *client;
	const char *coordinator, *self, *stock, *account, *token_file;
};

/* Several of these may start at once on the same database. */
static const char tables[] =
    "BEGIN;"
    "SET LOCAL client_min_messages = warning;"
    "SELECT pg_advisory_xact_lock(7480);"
    "CREATE TABLE IF NOT EXISTS orders (id text PRIMARY KEY, sku text NOT NULL, n int NOT NULL,"
    " user_id bigint NOT NULL, amount bigint NOT NULL,"
    " created_at timestamptz NOT NULL DEFAULT now());"
    "COMMIT";

static const char insert_sql[] = "INSERT INTO orders (id, sku, n, user_id, amount)"
                                 " SELECT $1::json->>'id', $1::json->>'sku', ($1::json->>'n')::int,"
                                 " ($1::json->>'user')::bigint, ($1::json->>'amount')::bigint";

/* What is wrong with the request (or NULL), its id, the payloads of the three branches, the user. */
static const char check_sql[] =
    "WITH r AS (SELECT $1::json->>'id' AS id, $1::json->>'sku' AS sku, $1::json->>'n' AS n,"
    "  $1::json->>'user' AS u, $1::json->>'amount' AS amount)"
    " SELECT CASE"
    " WHEN coalesce(id, '') !~ '^[A-Za-z0-9._~-]{1,64}$'"
    "  THEN 'id must have 1 to 64 letters, digits or . _ ~ -'"
    " WHEN coalesce(sku, '') !~ '^[^[:cntrl:]]{1,64}$' THEN 'sku must have 1 to 64 characters'"
    " WHEN coalesce(n, '') !~ '^[1-9][0-9]{0,5}$' THEN 'n must be a number from 1 to 999999'"
    " WHEN coalesce(u, '') !~ '^[1-9][0-9]{0,17}$' THEN 'user must be a positive number'"
    " WHEN coalesce(amount, '') !~ '^(0|[1-9][0-9]{0,11})$'"
    "  THEN 'amount must be a whole number from 0 to 999999999999' END,"
    " id,"
    " format('{\"id\":%s,\"sku\":%s,\"n\":%s,\"user\":%s,\"amount\":%s}', to_json(id),"
    "  to_json(sku), n, u, amount),"
    " format('{\"sku\":%s,\"n\":%s}', to_json(sku), n),"
    " format('{\"user\":%s,\"amount\":%s}', u, amount), u"
    " FROM r";

static enum assent_vote insert_order(const struct assent_call *call, PGconn *conn,
                                     struct assent_reply *reply, void *ctx)
{
	const char *payload = assent_call_body(call, NULL);
	PGresult *result = PQexecParams(conn, insert_sql, 1, NULL, &payload, NULL, NULL, 0);
	enum assent_vote vote = ASSENT_YES;

	(void)ctx;
	if (PQresultStatus(result) != PGRES_COMMAND_OK)
		vote = assent_sql_failed(reply, result);
	PQclear(result);
	return vote;
}

static int add_branch(struct assent_txn *txn, const char *branch, const char *address,
                      const char *payload, struct assent_error *err)
{
	char url[512];

	snprintf(url, sizeof(url), "%s/%s", address, branch);
	return assent_txn_add_branch(txn, branch, url, payload, err);
}

/* `row` is one of check_sql. The same order gives the same bytes, which is what makes a
 * repetition of the submission the same transaction. */
static int submit(const struct order *o, const PGresult *row, struct assent_result *out,
                  struct assent_error *err)
{
	const char *self = o->self ? o->self : assent_server_url(o->server);
	struct assent_txn *txn;
	char gid[128];
	int rc;

	snprintf(gid, sizeof(gid), "order-%s", PQgetvalue(row, 0, 1));
	txn = assent_txn_new(gid, "2pc", TIMEOUT_MS, err);
	if (!txn)
		return err->code;
	if ((rc = add_branch(txn, "order", self, PQgetvalue(row, 0, 2), err)) == 0 &&
	    (rc = add_branch(txn, "stock", o->stock, PQgetvalue(row, 0, 3), err)) == 0 &&
	    (rc = add_branch(txn, "account", o->account, PQgetvalue(row, 0, 4), err)) == 0)
		rc = assent_submit(o->client, txn, WAIT_MS, out, err);
	assent_txn_free(txn);
	return rc;
}

static int status_of(const char *outcome)
{
	return strcmp(outcome, "committed") == 0 ? 201
	       : strcmp(outcome, "pending") == 0 ? 202
	                                         : 409;
}

/* One order of a user at a time. The branches prepare in parallel and hold their rows' locks until
 * the decision: of two orders of one user for the same goods, each could hold what the other waits
 * for, in different databases, where nobody sees the circle. Both would wait for their deadline. */
static int lock_user(PGconn *conn, const char *user)
{
	PGresult *result = PQexecParams(conn,
	                                "SELECT set_config('lock_timeout', '10000', false),"
	                                " pg_advisory_lock(7480, hashtext($1))",
	                                1, NULL, &user, NULL, NULL, 0);
	int ok = PQresultStatus(result) == PGRES_TUPLES_OK;

	PQclear(result);
	return ok;
}

static void place_order(const struct order *o, PGconn *conn, const PGresult *row,
                        struct assent_reply *reply)
{
	struct assent_result out;
	struct assent_error err;
	char json[512];
	int n, rc;

	if (!lock_user(conn, PQgetvalue(row, 0, 5))) {
		assent_reply_reason(reply, 503, "other orders of this user are still at work");
		return;
	}
	rc = submit(o, row, &out, &err);
	PQclear(PQexec(conn, "SELECT pg_advisory_unlock_all()"));
	if (rc) {
		assent_reply_reason(reply, rc == ASSENT_E_CONFLICT ? 422 : 503, "%s", err.text);
		return;
	}
	n = snprintf(json, sizeof(json), "{\"id\":\"%s\",\"gid\":\"%s\",\"outcome\":\"%s\"}",
	             PQgetvalue(row, 0, 1), out.gid, out.outcome);
	assent_reply_set(reply, status_of(out.outcome), json, (size_t)n);
}

static void post_order(const char *body, size_t len, PGconn *conn, struct assent_reply *reply,
                       void *ctx)
{
	PGresult *row = PQexecParams(conn, check_sql, 1, NULL, &body, NULL, NULL, 0);

	(void)len;
	if (PQresultStatus(row) != PGRES_TUPLES_OK) {
		/* Refused as data: it is not JSON. Anything else is the database's trouble. */
		if (assent_sql_failed(reply, row) == ASSENT_REFUSED)
			assent_reply_reason(reply, 400, "the body must be a JSON object");
	} else if (!PQgetisnull(row, 0, 0)) {
		assent_reply_reason(reply, 400, "%s", PQgetvalue(row, 0, 0));
	} else {
		place_order(ctx, conn, row, reply);
	}
	PQclear(row);
}

static int create_tables(const char *database)
{
	PGconn *conn = PQconnectdb(database);
	/* Asking a failed connection would replace the reason of its failure. */
	PGresult *result = PQstatus(conn) == CONNECTION_OK ? PQexec(conn, tables) : NULL;
	int ok = PQresultStatus(result) == PGRES_COMMAND_OK;

	if (!ok)
		fprintf(stderr, "order: %s", PQerrorMessage(conn));
	PQclear(result);
	PQfinish(conn);
	return ok;
}

static int serve(struct order *o)
{
	struct assent_error err;
	int rc = EXIT_FAILURE;

	o->client = assent_client_new(o->coordinator, &err);
	o->server = o->client ? assent_server_new(&o->options, &err) : NULL;
	if (!o->server ||
	    (o->token_file && assent_client_load_token(o->client, o->token_file, &err)) ||
	    assent_server_on(o->server, "/order", "prepare", insert_order, NULL, &err) ||
	    assent_server_route(o->server, "POST", "/orders", post_order, o, &err) ||
	    assent_server_start(o->server, &err)) {
		fprintf(stderr, "order: %s\n", err.text);
	} else {
		printf("ready %s\n", assent_server_url(o->server));
		(void)fflush(stdout);
		assent_server_run(o->server);
		rc = EXIT_SUCCESS;
	}
	assent_server_free(o->server);
	assent_client_free(o->client);
	return rc;
}

static int usage(FILE *to, int rc)
{
	fprintf(to, "usage: order --database CONNINFO [--listen 127.0.0.1:7480]\n"
	            "\t[--coordinator http://127.0.0.1:7470] [--self http://127.0.0.1:7480]\n"
	            "\t[--stock http://127.0.0.1:7481] [--account http://127.0.0.1:7482]\n"
	            "\t[--secret-file FILE] [--token-file FILE]\n");
	return rc;
}

int main(int argc, char **argv)
{
	struct order o = {.options.listen = "127.0.0.1:7480",
	                  .coordinator = "http://127.0.0.1:7470",
	                  .stock = "http://127.0.0.1:7481",
	                  .account = "http://127.0.0.1:7482"};
	struct {
		const char *name;
		const char **value;
	} table[] = {{"listen", &o.options.listen},
	             {"database", &o.options.database},
	             {"coordinator", &o.coordinator},
	             {"self", &o.self},
	             {"stock", &o.stock},
	             {"account", &o.account},
	             {"secret-file", &o.options.secret_file},
	             {"token-file", &o.token_file}};
	struct option names[10] = {[8] = {"help", no_argument, NULL, 'h'}};
	int c, i;

	for (i = 0; i < 8; i++)
		names[i] = (struct option){table[i].name, required_argument, NULL, 0};
	while ((c = getopt_long(argc, argv, "", names, &i)) != -1) {
		if (c == 'h')
			return usage(stdout, EXIT_SUCCESS);
		if (c != 0)
			return usage(stderr, EXIT_FAILURE);
		*table[i].value = optarg;
	}
	if (!o.options.database || optind != argc)
		return usage(stderr, EXIT_FAILURE);
	return create_tables(o.options.database) ? serve(&o) : EXIT_FAILURE;
}
