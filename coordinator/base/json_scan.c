/*
 * json_scan.c - RFC 8259's grammar, and the members that stay raw.
 *
 * Recursive, one level per container, and containers are at most JSON_DEPTH_MAX deep.
 */
#include "base/json_scan.h"

#include <stdint.h>
#include <string.h>

/* What is looked for at a place of the text. */
enum role {
	ROLE_PLAIN,
	ROLE_TOP,     /* the whole text */
	ROLE_ARRAY,   /* the top-level member `array` */
	ROLE_ELEMENT, /* an element of it */
};

struct scan {
	const char *text;
	size_t len;
	size_t pos;
	unsigned depth;
	const struct json_members *wanted; /* NULL: none */
	bool array_seen;
	const char *top_name; /* NULL: no top-level string is looked for */
	struct json_span top; /* its value */
	unsigned n_top;
};

static bool scan_value(struct scan *s, enum role role, size_t index);

static int peek(const struct scan *s)
{
	return s->pos < s->len ? (unsigned char)s->text[s->pos] : -1;
}

static bool take(struct scan *s, char c)
{
	if (peek(s) != c)
		return false;
	s->pos++;
	return true;
}

static void skip_space(struct scan *s)
{
	for (; s->pos < s->len; s->pos++) {
		char c = s->text[s->pos];

		if (c != ' ' && c != '\t' && c != '\n' && c != '\r')
			return;
	}
}

static bool is_digit(int c)
{
	return c >= '0' && c <= '9';
}

