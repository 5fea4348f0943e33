/*
 * script.c - performs a rule: step after step, each judged; and undoes what it has begun.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "api/cli/check.h"
#include "base/clock.h"

#define AT_ONCE_MAX   32
#define PAUSE_MS      50 /* before the first repetition; then twice as long */
#define PAUSE_MAX_MS  1000
#define ARRIVAL_MS    150
#define UNDO_TRIES    3
#define RESTART_MS    30000
#define PROBE_MAX     65536
#define CLUSTER       "acheck00"
#define OTHER_CLUSTER "acheck01"

static const struct step undo_step = {ROLE_UNDO, EXPECT_DONE, 0, 0};
static const struct step ask_step = {ROLE_ASK, EXPECT_YES, 0, 0};
static const struct step ask_refused_step = {ROLE_ASK, EXPECT_ANY, HOW_REFUSED, 0};

/* One performance of a rule. */
struct scene {
	struct run *run;
	struct result *result;
	const struct mode *mode;
	unsigned first_gid, gid; /* numbers */
	const struct exchange *answered[ROLE_MAX];
	struct exchange *started[AT_ONCE_MAX];
	size_t n_started;
};

static struct branch *find_branch(struct run *run, const struct mode *mode, unsigned gid,
                                  unsigned how)
{
	struct branch want = {.mode = mode}, *b;

	(void)snprintf(want.gid, sizeof want.gid, "assent-check-%s-%u", run->id, gid);
	(void)snprintf(want.id, sizeof want.id, how & HOW_OTHER_BRANCH ? "other" : "check");
	(void)snprintf(want.space, sizeof want.space,
	               how & HOW_OTHER_NAMESPACE ? "assent-check" : "default");
	(void)snprintf(want.cluster, sizeof want.cluster,
	               how & HOW_OTHER_CLUSTER ? OTHER_CLUSTER : CLUSTER);
	for (b = run->branches; b; b = b->next) {
		if (strcmp(b->gid, want.gid) == 0 && strcmp(b->id, want.id) == 0 &&
		    strcmp(b->space, want.space) == 0 && strcmp(b->cluster, want.cluster) == 0)
			return b;
	}
	b = malloc(sizeof *b);
	if (!b)
		abort();
	*b = want;
	b->next = run->branches;
	run->branches = b;
	return b;
}

/* What it may leave behind at the participant. A call that cannot be told from another's branch
 * is none of ours. */
static void mark_open(const struct exchange *x)
{
	const struct step *s = x->step;
	unsigned nameless = HOW_NO_HEADERS | HOW_NO_GID | HOW_NO_BRANCH | HOW_NO_CLUSTER;

	if ((s->role == ROLE_FIRST || s->role == ROLE_ASK || s->how & HOW_ONE_PHASE) &&
	    !(s->how & nameless))
		x->branch->open = true;
	x->branch->asked = true;
	x->branch->given_up |= x->hang_up;
}

static struct exchange *send_step(struct run *run, struct branch *branch, const struct step *step)
{
	struct exchange *x = compose(run, branch, step);

	mark_open(x);
	if (run->options->dry)
		x->done = true;
	else
		http_start(run->http, x);
	return x;
}

static void await(struct run *run, struct exchange *x)
{
	if (!x->done)
		http_wait(run->http, x);
	if (x->done && is_ended(x))
		x->branch->open = false;
}

/* Until there is an answer that is one, or no time. Returns the last. */
static struct exchange *insist(struct run *run, struct exchange *x)
{
	int64_t until_us = x->began_us + (int64_t)x->limit_ms * 1000;
	int pause_ms = PAUSE_MS;

	await(run, x);
	while (x->done && is_again(x) && !(x->step->how & HOW_BRIEF) && !interrupted &&
	       clock_mono_us() < until_us) {
		http_pause(run->http, pause_ms);
		pause_ms = 2 * pause_ms < PAUSE_MAX_MS ? 2 * pause_ms : PAUSE_MAX_MS;
		x = send_step(run, x->branch, x->step);
		await(run, x);
	}
	return x;
}

/* ---- judging ---- */

