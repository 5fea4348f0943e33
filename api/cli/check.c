/*
 * check.c - assent participant check.
 *
 * Which modes the participant has is found out by calls that do nothing: undoing what never was,
 * finishing what never was, and a first phase past its deadline. Where all three get the answer that
 * an operation gets which nobody has, the mode is not there.
 */
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/cli/check.h"
#include "api/cli/cli.h"
#include "io/digest.h"
#include "node/secret.h"

static const struct step undo_step = {ROLE_UNDO, EXPECT_ANY, 0, 0};
static const struct step finish_step = {ROLE_FINISH, EXPECT_ANY, 0, 0};
static const struct step late_step = {ROLE_FIRST, EXPECT_ANY, HOW_LATE, 0};
static const struct step unknown_step = {ROLE_UNKNOWN, EXPECT_ANY, 0, 0};

static int start(struct run *run, const struct options *o)
{
	struct secret_keys *keys = NULL;
	unsigned char random[ID_LEN / 2];
	char why[512];

	memset(run, 0, sizeof *run);
	run->options = o;
	if (o->secret_file &&
	    secret_keys_load("--secret-file", o->secret_file, &keys, why, sizeof why)) {
		(void)fprintf(stderr, "assent: %s\n", why);
		return CLI_USAGE;
	}
	run->keys = keys;
	digest_random(random, sizeof random);
	for (size_t i = 0; i < sizeof random; i++)
		(void)snprintf(run->id + 2 * i, 3, "%02x", random[i]);
	run->http = http_new(o->ca_file);
	return 0;
}

static void finish(struct run *run)
{
	struct branch *b;

	for (size_t i = 0; i < run->n_exchange; i++)
		exchange_free(run->exchange[i]);
	free(run->exchange);
	free(run->probed);
	while ((b = run->branches)) {
		run->branches = b->next;
		free(b);
	}
	for (size_t i = 0; i < run->n_result; i++)
		buf_release(&run->result[i].reason);
	rules_release(run->rule, run->n_rule);
	http_free(run->http);
	secret_keys_free(run->keys);
}

/* ---- which modes, and which rules ---- */

static bool is_unknown(const struct exchange *x, int unknown_status)
{
	bool mistake = unknown_status >= 400 && unknown_status <= 499 && unknown_status != 409;

	return x->status == 404 || x->status == 405 || x->status == 501 ||
	       (mistake && x->status == unknown_status);
}

static bool has_mode(struct run *run, const struct mode *mode, int unknown_status)
{
	return !is_unknown(ask_once(run, mode, &undo_step), unknown_status) ||
	       (mode->op[ROLE_FINISH] &&
	        !is_unknown(ask_once(run, mode, &finish_step), unknown_status)) ||
	       !is_unknown(ask_once(run, mode, &late_step), unknown_status);
}

static int unreachable(const struct run *run, const char *why)
{
	(void)fprintf(
	    stderr,
	    "assent: no participant is reached at %s: %s\n"
	    "Is it running, and is this the address that the coordinator is given, without "
	    "the operation?\n",
	    run->options->address, why);
	return CLI_UNREACHABLE;
}

static int find_modes(struct run *run, unsigned *modes)
{
	const struct exchange *unknown;
	const struct mode *mode;
	size_t n_before = run->n_exchange;

	*modes = run->options->modes;
	if (run->options->dry) {
		*modes = *modes ? *modes : MODE_ANY;
		return 0;
	}
	unknown = ask_once(run, mode_at(0), &unknown_step);
	if (!unknown->status)
		return interrupted ? CLI_INTERRUPTED : unreachable(run, unknown->error);
	for (size_t i = 0; !run->options->modes && (mode = mode_at(i)); i++)
		*modes |= has_mode(run, mode, unknown->status) ? (unsigned)mode->bit : 0;
	for (struct branch *b = run->branches; b; b = b->next)
		b->open = b->open && (*modes & b->mode->bit);
	(void)clean_up(run, false);
	/* These are nobody's answers to a rule. */
	for (size_t i = n_before; i < run->n_exchange; i++)
		exchange_free(run->exchange[i]);
	run->n_exchange = n_before;
	return *modes ? 0 : unreachable(run, "it answers to no operation of any mode");
}

static int choose_rules(struct run *run, unsigned modes)
{
	const struct options *o = run->options;

	run->n_rule = rules_make(modes, run->rule);
	for (size_t j = 0; j < run->n_rule; j++)
		run->rule[j].chosen = o->n_rule == 0;
	for (size_t i = 0; i < o->n_rule; i++) {
		bool found = false;

		for (size_t j = 0; j < run->n_rule; j++) {
			if (fnmatch(o->rule[i], run->rule[j].name, 0) == 0)
				run->rule[j].chosen = found = true;
		}
		if (!found) {
			(void)fprintf(stderr,
			              "assent: --rule: there is no rule %s here; --list-rules "
			              "prints them all\n",
			              o->rule[i]);
			return CLI_USAGE;
		}
	}
	return 0;
}

