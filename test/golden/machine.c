/*
 * machine.c - the commands of the golden files:
 *
 *	new N [MODE] [interactive] [undo_confirms] [forward] [key=value ...]     a transaction of N
 *	                              branches:
 *	                              deadline, timeout, vote_timeout, phase_timeout, initial, cap
 *	                              (durations), factor,
 *	                              alert_after, seed, after (2:0,2:1 for the third after both others),
 *	                              wanted (0,1: their results are)
 *	restore STATE OUTCOME BRANCH ...   put back what a record said
 *	submit | timer | resume | begin | commit | rollback     an event
 *	enlist [timeout=DURATION]     room for a branch more, and the event
 *	wait DURATION | at DURATION   the clock goes on, or stands at that time since `new`
 *	BRANCH VERDICT [retry_after=DURATION]   the reply to the call under way
 *	stray BRANCH VERDICT OP ATTEMPT         a reply to some other call
 *	show                          everything there is to see
 *	judge OP STATUS [vote=V] [outcome=O] [one_phase] [failed]   the meaning of an answer
 *
 * An event prints what changed: state and outcome, the record, the actions, and when the next
 * timer is due; or why it was not allowed; or `nothing`.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/order.h"
#include "core/protocol.h"
#include "core/verdict.h"
#include "golden.h"

#define START_US  (1000 * (int64_t)1000000) /* `new` happens at this time */
#define WORDS_MAX (TXN_BRANCH_MAX + 4)

struct machine {
	struct txn t;
	struct arena arena;
	int64_t now_us;
	/* By mode, state, event and whether it is interactive: went through the table, dropped
	 * before. */
	bool live[MODE_MAX][TXN_STATE_MAX][EV_TYPE_MAX][2];
	bool stray[MODE_MAX][TXN_STATE_MAX][EV_TYPE_MAX];
};

static _Noreturn void bad(const char *what, const char *word)
{
	fprintf(stderr, "golden: %s: %s\n", what, word);
	exit(2);
}

struct machine *machine_new(void)
{
	struct machine *m = calloc(1, sizeof *m);

	if (!m)
		abort();
	arena_init(&m->arena, 0);
	return m;
}

void machine_free(struct machine *m)
{
	arena_release(&m->arena);
	free(m);
}

static uint64_t number(const char *word)
{
	char *end;
	uint64_t n = strtoull(word, &end, 10);

	if (end == word || *end)
		bad("not a number", word);
	return n;
}

static int64_t duration(const char *word)
{
	char *end;
	double n = strtod(word, &end);

	if (strcmp(end, "us") == 0)
		return (int64_t)n;
	if (strcmp(end, "ms") == 0)
		return (int64_t)(n * 1e3 + 0.5);
	if (strcmp(end, "s") != 0)
		bad("not a duration", word);
	return (int64_t)(n * 1e6 + 0.5);
}

/* The value of `key=` among the words; `otherwise` when it is not there. */
static const char *option(char **word, const char *key, const char *otherwise)
{
	size_t len = strlen(key);

	for (; *word; word++) {
		if (strncmp(*word, key, len) == 0 && (*word)[len] == '=')
			return *word + len + 1;
	}
	return otherwise;
}

static bool flag(char **word, const char *name)
{
	for (; *word; word++) {
		if (strcmp(*word, name) == 0)
			return true;
	}
	return false;
}

static enum event_type event_named(const char *word)
{
	for (int i = 0; i < EV_TYPE_MAX; i++) {
		if (strcmp(verdict_str((enum event_type)i), word) == 0)
			return (enum event_type)i;
	}
	bad("no such event", word);
}

static enum txn_op op_named(const char *word)
{
	for (int i = 0; i < OP_MAX; i++) {
		if (strcmp(txn_op_str((enum txn_op)i), word) == 0)
			return (enum txn_op)i;
	}
	bad("no such operation", word);
}

static enum txn_state state_named(const char *word)
{
	for (int i = 0; i < TXN_STATE_MAX; i++) {
		if (strcmp(txn_state_str((enum txn_state)i), word) == 0)
			return (enum txn_state)i;
	}
	bad("no such state", word);
}

