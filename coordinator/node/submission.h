/*
 * submission.h - what a client submits: JSON text to a struct, with a complaint that names the
 * JSON pointer when it cannot be taken.
 *
 * The same decoder reads a new request and, after a restart, the stored bytes of an old one; the
 * latter is `trusted`: it was accepted once, so only what is needed to run it is checked again.
 * Everything decoded points into the arena or into the text, which live as long as the
 * transaction.
 */
#ifndef NODE_SUBMISSION_H
#define NODE_SUBMISSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "core/txn.h"
#include "node/problem.h"
#include "node/registry.h"

#define GID_MAX           128
#define BRANCH_ID_MAX     32
#define LABEL_MAX         16
#define BRANCH_HEADER_MAX 16

struct submission_pair {
	const char *name;
	const char *value;
};

struct branch_spec {
	const char *id;
	const char *participant;   /* as the client wrote it: a name or an address */
	const char *const *op_url; /* OP_MAX explicit addresses; NULL: participant/op */
	const char *status_url;    /* 3pc: the same for its peers */
	bool waits;                /* 3pc: "on_timeout": "wait" */
	const char *payload;       /* bytes as they came; NULL for none */
	size_t payload_len;
	int64_t timeout_us;
	uint64_t after; /* bit per branch that answers first, directly or not */
	bool wanted;    /* saga: a later payload is built from its result */
	bool built;     /* saga: its payload is built from results */
	struct submission_pair *header;
	size_t n_header;
	/* Only for branches that were enlisted later: the request's body as it came, which is what
	 * is stored, and what a repetition is compared with. */
	const char *enlisted;
	size_t enlisted_len;
};

struct submission {
	const char *gid; /* NULL when the body names none */
	enum txn_mode mode;
	bool interactive;   /* branches may be enlisted until the initiator closes it */
	bool undo_confirms; /* tcc: "on_confirm_failure": "cancel" */
	bool forward;       /* saga: "recovery": "forward" */
	struct branch_spec *branch;
	unsigned n_branch;
	unsigned branch_cap;
	int64_t timeout_us;
	int64_t vote_timeout_us;  /* interactive: for the votes, from the commit on */
	int64_t phase_timeout_us; /* 3pc: for pre_commit */
	int64_t hold_us;          /* 3pc: how long a participant waits for what comes after it */
	struct retry_policy retry;
	struct submission_pair *label;
	size_t n_label;
};

/* PROBLEM_NONE, or what `complaint` says. `registry` NULL means trusted. */
enum problem submission_decode(const char *text, size_t len, const struct registry *registry,
                               struct arena *arena, struct submission *out,
                               struct complaint *complaint) MUSTCHECK;

/* Appends the branch that `text` (one JSON object) describes to `sub`. The text must live in the
 * arena. Nothing is changed when it is refused. A known id is PROBLEM_DUPLICATE_BRANCH. */
enum problem submission_add_branch(const char *text, size_t len, const struct registry *registry,
                                   struct arena *arena, struct submission *sub,
                                   struct complaint *complaint) MUSTCHECK;

/* Appends the branches that were stored, as assent.enlisted_of gives them: each with its length
 * before it. `blob` may be NULL when `len` is 0. */
enum problem submission_add_stored(const char *blob, size_t len, struct arena *arena,
                                   struct submission *sub, struct complaint *complaint) MUSTCHECK;

/* The branches of a three-phase commit can be told of each other; `more` joins them, or is NULL. */
enum problem submission_check_peers(const struct submission *sub, const struct branch_spec *more,
                                    const struct registry *registry,
                                    struct complaint *complaint) MUSTCHECK;

/* The branch with that id, or NULL. */
const struct branch_spec *submission_find(const struct submission *sub, const char *id);

/* [A-Za-z0-9._:~-]{1,128} */
bool gid_valid(const char *gid, size_t len);

#endif /* NODE_SUBMISSION_H */
