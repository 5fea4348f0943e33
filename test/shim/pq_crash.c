/*
 * pq_crash.c - preloaded over libpq, kills the process at a chosen SQL statement.
 *
 *	LD_PRELOAD=pq_crash.so PQ_CRASH_AT=3 PQ_CRASH_WHEN=sent stock --listen ...
 *
 *	PQ_CRASH_AT    which statement, counted over all threads from 1; unset or 0: none
 *	PQ_CRASH_WHEN  before: it is not sent
 *	               sent: the server has it and carries it out, and nobody takes its result
 *	               after: its result is here, and nobody hears of it
 *	PQ_CRASH_ARM   counting begins when this file exists; unset: with the first statement
 *	PQ_CRASH_SWEEP off: the looks of the sweep are not counted
 *	PQ_CRASH_LOG   a line for each statement that was counted, written before it is sent
 *
 * It stands before the executing functions that the services use; test/trouble/test_sdk_crash.py
 * checks that there are no others. A string of several statements counts as one: so it is sent.
 * Each statement of a pipeline counts: `sent` takes those before it along, and `after` is when the
 * results of all are here. To parse one (PQprepare) changes nothing, and is not counted.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum when {
	NEVER,
	BEFORE,
	SENT,
	AFTER,
};

typedef PGresult *exec_fn(PGconn *, const char *);
typedef PGresult *exec_params_fn(PGconn *, const char *, int, const Oid *, const char *const *,
                                 const int *, const int *, int);
typedef int send_fn(PGconn *, const char *);
typedef int send_params_fn(PGconn *, const char *, int, const Oid *, const char *const *,
                           const int *, const int *, int);
typedef PGresult *exec_prepared_fn(PGconn *, const char *, int, const char *const *, const int *,
                                   const int *, int);
typedef int send_prepared_fn(PGconn *, const char *, int, const char *const *, const int *,
                             const int *, int);
typedef PGresult *prepare_fn(PGconn *, const char *, const char *, int, const Oid *);
typedef PGpipelineStatus pipeline_status_fn(const PGconn *);
typedef int conn_fn(PGconn *);

/* Texts of prepared statements, by connection and name, for the log. */
#define NAMED_MAX 512
static struct named {
	PGconn *conn;
	char name[32], text[160];
} named[NAMED_MAX];
static unsigned n_named;
static pthread_mutex_t named_lock = PTHREAD_MUTEX_INITIALIZER;
/* A statement of this thread's pipeline was to be died of after its result. */
static _Thread_local bool dies_after_pipeline;

static atomic_int n_seen;
static atomic_bool armed;

/* The function behind ours. A pointer to void may not be cast to one of a function, only copied. */
static void find(const char *name, void *fn)
{
	void *found = dlsym(RTLD_NEXT, name);

	if (!found)
		abort();
	memcpy(fn, &found, sizeof(found));
}

static void die(void)
{
	kill(getpid(), SIGKILL);
	for (;;)
		pause();
}

static bool is_armed(void)
{
	const char *path = getenv("PQ_CRASH_ARM");

	if (!atomic_load(&armed) && (!path || access(path, F_OK) == 0))
		atomic_store(&armed, true);
	return atomic_load(&armed);
}

static void write_log(int n, const char *sql)
{
	const char *path = getenv("PQ_CRASH_LOG");
	char line[160];
	int len, fd;

	if (!path)
		return;
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	len = snprintf(line, sizeof(line) - 1, "%d %s", n, sql);
	if (len > (int)sizeof(line) - 2)
		len = (int)sizeof(line) - 2;
	for (int i = 0; i < len; i++) {
		if (line[i] == '\n' || line[i] == '\t')
			line[i] = ' ';
	}
	line[len++] = '\n';
	if (fd < 0 || write(fd, line, (size_t)len) != len)
		abort();
	close(fd);
}

/* What a service does by itself belongs to no call: forgetting what is old is never counted. */
static bool is_counted(const char *sql)
{
	const char *sweep = getenv("PQ_CRASH_SWEEP");

	if (strstr(sql, "assent_participant.purge("))
		return false;
	return !sweep || strcmp(sweep, "off") != 0 ||
	       (!strstr(sql, "assent_participant.claim_due(") &&
	        !strstr(sql, "assent_participant.orphans("));
}

/* Counts a statement, and says where in it the process ends. */
static enum when reach(const char *sql)
{
	const char *at = getenv("PQ_CRASH_AT"), *when = getenv("PQ_CRASH_WHEN");
	int n;

	if (!is_armed() || !is_counted(sql))
		return NEVER;
	n = atomic_fetch_add(&n_seen, 1) + 1;
	write_log(n, sql);
	if (!at || !when || n != (int)strtol(at, NULL, 10))
		return NEVER;
	if (strcmp(when, "before") == 0)
		die();
	return strcmp(when, "sent") == 0 ? SENT : AFTER;
}

/* Not before the last byte has left: the server would see half a statement. */
static void flush_and_die(PGconn *conn, int is_sent)
{
	conn_fn *flush;

	find("PQflush", &flush);
	if (!is_sent || flush(conn) != 0)
		abort();
	die();
}

