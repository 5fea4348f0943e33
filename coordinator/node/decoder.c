#include "node/decoder.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/near.h"

/* RFC 6901: ~ and / in a name are written ~0 and ~1. A long name is cut. */
static void append_to_pointer(char *pointer, size_t size, const char *member)
{
	size_t n = strlen(pointer);

	for (const char *c = member; *c && c < member + 24 && n + 3 < size; c++) {
		if (*c == '~' || *c == '/')
			pointer[n++] = '~';
		pointer[n++] = (char)(*c == '~' ? '0' : *c == '/' ? '1' : *c);
	}
	pointer[n] = '\0';
}

enum problem decoder_reject(struct decoder *d, enum problem p, const char *member, const char *fmt,
                            ...)
{
	char pointer[sizeof d->complaint->pointer];
	char detail[sizeof d->complaint->detail];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(detail, sizeof detail, fmt, ap);
	va_end(ap);
	(void)snprintf(pointer, sizeof pointer, "%s%s", d->path, member ? "/" : "");
	if (member)
		append_to_pointer(pointer, sizeof pointer, member);
	return complain(d->complaint, p, pointer, "%s", detail);
}

enum problem decoder_out_of_memory(struct decoder *d)
{
	return decoder_reject(d, PROBLEM_OVERLOADED, NULL, "out of memory; try again later");
}

enum problem decoder_expect_type(struct decoder *d, const struct json_value *v, enum json_type want,
                                 const char *member)
{
	if (json_type(v) == want)
		return PROBLEM_NONE;
	return decoder_reject(d, PROBLEM_WRONG_TYPE, member, "this must be %s, not %s",
	                      json_type_str(want), json_type_str(json_type(v)));
}

enum problem decoder_check_members(struct decoder *d, const struct json_value *object,
                                   const char *const *known)
{
	const struct json_value *value;
	const char *name;
	void *iter = NULL;

	while (json_next(object, &iter, &name, &value)) {
		const char *near;
		size_t i = 0;

		while (known[i] && strcmp(known[i], name) != 0)
			i++;
		if (known[i])
			continue;
		near = near_match(name, known);
		if (near)
			return decoder_reject(
			    d, PROBLEM_UNKNOWN_MEMBER, name,
			    "there is no member \"%.64s\" here; did you mean \"%s\"?", name, near);
		return decoder_reject(d, PROBLEM_UNKNOWN_MEMBER, name,
		                      "there is no member \"%.64s\" here", name);
	}
	return PROBLEM_NONE;
}

enum problem decoder_read_int(struct decoder *d, const struct json_value *object,
                              const char *member, const int64_t range[2], int64_t *out)
{
	const struct json_value *v = json_member(object, member);
	enum problem p;

	if (!v)
		return PROBLEM_NONE;
	p = decoder_expect_type(d, v, JSON_T_INT, member);
	if (p)
		return p;
	if (json_int(v) < range[0] || json_int(v) > range[1])
		return decoder_reject(d, PROBLEM_OUT_OF_RANGE, member,
		                      "%lld is not between %lld and %lld", (long long)json_int(v),
		                      (long long)range[0], (long long)range[1]);
	*out = json_int(v);
	return PROBLEM_NONE;
}

bool decoder_identifier_valid(const char *s, size_t len, size_t max, const char *extra)
{
	if (len == 0 || len > max)
		return false;
	for (size_t i = 0; i < len; i++) {
		char c = s[i];
		bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		             (c >= '0' && c <= '9');

		if (!alnum && (c == '\0' || !strchr(extra, c)))
			return false;
	}
	return true;
}

enum problem decoder_copy_str(struct decoder *d, const char *s, size_t len, const char **out)
{
	*out = arena_strndup(d->arena, s, len);
	return *out ? PROBLEM_NONE : decoder_out_of_memory(d);
}

enum problem decoder_read_pairs(struct decoder *d, const struct json_value *parent,
                                const struct pair_rule *rule, struct submission_pair **out,
                                size_t *n)
{
	const struct json_value *object = json_member(parent, rule->member);
	const struct json_value *value;
	const char *name;
	void *iter = NULL;
	enum problem p;

	if (!object)
		return PROBLEM_NONE;
	p = decoder_expect_type(d, object, JSON_T_OBJECT, rule->member);
	if (p)
		return p;
	if (json_size(object) > rule->max)
		return decoder_reject(d, PROBLEM_OUT_OF_RANGE, rule->member, "at most %zu members",
		                      rule->max);
	*out = arena_alloc(d->arena, (json_size(object) + 1) * sizeof **out);
	if (!*out)
		return decoder_out_of_memory(d);
	while (json_next(object, &iter, &name, &value)) {
		struct submission_pair *pair = &(*out)[*n];
		const char *fault, *s;
		size_t len;

		p = decoder_expect_type(d, value, JSON_T_STR, rule->member);
		if (p)
			return p;
		s = json_str(value, &len);
		fault = rule->fault(name, s, len);
		if (fault)
			return decoder_reject(d, rule->problem, rule->member, "\"%.64s\": %s", name,
			                      fault);
		p = decoder_copy_str(d, name, strlen(name), &pair->name);
		if (p == PROBLEM_NONE)
			p = decoder_copy_str(d, s, len, &pair->value);
		if (p)
			return p;
		++*n;
	}
	return PROBLEM_NONE;
}