static int hex_value(int c)
{
	if (is_digit(c))
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* --- strings --- */

/* The bytes behind the first one; lowest and highest bound the second byte, which keeps out
 * overlong forms, surrogates and what lies beyond U+10FFFF. */
static bool scan_continuation(struct scan *s, unsigned n, int lowest, int highest)
{
	for (; n > 0; n--) {
		if (peek(s) < lowest || peek(s) > highest)
			return false;
		s->pos++;
		lowest = 0x80;
		highest = 0xbf;
	}
	return true;
}

static bool scan_utf8(struct scan *s)
{
	int c = peek(s);

	s->pos++;
	if (c < 0x80)
		return true;
	if (c >= 0xc2 && c <= 0xdf)
		return scan_continuation(s, 1, 0x80, 0xbf);
	if (c >= 0xe0 && c <= 0xef)
		return scan_continuation(s, 2, c == 0xe0 ? 0xa0 : 0x80, c == 0xed ? 0x9f : 0xbf);
	if (c >= 0xf0 && c <= 0xf4)
		return scan_continuation(s, 3, c == 0xf0 ? 0x90 : 0x80, c == 0xf4 ? 0x8f : 0xbf);
	s->pos--;
	return false;
}

static bool scan_escape(struct scan *s)
{
	int c = peek(s);

	if (c < 0 || strchr("\"\\/bfnrtu", c) == NULL || c == 0)
		return false;
	s->pos++;
	for (int i = 0; c == 'u' && i < 4; i++) {
		if (hex_value(peek(s)) < 0)
			return false;
		s->pos++;
	}
	return true;
}

/* Stands in a string for itself, and is all of a character. */
static bool is_plain(char c)
{
	return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

/* `span`, which may be NULL, is what stands between the quotes. */
static bool scan_string(struct scan *s, struct json_span *span)
{
	size_t at = s->pos + 1;

	if (!take(s, '"'))
		return false;
	for (;;) {
		while (s->pos < s->len && is_plain(s->text[s->pos]))
			s->pos++;
		if (peek(s) == '"')
			break;
		if (peek(s) < 0x20)
			return false;
		if (take(s, '\\') ? !scan_escape(s) : !scan_utf8(s))
			return false;
	}
	if (span != NULL)
		*span = (struct json_span){at, s->pos - at};
	s->pos++;
	return true;
}

/* One character of a checked string; -1 for everything beyond ASCII. */
static int string_next(const char *p, size_t *len)
{
	static const char from[] = "bfnrt";
	static const char to[] = "\b\f\n\r\t";
	const char *simple;
	int c = 0;

	*len = 1;
	if (*p != '\\')
		return (unsigned char)*p < 0x80 ? *p : -1;
	*len = 2;
	simple = strchr(from, p[1]);
	if (simple != NULL)
		return to[simple - from];
	if (p[1] != 'u')
		return p[1];
	*len = 6;
	for (int i = 2; i < 6; i++)
		c = c * 16 + hex_value(p[i]);
	return c < 0x80 ? c : -1;
}

/* Compares what the string means, or a name spelled with escapes would slip through. */
static bool string_is(const struct scan *s, struct json_span span, const char *name)
{
	const char *p = s->text + span.at;
	const char *end = p + span.len;

	/* Most differ in their first letter. */
	if (span.len > 0 && *p != *name && *p != '\\')
		return false;
	while (p < end && *name != '\0') {
		size_t len;

		if (string_next(p, &len) != *name)
			return false;
		p += len;
		name++;
	}
	return p == end && *name == '\0';
}

/* --- the other values --- */

static bool scan_digits(struct scan *s)
{
	if (!is_digit(peek(s)))
		return false;
	while (is_digit(peek(s)))
		s->pos++;
	return true;
}

static bool scan_number(struct scan *s)
{
	(void)take(s, '-');
	if (!take(s, '0') && !scan_digits(s))
		return false;
	if (take(s, '.') && !scan_digits(s))
		return false;
	if (take(s, 'e') || take(s, 'E')) {
		if (!take(s, '+'))
			(void)take(s, '-');
		return scan_digits(s);
	}
	return true;
}

static bool scan_literal(struct scan *s, const char *word)
{
	for (; *word != '\0'; word++)
		if (!take(s, *word))
			return false;
	return true;
}

static bool scan_array(struct scan *s, enum role role)
{
	size_t index = 0;

	s->pos++;
	skip_space(s);
	if (take(s, ']'))
		return true;
	do {
		skip_space(s);
		if (!scan_value(s, role == ROLE_ARRAY ? ROLE_ELEMENT : ROLE_PLAIN, index++))
			return false;
		skip_space(s);
	} while (take(s, ','));
	return take(s, ']');
}

static void top_note(struct scan *s, size_t at)
{
	s->n_top++;
	s->top = (struct json_span){at, s->pos - at};
}

static bool scan_member(struct scan *s, enum role role, size_t index, bool *raw_seen)
{
	size_t name_at = s->pos;
	struct json_span name;
	enum role inner = ROLE_PLAIN;
	bool raw;
	size_t at;

	if (!scan_string(s, &name))
		return false;
	skip_space(s);
	if (!take(s, ':'))
		return false;
	skip_space(s);
	raw = role == ROLE_ELEMENT && string_is(s, name, s->wanted->name);
	if (role == ROLE_TOP && s->wanted != NULL && string_is(s, name, s->wanted->array))
		inner = ROLE_ARRAY;
	/* A second one would be found in its turn, and elements are promised in order. */
	if ((raw && *raw_seen) || (inner == ROLE_ARRAY && s->array_seen)) {
		s->pos = name_at;
		return false;
	}
	*raw_seen = *raw_seen || raw;
	s->array_seen = s->array_seen || inner == ROLE_ARRAY;
	at = s->pos;
	if (!scan_value(s, inner, 0))
		return false;
	if (raw)
		s->wanted->found(s->wanted->ctx, index, (struct json_span){at, s->pos - at});
	if (role == ROLE_TOP && s->top_name != NULL && string_is(s, name, s->top_name))
		top_note(s, at);
	return true;
}

static bool scan_object(struct scan *s, enum role role, size_t index)
{
	bool raw_seen = false;

	s->pos++;
	skip_space(s);
	if (take(s, '}'))
		return true;
	do {
		skip_space(s);
		if (!scan_member(s, role, index, &raw_seen))
			return false;
		skip_space(s);
	} while (take(s, ','));
	return take(s, '}');
}

static bool scan_container(struct scan *s, enum role role, size_t index)
{
	bool ok;

	if (s->depth == JSON_DEPTH_MAX)
		return false;
	s->depth++;
	ok = peek(s) == '{' ? scan_object(s, role, index) : scan_array(s, role);
	s->depth--;
	return ok;
}

static bool scan_value(struct scan *s, enum role role, size_t index)
{
	switch (peek(s)) {
	case '{':
	case '[':
		return scan_container(s, role, index);
	case '"':
		return scan_string(s, NULL);
	case 't':
		return scan_literal(s, "true");
	case 'f':
		return scan_literal(s, "false");
	case 'n':
		return scan_literal(s, "null");
	default:
		return scan_number(s);
	}
}

static int scan_text(struct scan *s, size_t *at)
{
	bool ok;

	skip_space(s);
	ok = scan_value(s, ROLE_TOP, 0);
	if (ok)
		skip_space(s);
	if (ok && s->pos == s->len)
		return 0;
	if (at != NULL)
		*at = s->pos;
	return ERR_PARSE;
}

int json_scan_check(const char *text, size_t len, size_t *at)
{
	struct scan s = {.text = text, .len = len};

	return scan_text(&s, at);
}

int json_scan_members(const char *text, size_t len, const struct json_members *wanted, size_t *at)
{
	struct scan s = {.text = text, .len = len, .wanted = wanted};

	return scan_text(&s, at);
}

/* An object whose end is missing: nobody knows what was in it. */
static bool is_cut_off(const struct scan *s)
{
	struct scan begin = {.text = s->text, .len = s->len};

	skip_space(&begin);
	return peek(&begin) == '{' && s->pos == s->len;
}

int json_scan_top_str(const char *text, size_t len, const char *name, char *out, size_t size)
{
	struct scan s = {.text = text, .len = len, .top_name = name};
	const char *value;

	if (scan_text(&s, NULL) != 0)
		return is_cut_off(&s) ? ERR_INVALID : ERR_NOTFOUND;
	if (s.n_top == 0)
		return ERR_NOTFOUND;
	value = text + s.top.at;
	if (s.n_top == 1 && value[0] == 'n')
		return ERR_NOTFOUND;
	if (s.n_top > 1 || value[0] != '"' || s.top.len - 2 >= size ||
	    memchr(value, '\\', s.top.len) != NULL)
		return ERR_INVALID;
	memcpy(out, value + 1, s.top.len - 2);
	out[s.top.len - 2] = '\0';
	return 0;
}

bool json_scan_top_true(const char *text, size_t len, const char *name)
{
	struct scan s = {.text = text, .len = len, .top_name = name};

	return scan_text(&s, NULL) == 0 && s.n_top == 1 && text[s.top.at] == 't';
}
