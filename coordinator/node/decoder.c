#include "node/decoder.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/near.h"

/* RFC 6901: ~ and / in a name are written ~0 and ~1. A name that is too long is left out: the
 * pointer to its object is still true. */
void decoder_append_to_pointer(char *pointer, size_t size, const char *member)
{
	size_t end = strlen(pointer), n = end;

	if (n + 2 > size)
		return;
	pointer[n++] = '/';
	for (const char *c = member; *c; c++) {
		if (n + 3 > size) {
			n = end;
			break;
		}
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
	(void)snprintf(pointer, sizeof pointer, "%s", d->path);
	if (member)
		decoder_append_to_pointer(pointer, sizeof pointer, member);
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

enum problem decoder_read_option(struct decoder *d, const struct json_value *object,
                                 const char *member, const char *const value[2], bool *second)
{
	const struct json_value *v = json_member(object, member);
	enum problem p;
	const char *s;
	size_t len;

	if (!v)
		return PROBLEM_NONE;
	p = decoder_expect_type(d, v, JSON_T_STR, member);
	if (p)
		return p;
	s = json_str(v, &len);
	*second = strcmp(s, value[1]) == 0;
	if (!*second && strcmp(s, value[0]) != 0)
		return decoder_reject(d, PROBLEM_OUT_OF_RANGE, member, "it is \"%s\" or \"%s\"",
		                      value[0], value[1]);
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

static enum problem read_pair(struct decoder *d, const struct pair_rule *rule, const char *name,
                              const struct json_value *value, struct submission_pair *out)
{
	enum problem p = decoder_expect_type(d, value, JSON_T_STR, name);
	const char *fault, *s;
	size_t len;

	if (p)
		return p;
	s = json_str(value, &len);
	fault = rule->fault(name, s, len);
	if (fault)
		return decoder_reject(d, rule->problem, name, "\"%.64s\": %s", name, fault);
	p = decoder_copy_str(d, name, strlen(name), &out->name);
	return p ? p : decoder_copy_str(d, s, len, &out->value);
}

enum problem decoder_read_pairs(struct decoder *d, const struct json_value *parent,
                                const struct pair_rule *rule, struct submission_pair **out,
                                size_t *n)
{
	const struct json_value *object = json_member(parent, rule->member);
	size_t path_len = strlen(d->path);
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
	(void)snprintf(d->path + path_len, sizeof d->path - path_len, "/%s", rule->member);
	while (p == PROBLEM_NONE && json_next(object, &iter, &name, &value)) {
		p = read_pair(d, rule, name, value, &(*out)[*n]);
		*n += p == PROBLEM_NONE;
	}
	d->path[path_len] = '\0';
	return p;
}
