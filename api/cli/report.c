/*
 * report.c - what was found: for people line by line as it is found, for programs at the end.
 *
 * An answer may hold anything: what is printed of it is short, and cannot steer a terminal.
 */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "api/cli/check.h"
#include "base/utf8.h"

#define SHOWN_MAX 2000

static const char signature_name[] = "webhook-signature: ";

static void put_safe(FILE *to, const char *prefix, const char *text, size_t len)
{
	const unsigned char *s = (const unsigned char *)text;
	bool cut = len > SHOWN_MAX;
	size_t n;

	len = cut ? SHOWN_MAX : len;
	(void)fprintf(to, "%s", prefix);
	while (len) {
		n = utf8_len(s, len);
		if (*s == '\n' && len > 1)
			(void)fprintf(to, "\n%s", prefix);
		else if (*s == '\t' || (*s >= ' ' && *s != 127 && n))
			(void)fwrite(s, 1, n, to);
		else if (*s != '\n')
			(void)fputc('?', to);
		n = n ? n : 1;
		s += n;
		len -= n;
	}
	(void)fprintf(to, "%s\n", cut ? " ..." : "");
}

/* The header as it was sent, without the signature: with it the call could be sent again. */
static void put_head(FILE *to, const char *prefix, const struct exchange *x)
{
	const char *line = x->head.data, *end;

	while (line && *line && (end = strchr(line, '\n'))) {
		if (strncmp(line, signature_name, strlen(signature_name)) == 0)
			(void)fprintf(to, "%s%s(not shown)\n", prefix, signature_name);
		else
			(void)fprintf(to, "%s%.*s\n", prefix, (int)(end - line), line);
		line = end + 1;
	}
}

static void put_exchange(const struct exchange *x)
{
	(void)printf("    > %s %s\n", x->method, x->url.data);
	put_head(stdout, "    > ", x);
	if (x->body.len)
		put_safe(stdout, "    > ", x->body.data, x->body.len);
	if (!x->status) {
		(void)printf("    < %s\n", *x->error ? x->error : "no answer yet");
		return;
	}
	(void)printf("    < %d %s (%.1f ms)\n", x->status, x->type.len ? x->type.data : "",
	             (double)x->took_us / 1000);
	if (x->answer.len)
		put_safe(stdout, "    < ", x->answer.data, x->answer.len);
}

static const char *verdict_str(enum verdict verdict)
{
	static const char *const text[] = {
	    [NOT_RUN] = "none", [PASSED] = "pass", [FAILED] = "fail", [SKIPPED] = "skipped"};

	return text[verdict];
}

static size_t count(const struct run *run, enum verdict verdict)
{
	size_t n = 0;

	for (size_t i = 0; i < run->n_result; i++)
		n += run->result[i].verdict == verdict;
	return n;
}

/* ---- for people ---- */

void report_begin(const struct run *run)
{
	size_t n_commit = 0;

	for (size_t i = 0; i < run->n_rule; i++)
		n_commit += run->rule[i].commits && run->rule[i].chosen;
	(void)fprintf(stderr,
	              "assent: %s gets real branches, with gids that begin with assent-check-%s. "
	              "What can be undone is undone",
	              run->options->address, run->id);
	if (n_commit && !run->options->no_commit)
		(void)fprintf(stderr, "; up to %zu stay committed (--no-commit: none)", n_commit);
	(void)fprintf(stderr, ".\n");
}

void report_result(const struct run *run, const struct result *result)
{
	if (run->options->json)
		return;
	(void)printf("%-8s %-32s ", verdict_str(result->verdict), result->name);
	if (result->verdict == PASSED)
		(void)printf("%s\n", result->rule ? result->rule->what : "");
	else
		put_safe(stdout, "", result->reason.data ? result->reason.data : "",
		         result->reason.len);
	(void)fflush(stdout);
}

static void put_steps(const struct run *run, const struct result *result)
{
	for (size_t i = result->first; i < result->behind; i++) {
		const struct exchange *x = run->exchange[i];

		(void)printf("  %c %2zu. %s %s of %s/%s", x->shows ? '*' : ' ',
		             i - result->first + 1, x->method, strrchr(x->url.data, '/') + 1,
		             x->branch->gid, x->branch->id);
		if (x->status)
			(void)printf(": %d", x->status);
		else
			(void)printf(": %s", *x->error ? x->error : "no answer yet");
		put_safe(stdout, " ", x->answer.data ? x->answer.data : "",
		         x->answer.len < 80 ? x->answer.len : 80);
	}
}

static void put_failure(const struct run *run, const struct result *result)
{
	(void)printf("\n%s\n", result->name);
	if (result->rule)
		(void)printf("  rule:   %s\n  why:    %s\n  source: %s\n", result->rule->what,
		             result->rule->why, result->rule->def->source);
	put_safe(stdout, "  seen:   ", result->reason.data, result->reason.len);
	put_steps(run, result);
	for (size_t i = result->first; i < result->behind; i++) {
		if (run->exchange[i]->shows)
			put_exchange(run->exchange[i]);
	}
}

/* ---- for programs ---- */

