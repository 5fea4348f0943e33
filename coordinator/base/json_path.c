#include "base/json_path.h"

#include <stdbool.h>
#include <string.h>

/* The text is known to be JSON, which bounds every loop here. */
struct walk {
	const char *text;
	size_t len, pos;
};

static char peek(const struct walk *w)
{
	if (w->pos >= w->len)
		return '\0';
	return w->text[w->pos];
}

static void skip(struct walk *w, const char *set)
{
	while (w->pos < w->len && strchr(set, w->text[w->pos]) && w->text[w->pos])
		w->pos++;
}

#define SPACE "\t\n\r "

static void skip_string(struct walk *w)
{
	w->pos++;
	while (w->pos < w->len && w->text[w->pos] != '"')
		w->pos += w->text[w->pos] == '\\' ? 2 : 1;
	w->pos++;
}

static void skip_value(struct walk *w)
{
	size_t depth = 0;

	do {
		char c = peek(w);

		if (c == '"') {
			skip_string(w);
			continue;
		}
		if (c == '{' || c == '[')
			depth++;
		else if (c == '}' || c == ']')
			depth--;
		w->pos++;
		if (depth == 0 && (c == '}' || c == ']'))
			return;
		/* A number or a word ends before what separates it. */
		if (depth == 0 && (w->pos >= w->len || strchr(",}] \t\n\r", w->text[w->pos])))
			return;
	} while (w->pos < w->len && (depth > 0 || !strchr(",}] \t\n\r", w->text[w->pos])));
}

/* To the value of the member; false when there is none. */
static bool enter_member(struct walk *w, const char *name, size_t len)
{
	w->pos++;
	for (skip(w, SPACE); peek(w) == '"'; skip(w, SPACE ",")) {
		size_t at = w->pos + 1;
		bool same;

		skip_string(w);
		same = w->pos - 1 - at == len && memcmp(w->text + at, name, len) == 0;
		skip(w, SPACE ":");
		if (same)
			return true;
		skip_value(w);
	}
	return false;
}

static bool enter_element(struct walk *w, const char *digits, size_t len)
{
	size_t index = 0;

	if (len == 0 || len > 6 || (len > 1 && digits[0] == '0'))
		return false;
	for (size_t i = 0; i < len; i++) {
		if (digits[i] < '0' || digits[i] > '9')
			return false;
		index = index * 10 + (size_t)(digits[i] - '0');
	}
	w->pos++;
	for (skip(w, SPACE); peek(w) != ']' && w->pos < w->len; skip(w, SPACE ",")) {
		if (index-- == 0)
			return true;
		skip_value(w);
	}
	return false;
}

int json_path_find(const char *text, size_t len, const char *path, size_t path_len,
                   struct json_span *out)
{
	struct walk w = {.text = text, .len = len};

	skip(&w, SPACE);
	while (path_len) {
		const char *dot = memchr(path, '.', path_len);
		size_t n = dot ? (size_t)(dot - path) : path_len;
		bool found = peek(&w) == '{'   ? enter_member(&w, path, n)
		             : peek(&w) == '[' ? enter_element(&w, path, n)
		                               : false;

		if (!found)
			return ERR_NOTFOUND;
		path_len -= dot ? n + 1 : n;
		path += dot ? n + 1 : n;
	}
	out->at = w.pos;
	skip_value(&w);
	out->len = w.pos - out->at;
	return 0;
}
