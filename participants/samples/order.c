/*
 * order - starts a global transaction per order, and is a participant of it.
 *
 * POST /orders {"id": "42", "sku": "tea", "n": 2, "user": 7, "amount": 30} submits transaction
 * order-42 with the branches stock, account and order, and waits for its end: 201 committed, 409
 * aborted, 202 not known yet. Posting the same order again is safe and gives the same answer. The
 * order's row is written by the order's own branch, so that it is placed if and only if the goods
 * and the money were taken. The member "mode" says how: "2pc" (if there is none), "3pc", "tcc" or
 * "saga".
 * A saga may begin with a coupon ("coupon": "SPRING"), whose discount is the coupon service's to
 * tell: the account's payload refers to it.
 *
 *	order --listen 127.0.0.1:7480 --database CONNINFO
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "participants/samples/service.h"

#define TIMEOUT_MS 10000
#define WAIT_MS    15000
/* Under three-phase commit: how long the coordinator waits for a phase, and how long a branch waits
 * for the coordinator. */
#define PHASE_TIMEOUT_MS "1500"
#define HOLD_MS          "3000"

struct order {
	struct assent_server *server;
	struct assent_client *client;
	const struct assent_server_options *options;
	const char *self, *stock, *account, *coupon;
};

/* Several of these may start at once on the same database. */
static const char tables[] =
    "BEGIN;"
    "SET LOCAL client_min_messages = warning;"
    "SELECT pg_advisory_xact_lock(7480);"
    "CREATE TABLE IF NOT EXISTS orders (id text PRIMARY KEY, sku text NOT NULL, n int NOT NULL,"
    " user_id bigint NOT NULL, amount bigint NOT NULL, placed boolean NOT NULL DEFAULT true,"
    " created_at timestamptz NOT NULL DEFAULT now());"
    /* Of a table that was made before there was Try-Confirm-Cancel. */
    "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'orders'::regclass"
    " AND attname = 'placed') THEN ALTER TABLE orders ADD placed boolean NOT NULL DEFAULT true;"
    " END IF; END $$;"
    "COMMIT";

/* ---- the participant ---- */

/* Under TCC the id is taken by the try, since a confirm must not fail, and placed by the confirm. */
#define INSERT(placed)                                                         \
	"INSERT INTO orders (id, sku, n, user_id, amount, placed)"             \
	" SELECT $1::json->>'id', $1::json->>'sku', ($1::json->>'n')::int,"    \
	" ($1::json->>'user')::bigint, ($1::json->>'amount')::bigint, " placed \
	" RETURNING true, ''"
#define CHANGE(what) what " WHERE id = $1::json->>'id' RETURNING true, ''"

static const char place[] = INSERT("true");
static const char reserve[] = INSERT("false");
static const char confirm[] = CHANGE("UPDATE orders SET placed = true");
static const char withdraw[] = CHANGE("DELETE FROM orders");

/* ---- the initiator ---- */

/* What is wrong with the request (or NULL), its id, mode and user, and the branches' payloads. */
static const char check_sql[] =
    "WITH r AS (SELECT $1::json->>'id' AS id, $1::json->>'sku' AS sku, $1::json->>'n' AS n,"
    "  $1::json->>'user' AS u, $1::json->>'amount' AS amount,"
    "  coalesce($1::json->>'mode', '2pc') AS mode, $1::json->>'coupon' AS coupon)"
    " SELECT CASE"
    " WHEN coalesce(id, '') !~ '^[A-Za-z0-9._~-]{1,64}$'"
    "  THEN 'id must have 1 to 64 letters, digits or . _ ~ -'"
    " WHEN coalesce(sku, '') !~ '^[^[:cntrl:]]{1,64}$' THEN 'sku must have 1 to 64 characters'"
    " WHEN coalesce(n, '') !~ '^[1-9][0-9]{0,5}$' THEN 'n must be a number from 1 to 999999'"
    " WHEN coalesce(u, '') !~ '^[1-9][0-9]{0,17}$' THEN 'user must be a positive number'"
    " WHEN coalesce(amount, '') !~ '^(0|[1-9][0-9]{0,11})$'"
    "  THEN 'amount must be a whole number from 0 to 999999999999'"
    " WHEN mode NOT IN ('2pc', '3pc', 'tcc', 'saga')"
    "  THEN 'mode must be 2pc, 3pc, tcc or saga'"
    " WHEN coupon !~ '^[A-Za-z0-9]{1,32}$' THEN 'coupon must have 1 to 32 letters or digits'"
    " WHEN coupon IS NOT NULL AND mode <> 'saga' THEN 'a coupon is a step of a saga' END,"
    " id, mode, u,"
    " format('{\"sku\":%s,\"n\":%s}', to_json(sku), n),"
    " format('{\"user\":%s,\"amount\":%s%s}', u, amount, CASE WHEN coupon IS NOT NULL"
    "  THEN ',\"discount\":\"{{steps.coupon.result.discount}}\"' END),"
    " format('{\"id\":%s,\"sku\":%s,\"n\":%s,\"user\":%s,\"amount\":%s}', to_json(id),"
    "  to_json(sku), n, u, amount),"
    " format('{\"code\":%s}', to_json(coupon)), coupon IS NOT NULL"
    " FROM r";

