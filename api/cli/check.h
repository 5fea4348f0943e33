/*
 * check.h - `assent participant check`: its parts, and what they share.
 *
 *	check.c         the command: options, is anybody there, every rule, cleaning up, the end
 *	check_options.c what the user says
 *	script.c        performs one rule
 *	compose.c       one call: address, headers, signature, payload
 *	judge.c         whether an answer is what a step expects
 *	report.c        the table, the failures, JSON
 */
#ifndef API_CLI_CHECK_H
#define API_CLI_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/cli/exchange.h"
#include "api/cli/rules.h"

#define OPTION_RULES_MAX 32
#define RESULT_MAX       ((size_t)16 * 1024) /* of an answer that is kept */
#define BRIEF_MS         600
#define GRACE_MS         1500 /* for the way and a busy machine, beyond what the call was told */
#define ID_LEN           8

struct secret_keys;

struct options {
	const char *address; /* without a slash at its end */
	const char *payload, *refused_payload;
	const char *restart, *probe; /* commands of the shell */
	const char *secret_file, *ca_file;
	int timeout_ms;
	unsigned modes; /* 0: whichever the participant has */
	const char *rule[OPTION_RULES_MAX];
	size_t n_rule;
	bool json, list, dry, no_commit, by_hand, sure, help;
};

enum verdict {
	NOT_RUN,
	PASSED,
	FAILED,
	SKIPPED,
};

struct result {
	const struct rule *rule;
	const char *name; /* the rule's */
	enum verdict verdict;
	struct buf reason;    /* of what is not passed */
	size_t first, behind; /* its exchanges in run->exchange */
};

/* A branch of a transaction of ours that has been sent something. */
struct branch {
	struct branch *next;
	const struct mode *mode;
	char gid[64], id[16], space[16], cluster[16];
	bool asked;
	bool open;     /* may hold something that wants to be undone */
	bool tried;    /* in vain, to undo it */
	bool given_up; /* a call that was not waited for */
	bool refused;  /* with the payload that the business refuses */
	unsigned attempt[ROLE_MAX];
};

struct run {
	const struct options *options;
	struct secret_keys *keys;
	struct http *http;
	char id[ID_LEN + 1]; /* of this run, in every gid */
	unsigned n_gid;
	struct branch *branches;
	struct exchange **exchange; /* all of them, in the order of sending */
	size_t n_exchange;
	struct rule rule[RULES_MAX];
	struct result result[RULES_MAX];
	size_t n_rule, n_result;
	char *probed; /* what --probe printed last, when nothing was committed since */
	bool stopped; /* the user interrupted it */
};

/* ---- check_options.c: 0, or a message on stderr and the exit status ---- */
int options_read(struct options *o, int argc, char **argv);
void options_print_help(void);

/* ---- compose.c ---- */
/* The next call to `branch` as `step` says, not yet sent; it belongs to the run. */
struct exchange *compose(struct run *run, struct branch *branch, const struct step *step);
/* With what a branch of its own calls itself in the place of {{unique}}. */
void put_payload(struct buf *out, const char *payload, const struct branch *branch);

/* ---- judge.c ---- */
/* 202, 425, 429, 503: asked again. */
bool is_again(const struct exchange *x);
/* Whether `x` is what its step expects, `first` being what the same was first answered (or NULL).
 * If not, a sentence is added to `why`. */
bool judge(const struct exchange *x, const struct exchange *first, struct buf *why);
bool has_outcome(const struct exchange *x, const char *outcome);
/* Whether the branch has nothing any more that this answer leaves to be undone. */
bool is_ended(const struct exchange *x);
/* For all answers of the run: the first that is no JSON, or too long. */
const struct exchange *find_not_json(const struct run *run);
const struct exchange *find_too_long(const struct run *run);
const char *expect_str(enum expect expect);

/* ---- script.c ---- */
void perform(struct run *run, struct result *result);
/* Undoes what is open; how many branches it could not. The last time those as well with which it
 * failed before. */
size_t clean_up(struct run *run, bool last);
/* A call beside the rules: true when there was an answer. */
struct exchange *ask_once(struct run *run, const struct mode *mode, const struct step *step);

/* ---- report.c ---- */
void report_begin(const struct run *run);
void report_result(const struct run *run, const struct result *result);
void report_end(const struct run *run, size_t n_left);
void report_rules(const struct run *run);
void report_calls(const struct run *run, const struct result *result);

#endif /* API_CLI_CHECK_H */
