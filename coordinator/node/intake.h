/*
 * intake.h - in a burst of submissions, storing them comes before calling participants.
 *
 * To finish a transaction takes some three times the processor that it takes to accept it. While
 * more than 16 submissions whose end nobody waits for are on their way to the disk, and 10 ms longer,
 * the first calls of what has been stored are held back, so that a burst is accepted as fast as it can
 * be stored, and worked off behind it. What must not come late is not held: a transaction somebody
 * waits for the end of, an interactive one, and one whose deadline is near. Second phases are no first
 * calls; they go on.
 *
 * The operator says how late is too late: overload_delay_ms. Calls are held for an eighth of it at
 * most, since what was accepted meanwhile takes some four times as long to finish, and all of that
 * has to be over before admission.h finds that its calls have waited too long. A burst that lasts
 * longer is none: nothing more is held then, and calls and submissions share the processor as they
 * come, until what waits has become little.
 */
#ifndef NODE_INTAKE_H
#define NODE_INTAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "node/timers.h"

struct gtx;
struct node;

struct intake {
	struct list held; /* struct intake_mark, the oldest first */
	size_t n_storing;
	int64_t calm_us; /* no burst from then on */
	bool lasting;    /* it lasts too long for one: nothing is held until it is over */
	struct timer due;
};

/* In each transaction. */
struct intake_mark {
	struct list link;
	int64_t since_us;
	bool storing; /* submitted, and not durable yet */
};

int intake_init(struct node *n) MUSTCHECK;
void intake_release(struct node *n);

/* Nobody waits for its end. */
void intake_submitted(struct gtx *g);
/* Something of `g` is durable: whether its calls are held back now. If they were, they are not any
 * more. */
bool intake_hold(struct gtx *g);
/* If its calls are held back, they go at the end of this turn. */
void intake_hurry(struct gtx *g);
/* `g` is about to go. */
void intake_leave(struct gtx *g);

/* End of a turn: what is due, or may go because the burst is over. */
void intake_turn(struct node *n);

#endif /* NODE_INTAKE_H */
