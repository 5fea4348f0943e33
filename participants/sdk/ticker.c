/*
 * ticker.c - the server's sweep: a thread with a connection of its own, which ticks when the server
 * starts and then at an interval.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "internal.h"

struct sdk_ticker {
	struct assent_participant *participant;
	char *database;
	unsigned interval_ms;
	assent_tick_fn *on_tick; /* may be NULL */
	void *ctx;
	pthread_mutex_t lock;
	pthread_cond_t end; /* on the monotonic clock */
	bool ending;
	pthread_t thread;
};

static PGconn *renew(PGconn *conn, const char *database)
{
	if (conn && PQstatus(conn) == CONNECTION_OK)
		return conn;
	PQfinish(conn);
	return sdk_pg_connect(database);
}

/* False when it is time to end. */
static bool wait_for_next(struct sdk_ticker *t)
{
	int64_t until_us = sdk_now_us() + (int64_t)t->interval_ms * 1000;
	struct timespec until = {until_us / 1000000, until_us % 1000000 * 1000};
	bool ending;

	pthread_mutex_lock(&t->lock);
	while (!t->ending && pthread_cond_timedwait(&t->end, &t->lock, &until) != ETIMEDOUT)
		;
	ending = t->ending;
	pthread_mutex_unlock(&t->lock);
	return !ending;
}

static void *run(void *arg)
{
	struct sdk_ticker *t = arg;
	PGconn *conn = NULL;

	do {
		struct assent_tick_report report = {0};
		struct assent_error err = {0};
		int rc;

		conn = renew(conn, t->database);
		rc = conn ? assent_participant_tick(t->participant, conn, &report, &err)
		          : sdk_fail(&err, ASSENT_E_NOMEM, "out of memory");
		if (t->on_tick)
			t->on_tick(&report, rc ? &err : NULL, t->ctx);
	} while (wait_for_next(t));
	PQfinish(conn);
	return NULL;
}

struct sdk_ticker *sdk_ticker_start(struct assent_participant *participant, const char *database,
                                    unsigned interval_ms, assent_tick_fn *on_tick, void *ctx)
{
	struct sdk_ticker *t = calloc(1, sizeof(*t));
	pthread_condattr_t attr;

	if (!t || !(t->database = strdup(database))) {
		free(t);
		return NULL;
	}
	t->interval_ms = interval_ms;
	t->on_tick = on_tick;
	t->ctx = ctx;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->end, &attr);
	pthread_condattr_destroy(&attr);
	t->participant = participant;
	if (pthread_create(&t->thread, NULL, run, t) == 0)
		return t;
	pthread_cond_destroy(&t->end);
	pthread_mutex_destroy(&t->lock);
	free(t->database);
	free(t);
	return NULL;
}

void sdk_ticker_free(struct sdk_ticker *t)
{
	if (!t)
		return;
	pthread_mutex_lock(&t->lock);
	t->ending = true;
	pthread_cond_signal(&t->end);
	pthread_mutex_unlock(&t->lock);
	pthread_join(t->thread, NULL);
	pthread_cond_destroy(&t->end);
	pthread_mutex_destroy(&t->lock);
	assent_participant_free(t->participant);
	free(t->database);
	free(t);
}
