/*
 * verdict.h - what a participant's answer means.
 *
 * Judged by status code and by two members of a JSON body, `vote` and `outcome`; never by words
 * found in it. The table stands in participants/README.md.
 */
#ifndef CORE_VERDICT_H
#define CORE_VERDICT_H

#include "core/step.h"

struct answer {
	int err;             /* 0, or why there was no whole HTTP answer */
	int status;          /* HTTP status when err is 0 */
	const char *vote;    /* "" when the body has none */
	const char *outcome; /* "" when the body has none */
};

/* A reply event's type, EV_YES .. EV_CONTRACT or EV_VOUCHED. A one-phase commit is judged like a vote. */
enum event_type verdict_judge(enum txn_op op, bool one_phase, const struct answer *answer);

/* Static text for history and logs: "yes", "read_only", "no", "done", ... */
const char *verdict_str(enum event_type type);

#endif /* CORE_VERDICT_H */
