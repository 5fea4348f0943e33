/*
 * limit.h - the bare loop: what a transaction costs when nothing but its I/O is done.
 *
 *	limit MODE CONNINFO PARTICIPANT...      MODE: 2pc, 3pc, tcc, saga or submit
 *
 * Serves like assentd on a free port of 127.0.0.1, prints `ready http://...`, until SIGTERM. Each
 * request becomes the same two durable states, the same calls with the same headers to each
 * PARTICIPANT (of a saga one after the other, and the second state is the end; of three-phase
 * commit one state and one call to each more), the same history rows and an answer of the same
 * size: libmicrohttpd, libcurl and libpq in one epoll loop, the same statements on the same tables,
 * one flush at a time. There is no state machine, no JSON, no retry, no timer and no check: it is
 * what assentd is measured by.
 *
 * `submit` is a submission that nobody waits for: the request is read with jansson, since its gid is
 * the row's, the creation is stored, and 202 is the end of it. Nobody is called.
 * CONNINFO is a database that `assentd` has migrated and that nobody serves.
 *
 * main.c: the loop. requests.c: requests in. calls.c: calls out. flush.c: rows.
 */
#ifndef BENCH_LIMIT_H
#define BENCH_LIMIT_H

#include <microhttpd.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BRANCH_MAX 4

/* A transaction waits for its creation, its prepares, its decision, its commits, its end; in the
 * other modes for what stands in their place. */
enum phase {
	PHASE_CREATE,
	PHASE_PREPARE,
	PHASE_AGREE, /* three-phase commit: all can; then they are told so */
	PHASE_PRE_COMMIT,
	PHASE_DECIDE,
	PHASE_COMMIT,
	PHASE_END
};

struct txn {
	struct MHD_Connection *connection;
	struct txn *next; /* in the queue, or in a flush */
	enum phase phase;
	unsigned n_wait; /* calls */
	bool seen;
	char gid[64];
	size_t len;
	char body[2048];
};

struct mode {
	const char *name;
	const char *first,
	    *second;        /* operations; a saga has one: decided, it has ended; submit none */
	const char *middle; /* three-phase commit */
};

extern struct limit {
	const struct mode *mode;
	int epoll;
	char **participant;
	unsigned n_participant;
	size_t in_flight;
} limit;

_Noreturn void die(const char *what);
void watch(int fd, int op, uint32_t events);

/* calls.c */
void calls_init(void);
void calls_start(struct txn *t, const char *op);
/* Descriptors that became ready, then everything that has ended. */
void calls_ready(int fd, uint32_t events);
void calls_collect(void);
int64_t calls_due_us(void);

/* flush.c */
void flush_init(const char *conninfo);
int flush_fd(void);
void flush_enqueue(struct txn *t, enum phase phase);
void flush_attempt(const struct txn *t, unsigned branch, int64_t started_us);
void flush_ready(void);
/* When the next flush may go; INT64_MAX: there is none. */
int64_t flush_due_us(void);
void flush_send(void);

/* requests.c */
int requests_serve(void);    /* the descriptor to watch */
bool requests_pending(void); /* a connection was resumed, or libmicrohttpd has more to do */
void requests_run(void);
void requests_stop(void);
void txn_answer(struct txn *t); /* its calls are done, the end may be written, or is */
void txn_free(struct txn *t);

#endif /* BENCH_LIMIT_H */