static void fail(struct scene *scene, struct exchange *x)
{
	scene->result->verdict = FAILED;
	if (x)
		x->shows = true;
}

static void take_answer(struct scene *scene, struct exchange *x)
{
	enum role role = x->step->role;
	const struct exchange *before = scene->answered[role];

	if (scene->run->options->dry || scene->result->verdict == FAILED)
		return;
	if (!x->done) {
		scene->run->stopped = true;
		return;
	}
	if (!judge(x, x->step->expect == EXPECT_SAME ? before : NULL, &scene->result->reason))
		fail(scene, x);
	else if (!before && !x->hang_up && (role == ROLE_STATUS || x->step->expect != EXPECT_ANY))
		scene->answered[role] = x;
}

/* ---- steps ---- */

static void run_many(struct scene *scene, const struct step *step, unsigned n,
                     struct branch *branch)
{
	struct exchange *x[AT_ONCE_MAX];

	for (unsigned i = 0; i < n; i++) {
		if (step->how & HOW_EACH)
			branch = find_branch(scene->run, scene->mode, ++scene->run->n_gid, 0);
		x[i] = send_step(scene->run, branch, step);
	}
	if (step->how & HOW_START) {
		for (unsigned i = 0; i < n; i++)
			scene->started[scene->n_started++] = x[i];
		/* So that they are at work, if each has its own. */
		if (step->how & HOW_EACH && !scene->run->options->dry)
			http_pause(scene->run->http, ARRIVAL_MS);
		return;
	}
	for (unsigned i = 0; i < n; i++)
		await(scene->run, x[i]);
	for (unsigned i = 0; i < n; i++)
		take_answer(scene, insist(scene->run, x[i]));
}

/* What was begun and is answered may be what the others wait for: it is undone at once. */
static void join(struct scene *scene)
{
	size_t n_left = scene->n_started;

	while (n_left && !interrupted) {
		for (size_t i = 0; i < scene->n_started; i++) {
			struct exchange *x = scene->started[i];

			if (!x || !x->done)
				continue;
			scene->started[i] = NULL;
			n_left--;
			take_answer(scene, x);
			if (x->step->how & HOW_EACH && x->branch->open && x->status / 100 == 2)
				(void)insist(scene->run,
				             send_step(scene->run, x->branch, &undo_step));
		}
		if (n_left)
			http_pause(scene->run->http, 5);
	}
	scene->n_started = 0;
}

/* What a command prints; NULL when it failed. */
static char *output_of(const char *command, struct buf *why)
{
	struct buf out = BUF_INIT;
	char chunk[4096];
	size_t n;
	int status;
	FILE *pipe = popen(command, "r");

	while (pipe && (n = fread(chunk, 1, sizeof chunk, pipe)) > 0 && out.len < PROBE_MAX)
		buf_append(&out, chunk, n);
	status = pipe ? pclose(pipe) : -1;
	if (status == 0) {
		buf_puts(&out, "\n");
		return buf_detach(&out, NULL);
	}
	buf_release(&out);
	buf_printf(why, "the command \"%s\" ended with status %d", command,
	           WIFEXITED(status) ? WEXITSTATUS(status) : -1);
	return NULL;
}

static bool is_there(struct run *run, const struct mode *mode)
{
	return ask_once(run, mode, &undo_step)->status != 0;
}

static void restart(struct scene *scene)
{
	struct run *run = scene->run;
	int64_t until_us;
	char *text;

	if (run->options->dry)
		return;
	if (run->options->by_hand) {
		(void)fprintf(stderr, "assent: restart the participant now, then press Enter: ");
		for (int c = getchar(); c != '\n' && c != EOF;)
			c = getchar();
	} else if ((text = output_of(run->options->restart, &scene->result->reason))) {
		free(text);
	} else {
		fail(scene, NULL);
		return;
	}
	until_us = clock_mono_us() + RESTART_MS * INT64_C(1000);
	while (!is_there(run, scene->mode) && !interrupted) {
		if (clock_mono_us() > until_us) {
			buf_puts(&scene->result->reason, "it did not come back within 30 s");
			fail(scene, NULL);
			return;
		}
		http_pause(run->http, PAUSE_MS);
	}
}