PGresult *PQexec(PGconn *conn, const char *query)
{
	enum when when = reach(query);
	exec_fn *exec;
	send_fn *send;
	PGresult *result;

	if (when == SENT) {
		find("PQsendQuery", &send);
		flush_and_die(conn, send(conn, query));
	}
	find("PQexec", &exec);
	result = exec(conn, query);
	if (when == AFTER)
		die();
	return result;
}

/* NOLINTNEXTLINE(readability-function-size): libpq's */
PGresult *PQexecParams(PGconn *conn, const char *command, int nParams, const Oid *paramTypes,
                       const char *const *paramValues, const int *paramLengths,
                       const int *paramFormats, int resultFormat)
{
	enum when when = reach(command);
	exec_params_fn *exec;
	send_params_fn *send;
	PGresult *result;

	if (when == SENT) {
		find("PQsendQueryParams", &send);
		flush_and_die(conn, send(conn, command, nParams, paramTypes, paramValues,
		                         paramLengths, paramFormats, resultFormat));
	}
	find("PQexecParams", &exec);
	result = exec(conn, command, nParams, paramTypes, paramValues, paramLengths, paramFormats,
	              resultFormat);
	if (when == AFTER)
		die();
	return result;
}

/* ---- named statements and pipelines ---- */

/* With the lock. A connection may stand where one of before was. */
static struct named *named_at(PGconn *conn, const char *name)
{
	struct named *n;

	for (n = named; n < named + n_named; n++) {
		if (n->conn == conn && strcmp(n->name, name) == 0)
			return n;
	}
	return NULL;
}

static enum when reach_named(PGconn *conn, const char *name)
{
	char text[160] = "?";
	struct named *n;

	pthread_mutex_lock(&named_lock);
	n = named_at(conn, name);
	if (n)
		memcpy(text, n->text, sizeof(text));
	pthread_mutex_unlock(&named_lock);
	return reach(text);
}

PGresult *PQprepare(PGconn *conn, const char *stmtName, const char *query, int nParams,
                    const Oid *paramTypes)
{
	prepare_fn *prepare;
	struct named *n;

	pthread_mutex_lock(&named_lock);
	n = named_at(conn, stmtName);
	if (!n && n_named == NAMED_MAX)
		abort();
	if (!n)
		n = &named[n_named++];
	n->conn = conn;
	snprintf(n->name, sizeof(n->name), "%s", stmtName);
	snprintf(n->text, sizeof(n->text), "%s", query);
	pthread_mutex_unlock(&named_lock);
	find("PQprepare", &prepare);
	return prepare(conn, stmtName, query, nParams, paramTypes);
}

/* NOLINTNEXTLINE(readability-function-size): libpq's */
PGresult *PQexecPrepared(PGconn *conn, const char *stmtName, int nParams,
                         const char *const *paramValues, const int *paramLengths,
                         const int *paramFormats, int resultFormat)
{
	enum when when = reach_named(conn, stmtName);
	exec_prepared_fn *exec;
	send_prepared_fn *send;
	PGresult *result;

	if (when == SENT) {
		find("PQsendQueryPrepared", &send);
		flush_and_die(conn, send(conn, stmtName, nParams, paramValues, paramLengths,
		                         paramFormats, resultFormat));
	}
	find("PQexecPrepared", &exec);
	result = exec(conn, stmtName, nParams, paramValues, paramLengths, paramFormats,
	              resultFormat);
	if (when == AFTER)
		die();
	return result;
}

/* libpq's own executing functions may come by here as well, and have been counted. */
static bool is_pipeline(PGconn *conn)
{
	pipeline_status_fn *status;

	find("PQpipelineStatus", &status);
	return status(conn) == PQ_PIPELINE_ON;
}

/* In a pipeline; the server carries it out without waiting for more. */
static int sent_in_pipeline(PGconn *conn, enum when when, int is_sent)
{
	conn_fn *request;

	if (when == SENT) {
		find("PQsendFlushRequest", &request);
		flush_and_die(conn, is_sent && request(conn));
	}
	dies_after_pipeline |= when == AFTER;
	return is_sent;
}

/* NOLINTNEXTLINE(readability-function-size): libpq's */
int PQsendQueryParams(PGconn *conn, const char *command, int nParams, const Oid *paramTypes,
                      const char *const *paramValues, const int *paramLengths,
                      const int *paramFormats, int resultFormat)
{
	enum when when = is_pipeline(conn) ? reach(command) : NEVER;
	send_params_fn *send;

	find("PQsendQueryParams", &send);
	return sent_in_pipeline(conn, when,
	                        send(conn, command, nParams, paramTypes, paramValues, paramLengths,
	                             paramFormats, resultFormat));
}

/* NOLINTNEXTLINE(readability-function-size): libpq's */
int PQsendQueryPrepared(PGconn *conn, const char *stmtName, int nParams,
                        const char *const *paramValues, const int *paramLengths,
                        const int *paramFormats, int resultFormat)
{
	enum when when = is_pipeline(conn) ? reach_named(conn, stmtName) : NEVER;
	send_prepared_fn *send;

	find("PQsendQueryPrepared", &send);
	return sent_in_pipeline(
	    conn, when,
	    send(conn, stmtName, nParams, paramValues, paramLengths, paramFormats, resultFormat));
}

int PQexitPipelineMode(PGconn *conn)
{
	conn_fn *leave;

	if (dies_after_pipeline)
		die();
	find("PQexitPipelineMode", &leave);
	return leave(conn);
}
