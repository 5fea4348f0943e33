#include <assert.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "private_pg.h"
#include "sdk_fixture.h"

/* Beyond what a loaded machine takes for any call here. */
#define CALL_MS 30000

static struct private_pg *server;
static const char *namespace = "default";
static const char *branch = "b";
static const char *peers;
static const char *on_timeout = "commit";
static char hold[16] = "3600000";

bool fixture_start(void)
{
	struct assent_error err = {.text = "no PostgreSQL"};
	PGconn *conn;
	int rc;

	server = private_pg_start();
	if (!server)
		return false;
	conn = fixture_connect();
	rc = assent_participant_install(conn, &err);
	if (rc)
		fprintf(stderr, "sdk_fixture: %s\n", err.text);
	else
		fixture_exec(conn, "CREATE TABLE effect (gid text, n int, op text);"
		                   "CREATE TABLE goods (id int PRIMARY KEY, n int);"
		                   "INSERT INTO goods VALUES (1, 100)");
	PQfinish(conn);
	return rc == 0;
}

void fixture_stop(void)
{
	private_pg_stop(server);
}

const char *fixture_conninfo(void)
{
	return private_pg_conninfo(server);
}

void fixture_crash(void)
{
	int rc = private_pg_crash(server);

	assert(rc == 0);
}

void fixture_resume(void)
{
	int rc = private_pg_resume(server);

	assert(rc == 0);
}

PGconn *fixture_connect(void)
{
	PGconn *conn = PQconnectdb(private_pg_conninfo(server));

	assert(PQstatus(conn) == CONNECTION_OK);
	return conn;
}

void fixture_exec(PGconn *conn, const char *sql)
{
	PGresult *result = PQexec(conn, sql);

	if (PQresultStatus(result) != PGRES_COMMAND_OK && PQresultStatus(result) != PGRES_TUPLES_OK)
		fprintf(stderr, "%s: %s", sql, PQerrorMessage(conn));
	assert(PQresultStatus(result) == PGRES_COMMAND_OK ||
	       PQresultStatus(result) == PGRES_TUPLES_OK);
	PQclear(result);
}

int fixture_number(PGconn *conn, const char *format, ...)
{
	char sql[512];
	va_list args;
	PGresult *result;
	int n;

	va_start(args, format);
	vsnprintf(sql, sizeof(sql), format, args);
	va_end(args);
	result = PQexec(conn, sql);
	assert(PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1);
	n = (int)strtol(PQgetvalue(result, 0, 0), NULL, 10);
	PQclear(result);
	return n;
}

int fixture_prepared(PGconn *conn)
{
	return fixture_number(conn, "SELECT count(*) FROM pg_prepared_xacts");
}

int fixture_effects(PGconn *conn, const char *gid)
{
	return fixture_number(conn, "SELECT count(*) FROM effect WHERE gid = '%s'", gid);
}

int fixture_effects_of(PGconn *conn, const char *gid, const char *op)
{
	return fixture_number(conn, "SELECT count(*) FROM effect WHERE (gid, op) = ('%s', '%s')",
	                      gid, op);
}

void fixture_namespace(const char *name)
{
	namespace = name;
}

void fixture_branch(const char *name)
{
	branch = name;
}

void fixture_terms(int hold_ms, const char *new_peers, const char *new_on_timeout)
{
	snprintf(hold, sizeof(hold), "%d", hold_ms);
	peers = new_peers;
	on_timeout = new_on_timeout;
}

struct terms {
	const char *gid;
	const char *op;
	char timeout_ms[16];
};

static const char *mode_of(const char *op)
{
	if (strcmp(op, "action") == 0 || strcmp(op, "compensate") == 0)
		return "saga";
	if (strcmp(op, "try") == 0 || strcmp(op, "confirm") == 0 || strncmp(op, "cancel", 6) == 0)
		return "tcc";
	if (strcmp(op, "can_commit") == 0 || strcmp(op, "pre_commit") == 0 ||
	    strcmp(op, "do_commit") == 0 || strcmp(op, "abort") == 0 || strcmp(op, "intent") == 0)
		return "3pc";
	return "2pc";
}

/* The operation as it is called, and the header that makes it another. */
static const struct variant {
	const char *name, *op, *header;
} variants[] = {{"one_phase", "commit", "Assent-One-Phase"},
                {"cancel+", "cancel", "Assent-May-Be-Confirmed"},
                {"intent", "abort", "Assent-Intent"}};

static const char *header(void *ctx, const char *name)
{
	const struct terms *t = ctx;
	struct variant v = {t->op, t->op, ""};

	for (size_t i = 0; i < sizeof(variants) / sizeof(variants[0]); i++) {
		if (strcmp(variants[i].name, t->op) == 0)
			v = variants[i];
	}

	const char *const lines[][2] = {
	    {"Assent-Cluster", "c0ffee00"},
	    {"Assent-Namespace", namespace},
	    {"Assent-Gid", t->gid},
	    {"Assent-Branch", branch},
	    {"Assent-Attempt", "1"},
	    {"Assent-Mode", mode_of(t->op)},
	    {"Assent-Op", v.op},
	    {v.header, "true"},
	    {"Assent-Timeout-Ms", t->timeout_ms},
	    {"Assent-Hold-Ms", hold},
	    {"Assent-Peers", peers},
	    {"Assent-On-Timeout", on_timeout},
	};

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		if (strcmp(name, lines[i][0]) == 0)
			return lines[i][1];
	}
	return NULL;
}