static enum txn_outcome outcome_named(const char *word)
{
	for (int i = 0; i < OUTCOME_MAX; i++) {
		if (strcmp(txn_outcome_str((enum txn_outcome)i), word) == 0)
			return (enum txn_outcome)i;
	}
	bad("no such outcome", word);
}

static uint8_t branch_state_named(const char *word)
{
	for (int i = 0; i < BRANCH_STATE_MAX; i++) {
		if (strcmp(branch_state_str((enum branch_state)i), word) == 0)
			return (uint8_t)i;
	}
	bad("no such branch state", word);
}

static void put_time(struct buf *out, int64_t us)
{
	buf_printf(out, "%" PRId64 ".%06" PRId64 "s", us / 1000000, us % 1000000);
}

static void put_action(struct buf *out, const struct action *a)
{
	switch (a->type) {
	case ACT_CALL:
		buf_printf(out, "call %u %s%s #%u timeout ", a->branch, txn_op_str(a->op),
		           a->one_phase ? " one_phase" : "", a->attempt);
		put_time(out, a->timeout_us);
		break;
	case ACT_ALERT:
		buf_printf(out, "alert %u %s", a->branch, alert_kind_str(a->alert));
		break;
	case ACT_ALERT_CLOSE:
		buf_printf(out, "alert %u close", a->branch);
		break;
	case ACT_DECIDED:
		buf_puts(out, "decided");
		break;
	case ACT_ENDED:
		buf_puts(out, "ended");
		break;
	}
	buf_putc(out, '\n');
}

static void put_due(const struct txn *t, struct buf *out)
{
	int64_t due = txn_due_us(t);

	buf_puts(out, "due ");
	if (due == INT64_MAX)
		buf_puts(out, "never");
	else
		put_time(out, due - START_US);
	buf_putc(out, '\n');
}

static void put_state(const struct txn *t, struct buf *out)
{
	buf_printf(out, "%s, %s\n", txn_state_str(t->state), txn_outcome_str(t->outcome));
}

static void step(struct machine *m, struct event ev, struct buf *out)
{
	enum txn_state state = m->t.state;
	enum txn_outcome outcome = m->t.outcome;
	int64_t due = txn_due_us(&m->t);
	struct effects fx;
	int rc;

	ev.now_us = m->now_us;
	rc = txn_step(&m->t, &ev, &fx);
	if (rc != 0) {
		buf_printf(out, "error: %s\n", err_str(rc));
		return;
	}
	if (m->t.state != state || m->t.outcome != outcome)
		put_state(&m->t, out);
	if (fx.record.present)
		buf_printf(out, "record %s\n", fx.record.forced ? "forced" : "lazy");
	for (size_t i = 0; i < fx.n_act; i++)
		put_action(out, &fx.act[i]);
	if (txn_due_us(&m->t) != due)
		put_due(&m->t, out);
	else if (m->t.state == state && !fx.record.present && fx.n_act == 0)
		buf_puts(out, "nothing\n");
}

static enum txn_mode mode_among(char **word)
{
	for (int mode = 1; mode < MODE_MAX; mode++) {
		if (flag(word, txn_mode_str((enum txn_mode)mode)))
			return (enum txn_mode)mode;
	}
	return MODE_TWO_PHASE;
}

/* "2:0,2:1": branch 2 after the branches 0 and 1. */
static void read_order(struct txn *t, const char *text)
{
	uint64_t after[TXN_BRANCH_MAX] = {0};
	const char *at = text;
	char *end;

	while (*at) {
		unsigned long i = strtoul(at, &end, 10);
		unsigned long before = *end == ':' ? strtoul(end + 1, &end, 10) : t->n_branch;

		if (i >= t->n_branch || before >= t->n_branch || (*end && *end != ','))
			bad("no such branch", text);
		after[i] |= (uint64_t)1 << before;
		at = *end ? end + 1 : end;
	}
	if (order_close(after, t->n_branch) != 0)
		bad("no such order", text);
	for (unsigned i = 0; i < t->n_branch; i++)
		t->branch[i].after = after[i];
}