static json_t *text_of(const struct buf *b, size_t max)
{
	struct buf safe = BUF_INIT;
	json_t *text;

	/* Bytes that are no UTF-8 become U+FFFD. */
	buf_put_json_strn(&safe, b->data ? b->data : "", b->len < max ? b->len : max);
	text = json_loadb(safe.data, safe.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	buf_release(&safe);
	return text ? text : json_string("");
}

static json_t *head_of(const struct exchange *x)
{
	json_t *head = json_object();
	const char *line = x->head.data, *end, *colon;

	while (line && *line && (end = strchr(line, '\n')) && (colon = strchr(line, ':'))) {
		bool secret = strncmp(line, signature_name, strlen(signature_name)) == 0;
		json_t *value = secret ? json_string("(not shown)")
		                       : json_stringn(colon + 2, (size_t)(end - colon - 2));

		(void)json_object_setn_new(head, line, (size_t)(colon - line), value);
		line = end + 1;
	}
	return head;
}

static json_t *exchange_of(const struct exchange *x)
{
	return json_pack("{s:s, s:s, s:o, s:o, s:b, s:i, s:s, s:o, s:s, s:f}", "method", x->method,
	                 "url", x->url.data, "headers", head_of(x), "body",
	                 text_of(&x->body, SHOWN_MAX), "shows", x->shows, "status", x->status,
	                 "type", x->type.len ? x->type.data : "", "answer",
	                 text_of(&x->answer, SHOWN_MAX), "error", x->error, "took_ms",
	                 (double)x->took_us / 1000);
}

static json_t *result_of(const struct run *run, const struct result *result)
{
	json_t *exchanges = json_array();
	json_t *o = json_pack("{s:s, s:s}", "name", result->name, "result",
	                      verdict_str(result->verdict));

	if (result->rule) {
		(void)json_object_set_new(o, "what", json_string(result->rule->what));
		(void)json_object_set_new(o, "why", json_string(result->rule->why));
		(void)json_object_set_new(o, "source", json_string(result->rule->def->source));
	}
	if (result->verdict != PASSED)
		(void)json_object_set_new(o, "reason", text_of(&result->reason, SHOWN_MAX));
	for (size_t i = result->first; result->verdict == FAILED && i < result->behind; i++)
		(void)json_array_append_new(exchanges, exchange_of(run->exchange[i]));
	if (result->verdict == FAILED)
		(void)json_object_set(o, "exchanges", exchanges);
	json_decref(exchanges);
	return o;
}

static json_t *left_of(const struct run *run)
{
	json_t *left = json_array();

	for (const struct branch *b = run->branches; b; b = b->next) {
		if (b->open)
			(void)json_array_append_new(
			    left, json_pack("{s:s, s:s, s:s, s:s, s:s}", "mode", b->mode->name,
			                    "cluster", b->cluster, "namespace", b->space, "gid",
			                    b->gid, "branch", b->id));
	}
	return left;
}

static void print_json(const struct run *run)
{
	json_t *rules = json_array(), *all;

	for (size_t i = 0; i < run->n_result; i++)
		(void)json_array_append_new(rules, result_of(run, &run->result[i]));
	all = json_pack("{s:s, s:s, s:i, s:i, s:i, s:b, s:o, s:o}", "address",
	                run->options->address, "run", run->id, "passed", (int)count(run, PASSED),
	                "failed", (int)count(run, FAILED), "skipped", (int)count(run, SKIPPED),
	                "interrupted", run->stopped, "left_behind", left_of(run), "rules", rules);
	(void)json_dumpf(all, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
	(void)printf("\n");
	json_decref(all);
}

void report_end(const struct run *run, size_t n_left)
{
	if (run->options->json) {
		print_json(run);
		return;
	}
	for (size_t i = 0; i < run->n_result; i++) {
		if (run->result[i].verdict == FAILED)
			put_failure(run, &run->result[i]);
	}
	if (n_left)
		(void)printf("\nleft behind, because it could not be undone:\n");
	for (const struct branch *b = run->branches; b; b = b->next) {
		if (b->open)
			(void)printf("  %s of %s/%s/%s/%s\n", b->mode->op[ROLE_FIRST], b->cluster,
			             b->space, b->gid, b->id);
	}
	(void)printf("\n%zu passed, %zu failed, %zu skipped%s\n", count(run, PASSED),
	             count(run, FAILED), count(run, SKIPPED), run->stopped ? ", interrupted" : "");
}

/* ---- instead of checking ---- */

void report_rules(const struct run *run)
{
	json_t *rules = json_array();

	for (size_t i = 0; i < run->n_rule; i++) {
		const struct rule *r = &run->rule[i];

		if (!r->chosen)
			continue;
		if (run->options->json)
			(void)json_array_append_new(
			    rules, json_pack("{s:s, s:s, s:s, s:s, s:b}", "name", r->name, "what",
			                     r->what, "why", r->why, "source", r->def->source,
			                     "commits", r->commits));
		else
			(void)printf("%s\n  %s:\n  %s\n  (%s)\n", r->name, r->what, r->why,
			             r->def->source);
	}
	if (run->options->json) {
		(void)json_dumpf(rules, stdout, JSON_INDENT(2));
		(void)printf("\n");
	}
	json_decref(rules);
}

void report_calls(const struct run *run, const struct result *result)
{
	(void)printf("%s%s\n", result->name, result->rule->commits ? " (commits)" : "");
	for (size_t i = result->first; i < result->behind; i++) {
		const struct exchange *x = run->exchange[i];

		(void)printf("  %s %s  %s/%s  expects %s\n", x->method, x->url.data, x->branch->gid,
		             x->branch->id, expect_str(x->step->expect));
	}
}
