/*
 * pg_private.h - what pg.c (the session) and pg_batch.c (its batches) share.
 */
#ifndef IO_PG_PRIVATE_H
#define IO_PG_PRIVATE_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "io/pg.h"

#define PG_WHY_MAX 256

enum pg_state {
	PG_DOWN, /* the timer is the next attempt */
	PG_CONNECTING,
	PG_SETUP,
	PG_PREPARING,
	PG_UP,
};

struct pg_batch {
	struct list link;
	struct pg *pg;
	pg_done_fn *done;
	void *ctx;
	size_t n_statement;
	size_t n_result; /* == n_statement at the sync, when nothing failed */
	size_t cap;
	PGresult **result;
	bool unsent; /* something of it did not get into the output */
	int err;     /* the first failure */
	size_t failed;
	char sqlstate[6];
	char message[PG_WHY_MAX];
};

struct pg {
	struct loop *loop;
	struct pg_config config;
	char *conninfo;
	char *application_name;
	enum pg_state state;
	PGconn *conn;
	struct loop_fd *fd;
	struct loop_timer *timer; /* limit of connecting, setting up, answering; next attempt */
	struct loop_timer *drop;  /* leaves the caller who doomed the session */
	bool guarded;             /* the timer will look whether there are answers */
	int64_t moved_us;         /* when the oldest batch became the oldest */
	size_t n_setup;           /* texts run so far */
	unsigned first_host;      /* of several, to begin with */
	int64_t backoff_us;
	struct list batches; /* under way, in order */
	struct pg_batch *building;
	unsigned depth; /* of enter/leave */
	bool doomed;
	bool freed;
	char why[PG_WHY_MAX]; /* of doomed */
};

/* The session ends, at the latest in the next turn. The first reason counts. */
void pg_session_doom(struct pg *p, const char *why);
/* Flushes, and watches for what is needed next. */
void pg_session_watch(struct pg *p);

/* The timer of a session that is up. */
void pg_batches_guard(struct pg *p);

struct pg_batch *pg_batch_new(struct pg *p) MUSTCHECK;
void pg_batch_free(struct pg_batch *b);
/* Closes the batch with a sync and puts it under way. */
void pg_batch_sync(struct pg_batch *b);
/* Reads what has come, one result at a time, and ends batches. */
void pg_batches_read(struct pg *p);
/* Every batch under way is told, in order, that its result is unknown. */
void pg_batches_lose(struct pg *p, const char *why);

/* --- pg_conninfo.c --- */

struct pg_hosts {
	char *host, *hostaddr, *port; /* NULL: not given */
};
/* The hosts of a conninfo, beginning with the one at place `first` (any number). Nothing in `out`
 * when there is only one. ERR_NOMEM. */
int pg_hosts_from(const char *conninfo, unsigned first, struct pg_hosts *out) MUSTCHECK;
void pg_hosts_release(struct pg_hosts *h);

/* The first line. */
void pg_copy_line(char *to, size_t size, const char *from);
/* A field of an error or notice, "" when it is absent. */
const char *pg_field(const PGresult *res, int code);
bool pg_severity_fatal(const PGresult *res);

#endif /* IO_PG_PRIVATE_H */
