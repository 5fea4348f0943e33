/*
 * admission.h - which submissions are taken on, and how much memory those take that were.
 *
 * A submission is refused (503, and nothing of it is kept) while
 *	- in_flight_max transactions are in memory, or they take memory_max bytes;
 *	- a queue that it would join is a standing one: more than CROWD wait there, the oldest for
 *	  more than overload_delay_ms;
 *	- a quarter of in_flight_max wait for one of its participants: one that hangs must not
 *	  fill the node and have everybody refused.
 *
 * There are two kinds of queues: states that wait to be durable, which everybody joins, and first
 * calls that wait for a place at a participant, which only those join who name it. The first grows
 * when the database does not keep up. When the processor does not, calls take long for that
 * reason alone, and the second grows; it also grows when the participant does not keep up, and
 * then, too, taking on more for it would only make all of them late. A transaction that is under
 * way at a slow participant, or is to be asked again later, is in neither. The age is that of what
 * waits now: the first submission after the load went is taken.
 *
 * Only new transactions are refused. Who is in is carried through to the end; reads, repetitions,
 * commit, rollback and the operator's requests are never refused for load.
 */
#ifndef NODE_ADMISSION_H
#define NODE_ADMISSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"

struct gtx;
struct node;

struct admission {
	struct list waiting; /* struct admission_mark: not durable yet, the oldest first */
	size_t n_waiting;
	size_t n_byte; /* that all transactions take */
	uint64_t n_refused;
	char why[160]; /* the newest refusal, a sentence */
};

/* In each transaction. */
struct admission_mark {
	struct list link;
	int64_t since_us;
	size_t n_byte;
};

void admission_init(struct admission *a);

/* Whether admission_check_unread is worth asking: a few comparisons. */
bool admission_is_crowded(const struct admission *a, const struct node *node);
/* ERR_LIMIT, with the reason in `why`, when the submission in `text` would be refused whatever else
 * is in it; 0 says nothing. Refusing costs the more, the more is refused: so it comes before
 * decoding, which is most of the work. */
int admission_check_unread(struct admission *a, const struct node *node, const char *text,
                           size_t len, int64_t now_us) MUSTCHECK;
/* ERR_LIMIT, with the reason in `why`. */
int admission_check(struct admission *a, const struct gtx *g, int64_t now_us) MUSTCHECK;
/* Room for so many more bytes of a transaction that is in. */
int admission_check_bytes(struct admission *a, const struct gtx *g, size_t more) MUSTCHECK;

/* `g` is in memory, or has grown. */
void admission_count(struct gtx *g);
/* A forced record was put; all of them are durable. */
void admission_put(struct gtx *g, int64_t now_us);
void admission_durable(struct gtx *g);
/* `g` is about to go. */
void admission_leave(struct gtx *g);

/* How many more transactions fit into so many percent of in_flight_max and memory_max. */
size_t admission_room(const struct node *n, unsigned percent);
/* How many may wait for one participant before submissions that name it are refused. */
size_t admission_share(const struct node *n);

/* Age of the oldest forced record that is not durable. */
int64_t admission_delay_us(const struct admission *a, int64_t now_us);

#endif /* NODE_ADMISSION_H */
