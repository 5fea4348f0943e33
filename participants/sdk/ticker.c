/*
 * ticker.c - what the server does by itself: a thread with a connection of its own, which sweeps
 * (assent_participant_tick) when the server starts and then at an interval, and in between forgets
 * what ended long ago: a batch, then a pause that leaves the database to others most of the time.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "internal.h"

#define PURGE_BATCH 500
#define PURGE_US    60000000 /* when there was less than a batch */
#define PAUSE_TIMES 4        /* as long as the batch took */

struct sdk_ticker {
	struct assent_participant *participant; /* NULL: no sweep */
	char *database;
	unsigned interval_ms;
	int keep_s;              /* negative: nothing is forgotten */
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
static bool wait_until(struct sdk_ticker *t, int64_t until_us)
{
	struct timespec until = {until_us / 1000000, until_us % 1000000 * 1000};
	bool ending;

	pthread_mutex_lock(&t->lock);
	while (!t->ending && pthread_cond_timedwait(&t->end, &t->lock, &until) != ETIMEDOUT)
		;
	ending = t->ending;
	pthread_mutex_unlock(&t->lock);
	return !ending;
}

static void sweep(struct sdk_ticker *t, PGconn *conn)
{
	struct assent_tick_report report = {0};
	struct assent_error err = {0};
	int rc = conn ? assent_participant_tick(t->participant, conn, &report, &err)
	              : sdk_fail(&err, ASSENT_E_NOMEM, "out of memory");

	if (t->on_tick)
		t->on_tick(&report, rc ? &err : NULL, t->ctx);
}

/* When to go on. */
static int64_t purge(struct sdk_ticker *t, PGconn *conn)
{
	static const struct assent_tick_report nothing;
	int64_t start_us = sdk_now_us(), end_us;
	struct assent_error err;
	int n = 0;

	if (conn && assent_participant_purge(conn, t->keep_s, PURGE_BATCH, &n, &err) && t->on_tick)
		t->on_tick(&nothing, &err, t->ctx);
	end_us = sdk_now_us();
	return end_us + (n < PURGE_BATCH ? PURGE_US : PAUSE_TIMES * (end_us - start_us));
}

static void *run(void *arg)
{
	struct sdk_ticker *t = arg;
	int64_t sweep_us = t->participant ? 0 : INT64_MAX, purge_us = t->keep_s < 0 ? INT64_MAX : 0;
	PGconn *conn = NULL;

	do {
		conn = renew(conn, t->database);
		if (sweep_us <= sdk_now_us()) {
			sweep(t, conn);
			sweep_us = sdk_now_us() + (int64_t)t->interval_ms * 1000;
		}
		if (purge_us <= sdk_now_us())
			purge_us = purge(t, conn);
	} while (wait_until(t, sweep_us < purge_us ? sweep_us : purge_us));
	PQfinish(conn);
	return NULL;
}

struct sdk_ticker *sdk_ticker_start(struct assent_participant *participant, const char *database,
                                    unsigned interval_ms, int keep_s, assent_tick_fn *on_tick,
                                    void *ctx)
{
	struct sdk_ticker *t = calloc(1, sizeof(*t));
	pthread_condattr_t attr;

	if (!t || !(t->database = strdup(database))) {
		free(t);
		return NULL;
	}
	t->interval_ms = interval_ms;
	t->keep_s = keep_s;
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
	assent_participant_stop(t->participant);
	pthread_join(t->thread, NULL);
	pthread_cond_destroy(&t->end);
	pthread_mutex_destroy(&t->lock);
	assent_participant_free(t->participant);
	free(t->database);
	free(t);
}