/* ---- running them ---- */

/* Why it is not performed; NULL when it is. */
static const char *skip_reason(const struct run *run, const struct rule *rule,
                               const struct result *first)
{
	const struct options *o = run->options;

	if (run->stopped)
		return "interrupted";
	if (rule->def->need == NEED_REFUSED_PAYLOAD && !o->refused_payload)
		return "needs --refused-payload";
	if (rule->def->need == NEED_SECRET && !o->secret_file)
		return "needs --secret-file";
	if (rule->def->need == NEED_RESTART && !o->restart && !o->by_hand)
		return "needs --restart";
	if (rule->commits && o->no_commit)
		return "commits something (--no-commit)";
	if (rule->wants_yes && first && first->verdict == FAILED && first->rule->mode == rule->mode)
		return "there is no yes to begin with";
	return NULL;
}

static bool is_base(const struct rule *rule)
{
	return rule->def == &rule_defs[0];
}

static void run_rules(struct run *run)
{
	const struct result *first = NULL;

	for (size_t i = 0; i < run->n_rule; i++) {
		const struct rule *rule = &run->rule[i];
		struct result *result = &run->result[run->n_result];
		const char *skip;

		if (!rule->chosen || !rule->def->step[0].role)
			continue;
		run->n_result++;
		result->rule = rule;
		result->name = rule->name;
		skip = skip_reason(run, rule, first);
		if (skip) {
			result->verdict = SKIPPED;
			buf_puts(&result->reason, skip);
		} else {
			perform(run, result);
		}
		if (is_base(rule))
			first = result;
		if (run->options->dry && !skip)
			report_calls(run, result);
		else
			report_result(run, result);
	}
}

/* One of the rules about all answers. */
static void judge_answers(struct run *run, const char *name, const struct exchange *wrong,
                          const char *why)
{
	const struct rule *rule = run->rule;
	struct result *result = &run->result[run->n_result];

	while (strcmp(rule->name, name) != 0)
		rule++;
	if (!rule->chosen)
		return;
	run->n_result++;
	result->rule = rule;
	result->name = rule->name;
	result->verdict = wrong ? FAILED : run->n_exchange ? PASSED : SKIPPED;
	if (result->verdict == SKIPPED)
		buf_puts(&result->reason, "no other rule was chosen");
	for (size_t i = 0; wrong && i < run->n_exchange; i++) {
		if (run->exchange[i] != wrong)
			continue;
		run->exchange[i]->shows = true;
		result->first = i;
		result->behind = i + 1;
	}
	if (wrong)
		buf_puts(&result->reason, why);
	report_result(run, result);
}

static bool any_failed(const struct run *run)
{
	for (size_t i = 0; i < run->n_result; i++) {
		if (run->result[i].verdict == FAILED)
			return true;
	}
	return false;
}

/* To be asked before goods and money of others are moved. */
static bool is_meant(const struct options *o)
{
	const char *host = strstr(o->address, "://") + 3;
	char answer[8] = "";

	if (o->sure || o->dry || strncmp(host, "127.", 4) == 0 ||
	    strncmp(host, "localhost", 9) == 0 || strncmp(host, "[::1]", 5) == 0)
		return true;
	if (!isatty(STDIN_FILENO)) {
		(void)fprintf(stderr,
		              "assent: %s is another machine: say --yes when its data may change\n",
		              o->address);
		return false;
	}
	(void)fprintf(stderr, "assent: may the data of %s change? [y/N] ", o->address);
	return fgets(answer, sizeof answer, stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

static int check(struct run *run)
{
	unsigned modes;
	size_t n_left;
	int rc = find_modes(run, &modes);

	if (rc || (rc = choose_rules(run, modes)))
		return rc;
	if (!run->options->dry)
		report_begin(run);
	run_rules(run);
	if (run->options->dry)
		return CLI_OK;
	if (!run->stopped) {
		judge_answers(run, "answers.json", find_not_json(run), "an answer that is no JSON");
		judge_answers(run, "answers.bounded", find_too_long(run),
		              "an answer of more than 16 KiB");
	}
	interrupted = 0;
	n_left = clean_up(run, true);
	report_end(run, n_left);
	if (run->stopped)
		return CLI_INTERRUPTED;
	return any_failed(run) || n_left ? CLI_FAILED : CLI_OK;
}

int cli_participant_check(int argc, char **argv)
{
	static struct run run; /* large */
	static struct options options;
	int rc = options_read(&options, argc, argv);

	if (rc)
		return rc;
	if (options.help) {
		options_print_help();
		return CLI_OK;
	}
	if (!options.list && !is_meant(&options))
		return CLI_USAGE;
	rc = start(&run, &options);
	if (rc)
		return rc;
	if (options.list) {
		rc = choose_rules(&run, options.modes ? options.modes : MODE_ANY);
		if (!rc)
			report_rules(&run);
	} else {
		catch_interrupts();
		rc = check(&run);
	}
	finish(&run);
	return rc;
}