static void run_step(struct scene *scene, const struct step *step)
{
	struct branch *branch;

	if (step->how & HOW_NEW)
		scene->gid = ++scene->run->n_gid;
	if (step->how & HOW_BACK)
		scene->gid = scene->first_gid;
	if (step->role == ROLE_JOIN) {
		join(scene);
	} else if (step->role == ROLE_RESTART) {
		restart(scene);
	} else if (step->role == ROLE_UNKNOWN || scene->mode->op[step->role]) {
		branch = find_branch(scene->run, scene->mode, scene->gid, step->how);
		if (step->role == ROLE_FIRST && !branch->asked && scene->mode->op[ROLE_ASK] &&
		    !(step->how & (HOW_NOT_ASKED | HOW_EACH)))
			run_many(scene, step->how & HOW_REFUSED ? &ask_refused_step : &ask_step, 1,
			         branch);
		run_many(scene, step, step->n ? step->n : 1, branch);
	}
}

/* ---- what the business says ---- */

/* NULL when nobody asks, or when it failed. */
static char *probe(struct scene *scene)
{
	const char *command = scene->run->options->probe;
	char *text;

	if (!command || scene->run->options->dry || scene->result->verdict == FAILED)
		return NULL;
	text = output_of(command, &scene->result->reason);
	if (!text)
		fail(scene, NULL);
	/* It is shown in one line. */
	for (char *s = text; s && (s = strchr(s, '\n'));)
		*s = ' ';
	return text;
}

static void compare(struct scene *scene, const char *before, const char *after)
{
	if (!after || strcmp(before, after) == 0)
		return;
	buf_printf(&scene->result->reason,
	           "all was undone, but --probe said \"%.100s\" before and \"%.100s\" after",
	           before, after);
	fail(scene, NULL);
}

void perform(struct run *run, struct result *result)
{
	const struct rule *rule = result->rule;
	struct scene scene = {.run = run, .result = result, .mode = rule->mode};
	char *before, *after = NULL;
	unsigned times = rule->def->times ? rule->def->times : 1;

	/* What was printed after the last rule is what is there before this one. */
	before = rule->commits ? NULL : run->probed ? run->probed : probe(&scene);
	if (before != run->probed)
		free(run->probed);
	run->probed = NULL;
	result->first = run->n_exchange;
	for (unsigned i = 0; i < times && result->verdict != FAILED && !interrupted; i++) {
		scene.first_gid = scene.gid = ++run->n_gid;
		memset(scene.answered, 0, sizeof scene.answered);
		for (const struct step *s = rule->def->step;
		     s->role && result->verdict != FAILED && !interrupted; s++)
			run_step(&scene, s);
		join(&scene);
		result->behind = run->n_exchange;
		if (!interrupted)
			(void)clean_up(run, false);
	}
	run->stopped |= interrupted;
	if (before && !run->stopped) {
		after = probe(&scene);
		compare(&scene, before, after);
	}
	free(before);
	run->probed = after;
	if (run->stopped && result->verdict != FAILED) {
		result->verdict = SKIPPED;
		buf_puts(&result->reason, "interrupted");
	} else if (result->verdict == NOT_RUN) {
		result->verdict = PASSED;
	}
}

size_t clean_up(struct run *run, bool last)
{
	size_t n_left = 0;

	for (struct branch *b = run->branches; b && !run->options->dry; b = b->next) {
		int n_try = b->tried ? 1 : UNDO_TRIES;

		/* Nobody knows when a call is over that was not waited for. */
		b->open |= last && b->given_up;
		/* Once more at the end; not after each rule. */
		for (int i = 0; i < n_try && b->open && (last || !b->tried) && !interrupted; i++)
			(void)insist(run, send_step(run, b, &undo_step));
		b->tried |= b->open;
		n_left += b->open;
	}
	return n_left;
}

struct exchange *ask_once(struct run *run, const struct mode *mode, const struct step *step)
{
	struct exchange *x = send_step(run, find_branch(run, mode, ++run->n_gid, step->how), step);

	await(run, x);
	return x;
}
