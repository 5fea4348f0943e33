/*
 * workers.c - a queue of jobs and the threads that run them, each with a connection of its own.
 *
 * Separate pools exist so that one kind of job cannot keep out another: what waits for a lock
 * must not occupy the worker that the lock's holder needs.
 */
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define WAITING_MAX 1024

struct sdk_pool {
	pthread_mutex_t lock;
	pthread_cond_t more; /* a job was added, or the end has begun */
	pthread_cond_t less; /* a job has ended; on the monotonic clock */
	struct sdk_job *first;
	struct sdk_job **last;
	unsigned n_waiting;
	unsigned n_running;
	bool ending;
	char *database;
	unsigned n_thread;
	pthread_t thread[];
};

/* NULL when there is nothing left to do, ever. */
static struct sdk_job *take_job(struct sdk_pool *pool)
{
	struct sdk_job *job;

	pthread_mutex_lock(&pool->lock);
	while (!pool->first && !pool->ending)
		pthread_cond_wait(&pool->more, &pool->lock);
	job = pool->first;
	if (job) {
		pool->first = job->next;
		if (!pool->first)
			pool->last = &pool->first;
		pool->n_waiting--;
		pool->n_running++;
	}
	pthread_mutex_unlock(&pool->lock);
	return job;
}

static void job_ended(struct sdk_pool *pool)
{
	pthread_mutex_lock(&pool->lock);
	pool->n_running--;
	pthread_cond_broadcast(&pool->less);
	pthread_mutex_unlock(&pool->lock);
}

/* As far as one can tell without asking. A server that went away left its last words and then the
 * end of the stream: reading goes on until there is nothing more, or the end is seen. */
static bool is_alive(PGconn *conn)
{
	struct pollfd fd = {.fd = PQsocket(conn), .events = POLLIN};

	while (PQstatus(conn) == CONNECTION_OK && poll(&fd, 1, 0) > 0) {
		if (!PQconsumeInput(conn))
			return false;
	}
	return PQstatus(conn) == CONNECTION_OK;
}

/* So that a job need not fail because the connection died while nobody used it. */
static PGconn *renew(PGconn *conn, const char *database)
{
	if (conn && is_alive(conn))
		return conn;
	PQfinish(conn);
	conn = sdk_pg_connect(database);
	if (conn && PQstatus(conn) == CONNECTION_OK)
		return conn;
	PQfinish(conn);
	return NULL;
}

static void *worker(void *arg)
{
	struct sdk_pool *pool = arg;
	PGconn *conn = NULL;
	struct sdk_job *job;

	while ((job = take_job(pool))) {
		conn = renew(conn, pool->database);
		job->run(job, conn);
		if (conn)
			sdk_pg_rollback(conn);
		job_ended(pool);
	}
	PQfinish(conn);
	return NULL;
}

struct sdk_pool *sdk_pool_start(unsigned n_worker, const char *database)
{
	struct sdk_pool *pool = calloc(1, sizeof(*pool) + n_worker * sizeof(pool->thread[0]));
	pthread_condattr_t attr;

	if (!pool || !(pool->database = strdup(database))) {
		free(pool);
		return NULL;
	}
	pool->last = &pool->first;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->more, NULL);
	pthread_cond_init(&pool->less, &attr);
	pthread_condattr_destroy(&attr);
	for (; pool->n_thread < n_worker; pool->n_thread++) {
		if (pthread_create(&pool->thread[pool->n_thread], NULL, worker, pool)) {
			sdk_pool_free(pool);
			return NULL;
		}
	}
	return pool;
}

bool sdk_pool_put(struct sdk_pool *pool, struct sdk_job *job)
{
	bool taken;

	job->next = NULL;
	pthread_mutex_lock(&pool->lock);
	taken = pool->n_waiting < WAITING_MAX && !pool->ending;
	if (taken) {
		*pool->last = job;
		pool->last = &job->next;
		pool->n_waiting++;
		pthread_cond_signal(&pool->more);
	}
	pthread_mutex_unlock(&pool->lock);
	return taken;
}

void sdk_pool_wait_idle(struct sdk_pool *pool, int64_t until_us)
{
	struct timespec until = {until_us / 1000000, until_us % 1000000 * 1000};
	int rc = 0;

	pthread_mutex_lock(&pool->lock);
	while (rc == 0 && (pool->n_waiting || pool->n_running))
		rc = pthread_cond_timedwait(&pool->less, &pool->lock, &until);
	pthread_mutex_unlock(&pool->lock);
}

void sdk_pool_free(struct sdk_pool *pool)
{
	if (!pool)
		return;
	pthread_mutex_lock(&pool->lock);
	pool->ending = true;
	pthread_cond_broadcast(&pool->more);
	pthread_mutex_unlock(&pool->lock);
	for (unsigned i = 0; i < pool->n_thread; i++)
		pthread_join(pool->thread[i], NULL);
	pthread_cond_destroy(&pool->more);
	pthread_cond_destroy(&pool->less);
	pthread_mutex_destroy(&pool->lock);
	free(pool->database);
	free(pool);
}
