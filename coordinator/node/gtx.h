/*
 * gtx.h - a global transaction in memory: the pure txn and all that the world around it needs.
 *
 * Life cycle:
 *	1. gtx_new: nobody knows it; the submission is decoded into its arena.
 *	2. driver_submit (or recovery): in the node's map; its creation is queued in the journal.
 *	3. entry.stored: the creation is durable; participants are called, answers show it.
 *	4. decided, then ended; both become durable.
 *	5. driver forgets it once the end is durable. Until then the database's row and this
 *	   object agree, except for what is queued.
 *	Between decision and end it may be parked: forgotten, and later loaded anew (park.h).
 * When the session to the database is lost, all of them are dropped at once and loaded anew.
 *
 * One owner: the node's map. gtx_free cancels its calls and asserts that no waiter is left.
 */
#ifndef NODE_GTX_H
#define NODE_GTX_H

#include "base/arena.h"
#include "base/list.h"
#include "base/map.h"
#include "core/txn.h"
#include "io/digest.h"
#include "io/journal.h"
#include "node/admission.h"
#include "node/census.h"
#include "node/intake.h"
#include "node/park.h"
#include "node/peer_list.h"
#include "node/submission.h"
#include "node/template.h"
#include "node/timers.h"

struct node;

/* How the newest finished call to a branch went; for people, not for decisions. */
struct branch_note {
	const char *why;   /* there was no answer, for this reason (static) */
	const char *alone; /* it ended by itself, as it said (arena); NULL: not that we know */
	int status;
	enum event_type verdict;
	bool failed;            /* the three above describe a failure */
	uint32_t n_call;        /* calls made since it was loaded */
	struct peer_wait *wait; /* NULL: nothing is asked of it that it has not settled */
};

struct gtx {
	struct node *node;
	struct map_node by_gid;
	struct arena arena;
	char gid[GID_MAX + 1];
	uint8_t body_sha256[DIGEST_LEN];
	char traceparent[56]; /* W3C trace context of the submission; "" when there was none */
	const char *body;     /* in the arena */
	size_t body_len;
	struct submission spec;
	struct txn txn;
	unsigned room; /* branches that note and enlisted have room for */
	struct branch_note *note;
	struct peer_list peers;          /* 3pc: built with the first pre_commit */
	struct step_result *result;      /* by branch; NULL when none is wanted */
	struct journal_result *answered; /* the same for the journal, in the order they came */
	struct journal_branch *enlisted; /* those of this node's life; numbered like the rows */
	struct journal_entry entry;
	uint64_t forced_seq; /* actions wait until this put is durable */
	struct timer timer;  /* txn_due_us */
	struct census_mark census;
	struct admission_mark admission;
	struct intake_mark intake;
	struct list pending; /* struct pending: actions that wait, oldest first */
	struct list call;    /* struct call: under way */
	struct list waiter;  /* struct waiter */
	struct parking parking;
	int64_t created_us; /* database time, microseconds since 1970 */
	int64_t deadline_us;
	int64_t deadline_mono_us; /* the same moment: txn.deadline_us */
	int64_t decided_us;       /* 0: not yet */
	int64_t ended_us;
};

/* Copies the body. NULL when out of memory. */
struct gtx *gtx_new(struct node *node, const char *body, size_t len) MUSTCHECK;
void gtx_free(struct gtx *g);

/* After spec, gid and times are known: the txn and the journal's entry. */
int gtx_prepare(struct gtx *g, int64_t deadline_mono_us) MUSTCHECK;

/* What a request's traceparent says, or nothing. `trace` may be NULL. */
void gtx_set_trace(struct gtx *g, const char *trace);

/* A step has answered, for good: kept as JSON of at most RESULT_MAX bytes, or as none. To be put
 * with the record of the step. */
int gtx_keep_result(struct gtx *g, unsigned branch, const char *text, size_t len) MUSTCHECK;
/* The results that were stored, as assent.results_of gives them. ERR_INVALID. */
int gtx_load_results(struct gtx *g, const char *blob, size_t len) MUSTCHECK;

/* Room for that many branches in all. */
int gtx_reserve(struct gtx *g, unsigned n_branch) MUSTCHECK;

/* What is stored of an address to find its transactions by. */
void gtx_participant_key(const char *participant, uint8_t key[JOURNAL_PARTICIPANT_LEN]);

/* One line about the newest failed call; "" when there is none. */
const char *branch_note_str(const struct branch_note *n, char *buf, size_t size);

#endif /* NODE_GTX_H */
