#include <assert.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sdk_fixture.h"

static char dir[64];
static char conninfo[128];
static const char *namespace = "default";

static void become_postgres(void)
{
	const struct passwd *user = getuid() == 0 ? getpwnam("postgres") : NULL;

	if (user && (setgid(user->pw_gid) || setuid(user->pw_uid)))
		_exit(127);
}

/* Runs a shell command as the user who may run PostgreSQL; its exit status. */
static int run(const char *command)
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		become_postgres();
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return status;
}

static bool make_dir(void)
{
	const struct passwd *user = getuid() == 0 ? getpwnam("postgres") : NULL;

	strcpy(dir, "/tmp/sdk.XXXXXX");
	if (!mkdtemp(dir) || (user && chown(dir, user->pw_uid, user->pw_gid)))
		return false;
	snprintf(conninfo, sizeof(conninfo), "host=%s user=postgres dbname=postgres", dir);
	return true;
}

bool fixture_start(void)
{
	struct assent_error err = {.text = "initdb or pg_ctl failed"};
	char command[1024];
	PGconn *conn;
	int rc = -1;

	if (!make_dir())
		return false;
	snprintf(command, sizeof(command),
	         "cd %s && PATH=$(pg_config --bindir):$PATH && export PATH &&"
	         " initdb -D data -U postgres -A trust --no-sync >initdb.log 2>&1 &&"
	         " pg_ctl -D data -w -s -l log start -o \"-c listen_addresses='' -k %s"
	         " -c max_prepared_transactions=300 -c fsync=off\"",
	         dir, dir);
	if (run(command) == 0) {
		conn = PQconnectdb(conninfo);
		rc = assent_participant_install(conn, &err);
		if (rc == 0)
			fixture_exec(conn, "CREATE TABLE effect (gid text, n int);"
			                   "CREATE TABLE goods (id int PRIMARY KEY, n int);"
			                   "INSERT INTO goods VALUES (1, 100)");
		PQfinish(conn);
	}
	if (rc)
		fprintf(stderr, "sdk_fixture: %s: %s\n", dir, err.text);
	return rc == 0;
}

void fixture_stop(void)
{
	char command[256];

	snprintf(command, sizeof(command),
	         "$(pg_config --bindir)/pg_ctl -D %s/data -s -m immediate stop; rm -rf %s/*", dir,
	         dir);
	run(command);
	rmdir(dir);
}

const char *fixture_conninfo(void)
{
	return conninfo;
}

PGconn *fixture_connect(void)
{
	PGconn *conn = PQconnectdb(conninfo);

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
	n = atoi(PQgetvalue(result, 0, 0));
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

void fixture_namespace(const char *name)
{
	namespace = name;
}

struct terms {
	const char *gid;
	const char *op;
	char timeout_ms[16];
};

static const char *header(void *ctx, const char *name)
{
	static const char *const fixed[][2] = {
	    {"Assent-Cluster", "c0ffee00"},
	    {"Assent-Branch", "b"},
	    {"Assent-Mode", "2pc"},
	    {"Assent-Attempt", "1"},
	};
	const struct terms *t = ctx;
	bool one_phase = strcmp(t->op, "one_phase") == 0;

	for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++) {
		if (strcmp(name, fixed[i][0]) == 0)
			return fixed[i][1];
	}
	if (strcmp(name, "Assent-Namespace") == 0)
		return namespace;
	if (strcmp(name, "Assent-Gid") == 0)
		return t->gid;
	if (strcmp(name, "Assent-Op") == 0)
		return one_phase ? "commit" : t->op;
	if (strcmp(name, "Assent-One-Phase") == 0)
		return one_phase ? "true" : NULL;
	return strcmp(name, "Assent-Timeout-Ms") == 0 ? t->timeout_ms : NULL;
}

struct assent_call *fixture_call_ms(const char *gid, const char *op, int timeout_ms)
{
	struct terms t = {.gid = gid, .op = op};
	struct assent_call *call = NULL;
	struct assent_error err;
	int rc;

	snprintf(t.timeout_ms, sizeof(t.timeout_ms), "%d", timeout_ms);
	rc = assent_call_new(&call, header, &t, "{\"n\": 1}", 8, &err);
	if (rc)
		fprintf(stderr, "%s %s: %s\n", gid, op, err.text);
	assert(rc == 0);
	return call;
}

struct assent_call *fixture_call(const char *gid, const char *op)
{
	return fixture_call_ms(gid, op, 5000);
}

enum assent_vote fixture_work(const struct assent_call *call, PGconn *conn,
                              struct assent_reply *reply, void *ctx)
{
	const char *values[] = {assent_call_gid(call), assent_call_body(call, NULL)};
	struct business *business = ctx;
	PGresult *result = PQexecParams(conn,
	                                "INSERT INTO effect VALUES ($1, ($2::json->>'n')::int)", 2,
	                                NULL, values, NULL, NULL, 0);

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
	return fixture_do_ms(conn, gid, op, 5000, business, body);
}
