/*
 * ledger.c - a participant that does nothing but write down that it did something: one entry for
 * each time the work of an operation has had an effect, and its number as the result.
 *
 * A payload {"refuse": true} is refused after the entry was written. The operation of a cancel that
 * was told of a confirm is written as "cancel+".
 *
 *	ledger --listen 127.0.0.1:0 --database CONNINFO
 */
#include "participants/samples/service.h"

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

static int add(struct service *service, struct assent_server *server, struct assent_error *err)
{
	static const char *const ops[] = {"prepare", "try",    "confirm",
	                                  "cancel",  "action", "compensate"};
	int rc = 0;

	(void)service;
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]) && !rc; i++)
		rc = assent_server_on(server, "/ledger", ops[i], write_entry, NULL, err);
	return rc;
}

int main(int argc, char **argv)
{
	struct service service = {.name = "ledger", .tables = tables, .add = add};

	return service_main(&service, argc, argv);
}
