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
 *	PQ_CRASH_LOG   a line for each statement that was counted, written before it is sent
 *
 * It stands before the executing functions that the services use; test/trouble/test_sdk_crash.py
 * checks that there are no others. A string of several statements counts as one: so it is sent.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <libpq-fe.h>
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
typedef int flush_fn(PGconn *);

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

/* Counts a statement, and says where in it the process ends. */
static enum when reach(const char *sql)
{
	const char *at = getenv("PQ_CRASH_AT"), *when = getenv("PQ_CRASH_WHEN");
	int n;

	if (!is_armed())
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
	flush_fn *flush;

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