static const char *parameter(void *ctx, const char *name)
{
	const struct terms *t = ctx;

	if (strcmp(name, "cluster") == 0)
		return "c0ffee00";
	if (strcmp(name, "namespace") == 0)
		return namespace;
	return strcmp(name, "gid") == 0 ? t->gid : branch;
}

struct assent_call *fixture_call_ms(const char *gid, const char *op, int timeout_ms)
{
	struct terms t = {.gid = gid, .op = op};
	struct assent_call *call = NULL;
	struct assent_error err;
	int rc;

	snprintf(t.timeout_ms, sizeof(t.timeout_ms), "%d", timeout_ms);
	rc = strcmp(op, "status") == 0 ? assent_call_new_status(&call, parameter, &t, &err)
	                               : assent_call_new(&call, header, &t, "{\"n\": 1}", 8, &err);
	if (rc)
		fprintf(stderr, "%s %s: %s\n", gid, op, err.text);
	assert(rc == 0);
	return call;
}

struct assent_call *fixture_call(const char *gid, const char *op)
{
	return fixture_call_ms(gid, op, CALL_MS);
}

enum assent_vote fixture_work(const struct assent_call *call, PGconn *conn,
                              struct assent_reply *reply, void *ctx)
{
	const char *values[] = {assent_call_gid(call), assent_call_body(call, NULL),
	                        assent_call_confirmed(call) ? "cancel+" : assent_call_op(call)};
	struct business *business = ctx;
	PGresult *result = PQexecParams(conn,
	                                "INSERT INTO effect VALUES"
	                                " ($1, ($2::json->>'n')::int, $3)",
	                                3, NULL, values, NULL, NULL, 0);

	atomic_fetch_add(&business->n_run, 1);
	if (PQresultStatus(result) == PGRES_COMMAND_OK && business->sql) {
		PQclear(result);
		result = PQexec(conn, business->sql);
	}
	if (business->cut)
		shutdown(PQsocket(conn), SHUT_RDWR);
	if (PQresultStatus(result) != PGRES_COMMAND_OK &&
	    PQresultStatus(result) != PGRES_TUPLES_OK && business->vote != ASSENT_YES) {
		enum assent_vote vote = assent_sql_failed(reply, result);

		PQclear(result);
		return vote;
	}
	PQclear(result);
	if (business->vote == ASSENT_REFUSED)
		return assent_refuse(reply, "no \"%s\" today", "tea");
	if (business->result)
		assent_reply_set(reply, 200, business->result, strlen(business->result));
	return business->vote;
}

/* The question of can_commit: the business's sql and vote, without the row. */
static enum assent_vote fixture_check(const struct assent_call *call, PGconn *conn,
                                      struct assent_reply *reply, void *ctx)
{
	struct business *business = ctx;
	PGresult *result = PQexec(conn, business->sql ? business->sql : "SELECT 1");
	ExecStatusType status = PQresultStatus(result);
	enum assent_vote vote = business->vote;

	(void)call;
	atomic_fetch_add(&business->n_run, 1);
	if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
		vote = assent_sql_failed(reply, result);
	else if (vote == ASSENT_REFUSED)
		vote = assent_refuse(reply, "no tea at all");
	PQclear(result);
	return vote;
}

int fixture_do_ms(PGconn *conn, const char *gid, const char *op, int timeout_ms,
                  struct business *business, char *body)
{
	struct business none = {0};
	struct assent_call *call = fixture_call_ms(gid, op, timeout_ms);
	struct assent_reply *reply = assent_reply_new();
	int status;

	if (!business)
		business = &none;
	if (strcmp(op, "prepare") == 0)
		assent_prepare(conn, call, fixture_work, business, reply);
	else if (strcmp(op, "commit") == 0 || strcmp(op, "one_phase") == 0)
		assent_commit(conn, call, fixture_work, business, reply);
	else if (strcmp(op, "rollback") == 0)
		assent_rollback(conn, call, reply);
	else if (strcmp(op, "can_commit") == 0)
		assent_can_commit(conn, call, fixture_check, business, reply);
	else if (strcmp(op, "pre_commit") == 0)
		assent_pre_commit(conn, call, fixture_work, business, reply);
	else if (strcmp(op, "do_commit") == 0)
		assent_do_commit(conn, call, reply);
	else if (strcmp(op, "abort") == 0 || strcmp(op, "intent") == 0)
		assent_abort(conn, call, reply);
	else if (strcmp(op, "status") == 0)
		assent_status(conn, call, reply);
	else
		assent_run_once(conn, call, fixture_work, business, reply);
	status = assent_reply_status(reply);
	if (body)
		snprintf(body, 256, "%s", assent_reply_body(reply, NULL));
	assent_reply_free(reply);
	assent_call_free(call);
	return status;
}

int fixture_do(PGconn *conn, const char *gid, const char *op, struct business *business, char *body)
{
	return fixture_do_ms(conn, gid, op, CALL_MS, business, body);
}
