/*
 * view.h - a transaction as answers show it, from memory or from the database.
 */
#ifndef API_VIEW_H
#define API_VIEW_H

#include "api/exchange.h"
#include "node/gtx.h"

struct view {
	const char *gid;
	const struct submission *spec;
	struct journal_state state;
	int64_t created_us;
	int64_t deadline_us;
	enum txn_outcome decision; /* which way, also when the outcome is mixed */
	const struct gtx *live;    /* NULL: it is not in memory */
	/* What each participant said last. Votes and acknowledgements are the participants' promises,
	 * kept by them; the coordinator's own word is in state and outcome alone. */
	enum branch_state branch[TXN_BRANCH_MAX];
	uint32_t attempts[TXN_BRANCH_MAX];
	/* Only when not live. */
	const char *last_error[TXN_BRANCH_MAX]; /* NULL for none */
	bool may_commit, may_rollback;          /* a repeated request contradicts nothing */
	const char *parked_for;                 /* a participant; NULL: not parked */
	int64_t parked_until_us;
	enum txn_op op[TXN_BRANCH_MAX]; /* of a parked one */
};

/* State and outcome as they are durable, and nothing that is still on its way. */
void view_durable(struct view *v, const struct gtx *g);
/* The end itself, whose record may be on its way: its outcome is durable. */
void view_ended(struct view *v, const struct gtx *g);

bool view_is_final(const struct view *v);
/* "commit", "abort" or "pending". */
const char *view_decision(const struct view *v);
void view_put_json(const struct view *v, struct buf *out);
/* 200 when it has ended, 202 otherwise; 200 always with `always_ok`. */
void view_reply(const struct view *v, struct exchange *x, bool always_ok);

#endif /* API_VIEW_H */
