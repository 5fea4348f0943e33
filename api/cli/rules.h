/*
 * rules.h - what a participant must do, as small scripts: which calls, and what to expect of each.
 *
 * A rule of the table (rules_table.c) holds for several modes; its texts and its name speak of
 * {first}, {finish} and {undo}, for which each mode has its own words. script.c performs it.
 */
#ifndef API_CLI_RULES_H
#define API_CLI_RULES_H

#include <stdbool.h>
#include <stddef.h>

#define RULE_STEPS 10
#define RULES_MAX  256

enum role {
	ROLE_END, /* behind the last step */
	ROLE_ASK, /* can_commit: before the first phase that works */
	ROLE_FIRST,
	ROLE_FINISH,
	ROLE_UNDO,
	ROLE_STATUS,  /* what a peer asks */
	ROLE_UNKNOWN, /* an operation that no mode has */
	ROLE_JOIN,    /* wait for what was begun with HOW_START */
	ROLE_RESTART, /* of the participant */
	ROLE_MAX,
};

enum mode_bit {
	MODE_2PC = 1,
	MODE_TCC = 2,
	MODE_SAGA = 4,
	MODE_3PC = 8,
	MODE_ANY = 15,
};

struct mode {
	const char *name;
	enum mode_bit bit;
	const char *op[ROLE_MAX]; /* NULL: it has none; such a step is left out */
};

enum expect {
	EXPECT_ANY,
	EXPECT_YES,
	EXPECT_SAME, /* as the rule's first answer to that operation; a yes when there was none */
	EXPECT_DONE,
	EXPECT_NO,         /* 409, and not because it is committed */
	EXPECT_ABORTED,    /* 409 with that outcome */
	EXPECT_COMMITTED,  /* 409 with that outcome */
	EXPECT_VOUCHED,    /* 409 with the outcome pre_committed */
	EXPECT_MISTAKE,    /* a 4xx that says so */
	EXPECT_STRANGER,   /* 401 */
	EXPECT_IS_ABORTED, /* of a status */
	EXPECT_IS_PRE_COMMITTED,
	EXPECT_IS_COMMITTED,
};

enum how {
	HOW_LATE = 1 << 0,  /* past its deadline */
	HOW_BRIEF = 1 << 1, /* with little time, within which it must be answered, once */
	HOW_PROMPT = 1 << 2,
	HOW_START = 1 << 3, /* not waited for; judged at ROLE_JOIN */
	HOW_HANG_UP = 1 << 4,
	HOW_NEW = 1 << 5,  /* from here on another gid */
	HOW_BACK = 1 << 6, /* from here on the gid of the beginning */
	HOW_EACH = 1 << 7, /* of several at once: each a gid of its own */
	HOW_OTHER_BRANCH = 1 << 8,
	HOW_OTHER_NAMESPACE = 1 << 9,
	HOW_OTHER_CLUSTER = 1 << 10,
	HOW_REFUSED = 1 << 11, /* the payload that the business refuses */
	HOW_ONE_PHASE = 1 << 12,
	HOW_MAY_BE_CONFIRMED = 1 << 13,
	HOW_INTENT = 1 << 14,
	HOW_NOT_ASKED = 1 << 15, /* without the can_commit that the mode wants before */
	/* What is wrong with the call: */
	HOW_NO_HEADERS = 1 << 16,
	HOW_NO_GID = 1 << 17,
	HOW_NO_BRANCH = 1 << 18,
	HOW_NO_CLUSTER = 1 << 19,
	HOW_UNSIGNED = 1 << 20,
	HOW_WRONG_SECRET = 1 << 21,
	HOW_OLD = 1 << 22,
	HOW_FUTURE = 1 << 23,
	HOW_OTHER_BODY = 1 << 24,      /* the signature is of another body */
	HOW_OTHER_OPERATION = 1 << 25, /* signed for the operation that undoes */
	HOW_OTHER_PATH = 1 << 26,      /* sent to the path of the operation that undoes */
	HOW_CAPTURED = 1 << 27,        /* an intent, without its header */
};

struct step {
	enum role role;
	enum expect expect;
	unsigned how;
	unsigned n; /* that many at once; 0: one */
};

enum need {
	NEED_NOTHING,
	NEED_REFUSED_PAYLOAD,
	NEED_SECRET,
	NEED_RESTART,
};

struct rule_def {
	const char *name; /* behind "mode." or, when it begins with a dot, by itself */
	unsigned modes;
	enum need need;
	unsigned times;                   /* that often, each with a gid of its own; 0: once */
	struct step step[RULE_STEPS + 1]; /* none: of all answers, judged in the end */
	const char *what, *why, *source;
};

struct rule {
	char *name; /* "2pc.prepare_repeated" */
	char *what;
	char *why;
	const struct mode *mode;
	const struct rule_def *def;
	bool chosen;  /* by the user */
	bool commits; /* leaves something that cannot be undone */
	bool wants_yes;
};

/* Ends with one without a name. The first rule of each mode is the one that all others but its
 * refusals build upon. */
extern const struct rule_def rule_defs[];
extern const struct rule_def rule_defs_three_phase[];

const struct mode *mode_find(const char *name); /* NULL when there is none */
const struct mode *mode_at(size_t i);           /* NULL behind the last */
const char *mode_names(void);

/* Every rule of the modes `wanted`; those that hold for a call in any mode are made once, for the first of
 * them. Returns how many; the caller releases each. */
size_t rules_make(unsigned wanted, struct rule *out);
void rules_release(struct rule *rule, size_t n);

#endif /* API_CLI_RULES_H */
