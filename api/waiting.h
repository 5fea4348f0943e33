/*
 * waiting.h - what an unfinished transaction waits for, since when, and what happens next: one
 * sentence for people.
 */
#ifndef API_WAITING_H
#define API_WAITING_H

#include "base/buf.h"
#include "node/gtx.h"

/* Appends the sentence; nothing for a transaction that has ended. `now_us` is monotonic. */
void waiting_for(const struct gtx *g, int64_t now_us, struct buf *out);

/* One that is parked, as its row says. Times are the database's. */
struct waiting_parked {
	const char *participant;
	size_t participant_len;
	int64_t since_us;
	int64_t until_us;
};
void waiting_put_json_parked(const struct waiting_parked *p, struct buf *out);

/* The same as a JSON value. NULL (it is not in memory) gives null. */
void waiting_put_json(const struct gtx *g, struct buf *out);

#endif /* API_WAITING_H */