enum column {
	WRONG,
	ID,
	MODE,
	USER,
	STOCK,
	ACCOUNT,
	ORDER,
	COUPON,
	HAS_COUPON,
};

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
	int rc = 0;

	snprintf(gid, sizeof(gid), "order-%s", PQgetvalue(row, 0, ID));
	txn = assent_txn_new(gid, PQgetvalue(row, 0, MODE), TIMEOUT_MS, err);
	if (!txn)
		return err->code;
	if (strcmp(PQgetvalue(row, 0, MODE), "3pc") == 0 &&
	    (rc = assent_txn_option(txn, "phase_timeout_ms", PHASE_TIMEOUT_MS, err)) == 0)
		rc = assent_txn_option(txn, "hold_ms", HOLD_MS, err);
	if (rc == 0 && *PQgetvalue(row, 0, HAS_COUPON) == 't')
		rc = add_branch(txn, "coupon", o->coupon, PQgetvalue(row, 0, COUPON), err);
	if (rc == 0 &&
	    (rc = add_branch(txn, "stock", o->stock, PQgetvalue(row, 0, STOCK), err)) == 0 &&
	    (rc = add_branch(txn, "account", o->account, PQgetvalue(row, 0, ACCOUNT), err)) == 0 &&
	    (rc = add_branch(txn, "order", self, PQgetvalue(row, 0, ORDER), err)) == 0)
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

/* One order of a user at a time, under two- and three-phase commit. The branches prepare in parallel
 * and hold their rows' locks until the decision: of two orders of one user for the same goods, each could
 * hold what the other waits for, in different databases, where nobody sees the circle. Both would
 * wait for their deadline. */
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

	if (strcmp(PQgetvalue(row, 0, MODE) + 1, "pc") == 0 &&
	    !lock_user(conn, PQgetvalue(row, 0, USER))) {
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
	             PQgetvalue(row, 0, ID), out.gid, out.outcome);
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
	} else if (!PQgetisnull(row, 0, WRONG)) {
		assent_reply_reason(reply, 400, "%s", PQgetvalue(row, 0, WRONG));
	} else {
		place_order(ctx, conn, row, reply);
	}
	PQclear(row);
}

/* ---- both in one service ---- */

static int add(struct service *service, struct assent_server *server, struct assent_error *err)
{
	struct order *o = service->ctx;
	int rc;

	o->server = server;
	o->client = assent_client_new(o->options->coordinators, err);
	if (!o->client)
		return err->code;
	rc = o->options->token_file
	         ? assent_client_load_token(o->client, o->options->token_file, err)
	         : 0;
	return rc ? rc : assent_server_route(server, "POST", "/orders", post_order, o, err);
}

int main(int argc, char **argv)
{
	struct order o = {.stock = "http://127.0.0.1:7481",
	                  .account = "http://127.0.0.1:7482",
	                  .coupon = "http://127.0.0.1:7483"};
	const struct service_option more[] = {{"self", &o.self},
	                                      {"stock", &o.stock},
	                                      {"account", &o.account},
	                                      {"coupon", &o.coupon},
	                                      {NULL, NULL}};
	struct service service = {
	    .name = "order",
	    .options = {.listen = "127.0.0.1:7480", .coordinators = "http://127.0.0.1:7470"},
	    .tables = tables,
	    .path = "/order",
	    .ops = {{.op = "prepare", .sql = place},
	            {.op = "pre_commit", .sql = place},
	            {.op = "try", .sql = reserve},
	            {.op = "confirm", .sql = confirm},
	            {.op = "cancel", .sql = withdraw, .undo_confirmed = withdraw},
	            {.op = "action", .sql = place},
	            {.op = "compensate", .sql = withdraw}},
	    .add = add,
	    .ctx = &o,
	    .more = more};
	int rc;

	o.options = &service.options;
	rc = service_main(&service, argc, argv);
	assent_client_free(o.client);
	return rc;
}
