/*
 * ledger.c - a participant that does nothing but write down that it did something: one entry for
 * each time the work of an operation has had an effect, and its number as the result.
 *
 * A payload {"refuse": true} is refused after the entry was written. The operation of a cancel that
 * was told of a confirm is written as "cancel+".
 *
 *	ledger --listen 127.0.0.1:0 --database CONNINFO [--coordinator URL [--tick MS]]
 *
 * With a coordinator it takes part in three-phase commit, too. GET /ticks is how often it has looked
 * for what nobody finishes (every MS, by default once, when it starts), and POST /tick does it now.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "participants/samples/service.h"

struct ledger {
	const char *tick_ms;
	struct assent_participant *participant;
	atomic_uint n_tick;
};

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

/* May I? Looks only. */
static enum assent_vote ask(const struct assent_call *call, PGconn *conn,
                            struct assent_reply *reply, void *ctx)
{
	const char *payload = assent_call_body(call, NULL);
	PGresult *result = PQexecParams(conn,
	                                "SELECT coalesce(($1::json->>'refuse')::boolean, false)", 1,
	                                NULL, &payload, NULL, NULL, 0);
	enum assent_vote vote = ASSENT_YES;

	(void)ctx;
	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		vote = assent_sql_failed(reply, result);
	else if (*PQgetvalue(result, 0, 0) == 't')
		vote = assent_refuse(reply, "as it was asked to");
	PQclear(result);
	return vote;
}

static void ticked(const struct assent_tick_report *report, const struct assent_error *err,
                   void *ctx)
{
	struct ledger *ledger = ctx;

	(void)report;
	if (err)
		fprintf(stderr, "ledger: %s\n", err->text);
	else
		atomic_fetch_add(&ledger->n_tick, 1);
}

static void reply_report(struct assent_reply *reply, const struct assent_tick_report *report)
{
	char json[256];
	int len = snprintf(json, sizeof(json),
	                   "{\"swept\":%u,\"waiting\":%u,\"heuristic\":%u,\"failed\":%u,"
	                   "\"orphans\":%u}",
	                   report->n_swept, report->n_waiting, report->n_heuristic,
	                   report->n_failed, report->n_orphan);

	assent_reply_set(reply, 200, json, (size_t)len);
}

static void tick(const char *body, size_t len, PGconn *conn, struct assent_reply *reply, void *ctx)
{
	struct ledger *ledger = ctx;
	struct assent_tick_report report;
	struct assent_error err;

	(void)body;
	(void)len;
	if (assent_participant_tick(ledger->participant, conn, &report, &err))
		assent_reply_reason(reply, 503, "%s", err.text);
	else
		reply_report(reply, &report);
}

static void count_ticks(const char *body, size_t len, PGconn *conn, struct assent_reply *reply,
                        void *ctx)
{
	struct ledger *ledger = ctx;
	char json[16];
	int n = snprintf(json, sizeof(json), "%u", atomic_load(&ledger->n_tick));

	(void)body;
	(void)len;
	(void)conn;
	assent_reply_set(reply, 200, json, (size_t)n);
}

static int add_three_phase(struct service *service, struct assent_server *server,
                           struct assent_error *err)
{
	const struct assent_participant_options options = {
	    .coordinators = service->options.coordinators, .retry_ms = 1};
	struct ledger *ledger = service->ctx;
	int rc;

	if ((rc = assent_participant_new(&ledger->participant, &options, err)) ||
	    (rc = assent_server_on(server, "/ledger", "pre_commit", write_entry, NULL, err)) ||
	    (rc = assent_server_on(server, "/ledger", "can_commit", ask, NULL, err)) ||
	    (rc = assent_server_route(server, "POST", "/tick", tick, ledger, err)))
		return rc;
	return assent_server_route(server, "GET", "/ticks", count_ticks, ledger, err);
}

static int add(struct service *service, struct assent_server *server, struct assent_error *err)
{
	static const char *const ops[] = {"prepare", "try",    "confirm",
	                                  "cancel",  "action", "compensate"};
	int rc = 0;

	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]) && !rc; i++)
		rc = assent_server_on(server, "/ledger", ops[i], write_entry, NULL, err);
	if (rc || !service->options.coordinators)
		return rc;
	return add_three_phase(service, server, err);
}

int main(int argc, char **argv)
{
	struct ledger ledger = {0};
	struct service service = {.name = "ledger",
	                          .options = {.on_tick = ticked,
	                                      .tick_ctx = &ledger,
	                                      .tick_ms = 3600000,
	                                      .retry_ms = 1,
	                                      .keep_s = -1},
	                          .tables = tables,
	                          .add = add,
	                          .ctx = &ledger};
	const struct service_option more[] = {{"tick", &ledger.tick_ms}, {NULL, NULL}};
	int rc;

	service.more = more;
	/* The server wants it as a number, before the options are read. */
	for (int i = 1; i + 1 < argc; i++) {
		if (strcmp(argv[i], "--tick") == 0)
			service.options.tick_ms = (unsigned)strtoul(argv[i + 1], NULL, 10);
	}
	rc = service_main(&service, argc, argv);
	assent_participant_free(ledger.participant);
	return rc;
}
