#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define DEPTH_MAX 64

void sdk_text_release(struct sdk_text *t)
{
	free(t->data);
	*t = (struct sdk_text){0};
}

static bool grow(struct sdk_text *t, size_t n)
{
	size_t cap = t->cap ? t->cap : 128;
	char *data;

	if (t->failed)
		return false;
	while (cap - t->len <= n)
		cap *= 2;
	if (cap == t->cap)
		return true;
	data = realloc(t->data, cap);
	if (!data) {
		t->failed = true;
		return false;
	}
	t->data = data;
	t->cap = cap;
	return true;
}

void sdk_text_add(struct sdk_text *t, const void *data, size_t len)
{
	if (!grow(t, len))
		return;
	if (len)
		memcpy(t->data + t->len, data, len);
	t->len += len;
	t->data[t->len] = '\0';
}

void sdk_text_puts(struct sdk_text *t, const char *s)
{
	sdk_text_add(t, s, strlen(s));
}

void sdk_text_printf(struct sdk_text *t, const char *format, ...)
{
	va_list args;
	char *s;
	int n;

	va_start(args, format);
	n = vasprintf(&s, format, args);
	va_end(args);
	if (n < 0) {
		t->failed = true;
		return;
	}
	sdk_text_add(t, s, (size_t)n);
	free(s);
}

/* Bytes of the UTF-8 character at `s`, 0 when it is none. */
static size_t utf8_len(const char *str, size_t left)
{
	const unsigned char *s = (const unsigned char *)str;
	size_t n = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;

	if (n == 0 || s[0] > 0xf4 || n > left)
		return 0;
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	}
	/* Overlong forms, surrogates, and beyond U+10FFFF. */
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
	    (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

void sdk_text_json(struct sdk_text *t, const char *s)
{
	size_t left = strlen(s);

	sdk_text_puts(t, "\"");
	while (left) {
		size_t n = utf8_len(s, left);

		if (n == 0)
			sdk_text_puts(t, "\\ufffd");
		else if ((unsigned char)*s < 0x20)
			sdk_text_printf(t, "\\u%04x", (unsigned)*s);
		else if (*s == '"' || *s == '\\')
			sdk_text_printf(t, "\\%c", *s);
		else
			sdk_text_add(t, s, n);
		n = n ? n : 1;
		s += n;
		left -= n;
	}
	sdk_text_puts(t, "\"");
}

/* ---- reading: each function returns where its piece ends, or NULL ---- */

static const char *skip_space(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r'))
		p++;
	return p;
}

static const char *skip_escape(const char *p, const char *end)
{
	if (p < end && *p && strchr("\"\\/bfnrt", *p))
		return p + 1;
	if (end - p < 5 || *p != 'u')
		return NULL;
	for (int i = 1; i <= 4; i++) {
		if (!isxdigit((unsigned char)p[i]))
			return NULL;
	}
	return p + 5;
}

static const char *skip_string(const char *p, const char *end)
{
	if (p == end || *p++ != '"')
		return NULL;
	while (p && p < end && *p != '"') {
		size_t n = utf8_len(p, (size_t)(end - p));

		if ((unsigned char)*p < 0x20 || n == 0)
			return NULL;
		p = *p == '\\' ? skip_escape(p + 1, end) : p + n;
	}
	return p && p < end ? p + 1 : NULL;
}

static const char *skip_digits(const char *p, const char *end)
{
	const char *first = p;

	while (p < end && *p >= '0' && *p <= '9')
		p++;
	return p == first ? NULL : p;
}

static const char *skip_number(const char *p, const char *end)
{
	if (p < end && *p == '-')
		p++;
	p = p < end && *p == '0' ? p + 1 : skip_digits(p, end);
	if (p && p < end && *p == '.')
		p = skip_digits(p + 1, end);
	if (p && p < end && (*p == 'e' || *p == 'E')) {
		p++;
		if (p < end && (*p == '+' || *p == '-'))
			p++;
		p = skip_digits(p, end);
	}
	return p;
}

static const char *skip_word(const char *p, const char *end, const char *word)
{
	size_t n = strlen(word);

	return (size_t)(end - p) >= n && memcmp(p, word, n) == 0 ? p + n : NULL;
}

static const char *skip_value(const char *p, const char *end, int depth);

/* The members of an object or array, after its bracket. */
static const char *skip_members(const char *p, const char *end, char close, int depth)
{
	p = skip_space(p, end);
	if (p < end && *p == close)
		return p + 1;
	for (;;) {
		if (close == '}') {
			p = skip_string(skip_space(p, end), end);
			p = p ? skip_space(p, end) : NULL;
			if (!p || p == end || *p++ != ':')
				return NULL;
		}
		p = skip_value(skip_space(p, end), end, depth);
		p = p ? skip_space(p, end) : NULL;
		if (!p || p == end || (*p != ',' && *p != close))
			return NULL;
		if (*p++ == close)
			return p;
	}
}

static const char *skip_value(const char *p, const char *end, int depth)
{
	if (p == end || depth > DEPTH_MAX)
		return NULL;
	switch (*p) {
	case '{':
		return skip_members(p + 1, end, '}', depth + 1);
	case '[':
		return skip_members(p + 1, end, ']', depth + 1);
	case '"':
		return skip_string(p, end);
	case 't':
		return skip_word(p, end, "true");
	case 'f':
		return skip_word(p, end, "false");
	case 'n':
		return skip_word(p, end, "null");
	default:
		return skip_number(p, end);
	}
}

bool sdk_json_valid(const char *text, size_t len)
{
	const char *end = text + len;
	const char *p = skip_value(skip_space(text, end), end, 0);

	return p && skip_space(p, end) == end;
}

/* A valid JSON value, when it is a string that needs no decoding. */
static void copy_string(const char *value, size_t len, char *out, size_t size)
{
	if (*value != '"' || len - 2 >= size || memchr(value, '\\', len))
		return;
	memcpy(out, value + 1, len - 2);
	out[len - 2] = '\0';
}

/* The value of the top-level object's last member `name`; NULL when there is none. */
static const char *find_member(const char *text, size_t len, const char *name, size_t *value_len)
{
	const char *end = text + len, *found = NULL;
	const char *p = skip_space(text, end);
	size_t name_len = strlen(name);

	if (!sdk_json_valid(text, len) || *p != '{')
		return NULL;
	/* The text is valid from here on, so that the steps cannot fail. */
	while (*p != '}') {
		const char *key = skip_space(p + 1, end);
		const char *key_end = *key == '"' ? skip_string(key, end) : NULL;
		const char *value;

		if (!key_end)
			return found;
		value = skip_space(skip_space(key_end, end) + 1, end);
		p = skip_value(value, end, 1);
		if ((size_t)(key_end - key) == name_len + 2 && !memcmp(key + 1, name, name_len)) {
			found = value;
			*value_len = (size_t)(p - value);
		}
		p = skip_space(p, end);
	}
	return found;
}

void sdk_json_member(const char *text, size_t len, const char *name, char *out, size_t size)
{
	size_t value_len;
	const char *value = find_member(text, len, name, &value_len);

	*out = '\0';
	if (value)
		copy_string(value, value_len, out, size);
}

bool sdk_json_is_true(const char *text, size_t len, const char *name)
{
	size_t value_len;
	const char *value = find_member(text, len, name, &value_len);

	return value && value_len == 4 && memcmp(value, "true", 4) == 0;
}