/* "0,2": the results of these. */
static void read_wanted(struct txn *t, const char *text)
{
	char *end;

	for (; *text; text = *end ? end + 1 : end) {
		unsigned long i = strtoul(text, &end, 10);

		if (i >= t->n_branch || (*end && *end != ','))
			bad("no such branch", text);
		t->branch[i].wanted = true;
	}
}

static void command_new(struct machine *m, char **word)
{
	struct txn_config config = {
	    .mode = mode_among(word),
	    .seed = number(option(word, "seed", "1")),
	    .n_branch = (unsigned)number(word[1]),
	    .interactive = flag(word, "interactive"),
	    .undo_confirms = flag(word, "undo_confirms"),
	    .forward = flag(word, "forward"),
	    .vote_timeout_us = duration(option(word, "vote_timeout", "5s")),
	    .phase_timeout_us = duration(option(word, "phase_timeout", "4s")),
	    .deadline_us = START_US + duration(option(word, "deadline", "10s")),
	    .retry =
	        {
	            .initial_us = duration(option(word, "initial", "100ms")),
	            .factor = (uint32_t)number(option(word, "factor", "2")),
	            .cap_us = duration(option(word, "cap", "60s")),
	            .alert_after = (uint32_t)number(option(word, "alert_after", "3")),
	        },
	};

	m->now_us = START_US;
	arena_release(&m->arena);
	if (txn_init(&m->t, &m->arena, &config) != 0)
		bad("cannot make a transaction", word[1]);
	for (unsigned i = 0; i < m->t.n_branch; i++)
		m->t.branch[i].timeout_us = duration(option(word, "timeout", "3s"));
	read_order(&m->t, option(word, "after", ""));
	read_wanted(&m->t, option(word, "wanted", ""));
}

static void command_restore(struct machine *m, char **word, struct buf *out)
{
	uint8_t state[TXN_BRANCH_MAX];
	unsigned n = 0;
	int rc;

	while (word[3 + n] && n < TXN_BRANCH_MAX) {
		state[n] = branch_state_named(word[3 + n]);
		n++;
	}
	if (n != m->t.n_branch)
		bad("one state per branch", word[0]);
	rc = txn_restore(&m->t, state_named(word[1]), outcome_named(word[2]), state);
	if (rc != 0)
		buf_printf(out, "error: %s\n", err_str(rc));
}

static void command_event(struct machine *m, enum event_type type, struct buf *out)
{
	m->live[m->t.mode][m->t.state][type][m->t.interactive] = true;
	step(m, (struct event){.type = type}, out);
}

static void command_enlist(struct machine *m, char **word, struct buf *out)
{
	int rc = txn_reserve(&m->t, &m->arena, m->t.n_branch + 1);
	struct event ev = {
	    .type = EV_ENLIST,
	    .call_timeout_us = duration(option(word, "timeout", "3s")),
	};

	m->live[m->t.mode][m->t.state][EV_ENLIST][m->t.interactive] = true;
	if (rc != 0)
		buf_printf(out, "error: %s\n", err_str(rc));
	else
		step(m, ev, out);
}

static void command_reply(struct machine *m, char **word, struct buf *out)
{
	enum event_type type = event_named(word[1]);
	unsigned i = (unsigned)number(word[0]);
	const struct branch *b;

	if (i >= m->t.n_branch)
		bad("no such branch", word[0]);
	b = &m->t.branch[i];
	if (!b->in_call)
		bad("no call under way; use stray", word[0]);
	m->live[m->t.mode][m->t.state][type][m->t.interactive] = true;
	step(m,
	     (struct event){
	         .type = type,
	         .branch = i,
	         .op = b->op,
	         .attempt = b->attempt,
	         .retry_after_us = duration(option(word, "retry_after", "0s")),
	     },
	     out);
}

static void command_stray(struct machine *m, char **word, struct buf *out)
{
	enum event_type type = event_named(word[2]);

	m->stray[m->t.mode][m->t.state][type] = true;
	step(m,
	     (struct event){
	         .type = type,
	         .branch = (unsigned)number(word[1]),
	         .op = op_named(word[3]),
	         .attempt = (uint32_t)number(word[4]),
	     },
	     out);
}

