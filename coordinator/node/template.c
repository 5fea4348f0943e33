#include "node/template.h"

#include <stdio.h>
#include <string.h>

#include "base/json_path.h"
#include "node/decoder.h"

#define OPENING "{{steps."
#define CLOSING "}}"

/* One reference in a payload. */
struct reference {
	size_t at, end; /* the braces included */
	unsigned step;
	const char *path;
	size_t path_len;
	bool whole; /* the string is nothing else, and no member's name */
};

static size_t end_of_string(const char *text, size_t len, size_t at)
{
	while (at < len && text[at] != '"')
		at += text[at] == '\\' ? 2 : 1;
	return at;
}

static bool is_name(const char *text, size_t len, size_t behind)
{
	while (behind < len && strchr("\t\n\r ", text[behind]))
		behind++;
	return behind < len && text[behind] == ':';
}

/* The longest id that fits: ids may have dots. */
static bool find_step(const struct submission *sub, struct reference *r, const char *text,
                      size_t len)
{
	static const char member[] = ".result";
	size_t best = 0;

	for (unsigned i = 0; i < sub->n_branch; i++) {
		size_t n = strlen(sub->branch[i].id), all = n + sizeof member - 1;

		if (n < best || all > len || memcmp(text, sub->branch[i].id, n) != 0 ||
		    memcmp(text + n, member, sizeof member - 1) != 0 ||
		    (all < len && text[all] != '.'))
			continue;
		best = n;
		r->step = i;
		r->path = text + all + (all < len);
		r->path_len = len - all - (all < len);
	}
	return best > 0;
}

/* The next reference in the string that ends at `end`, from `at` on. 0 when there is none,
 * ERR_INVALID when it is none of ours. */
static int next_in_string(const struct submission *sub, const char *text, size_t end, size_t at,
                          struct reference *r)
{
	size_t n = sizeof OPENING - 1;

	for (; at + n <= end; at++) {
		const char *close;

		if (memcmp(text + at, OPENING, n) != 0)
			continue;
		close = memmem(text + at + n, end - at - n, CLOSING, 2);
		if (!close || memchr(text + at, '\\', (size_t)(close - text) - at) ||
		    !find_step(sub, r, text + at + n, (size_t)(close - text) - at - n))
			return ERR_INVALID;
		r->at = at;
		r->end = (size_t)(close - text) + 2;
		return 1;
	}
	return 0;
}

/* The next reference behind `at`, which is outside of a string or right behind a reference in the
 * string that ends at *string_end. */
static int next_reference(const struct submission *sub, const struct branch_spec *b, size_t at,
                          size_t *string_end, struct reference *r)
{
	const char *text = b->payload;
	size_t len = b->payload_len;

	while (at < len) {
		size_t begin = at;
		bool opened = false;
		int rc;

		if (at == 0 || *string_end < at) {
			if (text[at++] != '"')
				continue;
			begin = at;
			opened = true;
			*string_end = end_of_string(text, len, at);
		}
		rc = next_in_string(sub, text, *string_end, begin, r);
		if (rc < 0)
			return rc;
		if (rc > 0) {
			r->whole = opened && r->at == begin && r->end == *string_end &&
			           !is_name(text, len, *string_end + 1);
			return rc;
		}
		at = *string_end + 1;
	}
	return 0;
}

static enum problem check_branch(struct decoder *d, struct submission *sub, unsigned branch)
{
	struct branch_spec *b = &sub->branch[branch];
	size_t at = 0, string_end = 0;
	struct reference r;
	unsigned n = 0;
	int rc;

	while ((rc = next_reference(sub, b, at, &string_end, &r)) > 0) {
		/* Each may be searched for in a whole result, in every call. */
		if (d->registry && ++n > REFERENCE_MAX)
			return decoder_reject(d, PROBLEM_INVALID_ORDER, "payload",
			                      "it uses more than %u results", REFERENCE_MAX);
		if (!(b->after >> r.step & 1))
			return decoder_reject(d, PROBLEM_INVALID_ORDER, "payload",
			                      "it uses the result of %s, which does not run before",
			                      sub->branch[r.step].id);
		sub->branch[r.step].wanted = true;
		b->built = true;
		at = r.end;
	}
	if (rc < 0)
		return decoder_reject(d, PROBLEM_INVALID_ORDER, "payload",
		                      "what begins with " OPENING " is no reference to the result "
		                      "of a step of this saga: {{steps.ID.result.MEMBER}}");
	return PROBLEM_NONE;
}

enum problem template_check(struct decoder *d, struct submission *sub)
{
	enum problem p = PROBLEM_NONE;

	for (unsigned i = 0; i < sub->n_branch && p == PROBLEM_NONE; i++) {
		if (!sub->branch[i].payload)
			continue;
		(void)snprintf(d->path, sizeof d->path, "/branches/%u", i);
		p = check_branch(d, sub, i);
	}
	if (p == PROBLEM_NONE)
		d->path[0] = '\0';
	return p;
}

static int put_value(const struct reference *r, const struct step_result *result, struct buf *out)
{
	struct json_span v;
	const char *s;

	if (!result->text ||
	    json_path_find(result->text, result->len, r->path, r->path_len, &v) < 0)
		return ERR_RESULT;
	s = result->text + v.at;
	if (r->whole) {
		out->len--; /* the quote before it; the one behind it is left out, too */
		buf_append(out, s, v.len);
	} else if (*s == '"') {
		buf_append(out, s + 1, v.len - 2);
	} else if (*s == '{' || *s == '[' || *s == 'n') {
		return ERR_RESULT;
	} else {
		buf_append(out, s, v.len);
	}
	return 0;
}

int template_render(const struct submission *sub, unsigned branch, const struct step_result *result,
                    struct buf *out, char *why, size_t why_size)
{
	const struct branch_spec *b = &sub->branch[branch];
	size_t at = 0, string_end = 0;
	struct reference r;

	while (next_reference(sub, b, at, &string_end, &r) > 0) {
		buf_append(out, b->payload + at, r.at - at);
		if (out->failed)
			return ERR_NOMEM;
		if (put_value(&r, &result[r.step], out) < 0) {
			(void)snprintf(why, why_size, "step %s gave no %.*s",
			               sub->branch[r.step].id,
			               r.path_len > 80 ? 80 : (int)r.path_len, r.path);
			return ERR_RESULT;
		}
		at = r.end + r.whole;
		if (out->len > BUILT_MAX)
			break;
	}
	buf_append(out, b->payload + at, b->payload_len - at);
	if (out->failed)
		return ERR_NOMEM;
	if (out->len <= BUILT_MAX)
		return 0;
	(void)snprintf(why, why_size, "with the results its payload is longer than %zu bytes",
	               BUILT_MAX);
	return ERR_PAYLOAD;
}

bool template_failed(int err)
{
	return err == ERR_RESULT || err == ERR_PAYLOAD;
}