static void command_show(const struct machine *m, struct buf *out)
{
	put_state(&m->t, out);
	buf_printf(out, "decision %s\n", txn_outcome_str(txn_decision(&m->t)));
	for (unsigned i = 0; i < m->t.n_branch; i++) {
		const struct branch *b = &m->t.branch[i];

		buf_printf(out, "branch %u %s", i, branch_state_str(b->state));
		if (b->op != OP_NONE)
			buf_printf(out, ", %s #%u%s, failures %u", txn_op_str(b->op), b->attempt,
			           b->in_call ? " under way" : "", b->failures);
		buf_putc(out, '\n');
	}
	put_due(&m->t, out);
}

static void command_judge(char **word, struct buf *out)
{
	struct answer answer = {
	    .err = flag(word, "failed") ? ERR_TIMEOUT : 0,
	    .status = (int)number(word[2]),
	    .vote = option(word, "vote", ""),
	    .outcome = option(word, "outcome", ""),
	};

	buf_printf(out, "%s\n",
	           verdict_str(verdict_judge(op_named(word[1]), flag(word, "one_phase"), &answer)));
}

static size_t split(char *line, char **word)
{
	char *save = NULL;
	size_t n = 0;

	for (char *w = strtok_r(line, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
		if (n == WORDS_MAX)
			bad("too many words", w);
		word[n++] = w;
	}
	word[n] = NULL;
	return n;
}

static bool is_event(const char *c)
{
	static const char *const name[] = {"submit", "timer",  "resume",
	                                   "begin",  "commit", "rollback"};

	for (size_t i = 0; i < sizeof name / sizeof name[0]; i++) {
		if (strcmp(c, name[i]) == 0)
			return true;
	}
	return false;
}

void machine_run(struct machine *m, char *line, struct buf *out)
{
	char *word[WORDS_MAX + 1];
	size_t n = split(line, word);
	const char *c = n ? word[0] : "";

	if (strcmp(c, "judge") == 0 && n >= 3)
		command_judge(word, out);
	else if (strcmp(c, "new") == 0 && n >= 2)
		command_new(m, word);
	else if (!m->t.branch)
		bad("begin with `new`", c);
	else if (strcmp(c, "restore") == 0 && n >= 3)
		command_restore(m, word, out);
	else if (strcmp(c, "enlist") == 0)
		command_enlist(m, word, out);
	else if (is_event(c))
		command_event(m, event_named(c), out);
	else if (strcmp(c, "wait") == 0 && n == 2)
		m->now_us += duration(word[1]);
	else if (strcmp(c, "at") == 0 && n == 2)
		m->now_us = START_US + duration(word[1]);
	else if (strcmp(c, "stray") == 0 && n == 5)
		command_stray(m, word, out);
	else if (strcmp(c, "show") == 0)
		command_show(m, out);
	else if (n >= 2 && *c >= '0' && *c <= '9')
		command_reply(m, word, out);
	else
		bad("no such command", c);
}

static void mode_uncovered(const struct machine *m, const struct protocol *p, struct buf *out)
{
	for (int s = 0; s < TXN_STATE_MAX; s++) {
		for (int e = 0; p->table[s][EV_RESUME] && e < EV_TYPE_MAX; e++) {
			const bool *live = m->live[p->mode][s][e];
			bool reply = event_is_reply((enum event_type)e);
			/* Calls are under way, so that replies can get as far as the table. */
			bool calls = p->phase[s].op != OP_NONE;
			const char *state = txn_state_str((enum txn_state)s);
			const char *event = verdict_str((enum event_type)e);

			/* Answers mean the same in both kinds, nothing else does. */
			if (reply ? calls && !live[0] && !live[1] : !live[0])
				buf_printf(out, "not covered: %s, %s, %s\n", p->name, state, event);
			if (!reply && p->interactive && !live[1])
				buf_printf(out, "not covered: %s, %s, %s, interactive\n", p->name,
				           state, event);
			if (reply && !m->stray[p->mode][s][e])
				buf_printf(out, "not covered: %s, %s, stray %s\n", p->name, state,
				           event);
		}
	}
}

void machine_uncovered(const struct machine *m, struct buf *out)
{
	for (int mode = 1; mode < MODE_MAX; mode++)
		mode_uncovered(m, protocol_get((enum txn_mode)mode), out);
}
