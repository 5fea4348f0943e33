/*
 * json.c - decoding JSON requests, over jansson.
 *
 * The text is checked and its raw members are found by json_scan. jansson gets a copy in which
 * each of these is `null`; what it may still refuse is what the grammar allows but we do not:
 * duplicate members, \u0000, lone surrogates, and numbers that do not fit.
 */
#include "io/json.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* jansson's typedef has the name of our function. */
#define json_type jansson_type
#include <jansson.h>
#undef json_type

#include "base/arena.h"
#include "base/buf.h"
#include "base/unconst.h"

#define RAW_NULL "null"

struct json_doc {
	struct arena arena; /* of all that jansson made */
	json_t *root;
	struct json_span *raw; /* by element; len 0: absent */
	size_t n_raw;
	size_t cap;
	bool nomem;
};

static void raw_found(void *ctx, size_t index, struct json_span value)
{
	struct json_doc *d = ctx;

	if (d->nomem)
		return;
	if (index >= d->cap) {
		size_t cap = index + 1 > 2 * d->cap ? index + 1 : 2 * d->cap;
		struct json_span *more = realloc(d->raw, cap * sizeof(*more));

		if (more == NULL) {
			d->nomem = true;
			return;
		}
		memset(more + d->cap, 0, (cap - d->cap) * sizeof(*more));
		d->raw = more;
		d->cap = cap;
	}
	d->raw[index] = value;
	d->n_raw = index + 1;
}

/* Raw values become null, padded to their length; shorter ones shift what follows. */
static void blank_raw(const struct json_doc *d, const char *text, size_t len, struct buf *out)
{
	size_t done = 0;

	for (size_t i = 0; i < d->n_raw; i++) {
		struct json_span raw = d->raw[i];

		if (raw.len == 0)
			continue;
		buf_append(out, text + done, raw.at - done);
		buf_puts(out, RAW_NULL);
		for (size_t n = strlen(RAW_NULL); n < raw.len; n++)
			buf_putc(out, ' ');
		done = raw.at + raw.len;
	}
	buf_append(out, text + done, len - done);
}

/* Where a place in the blanked copy was in the text. */
static size_t offset_in_text(const struct json_doc *d, size_t at)
{
	size_t shift = 0;

	for (size_t i = 0; i < d->n_raw; i++) {
		struct json_span raw = d->raw[i];

		if (raw.len == 0 || raw.at + shift >= at)
			continue;
		if (raw.len < strlen(RAW_NULL))
			shift += strlen(RAW_NULL) - raw.len;
	}
	return at - shift;
}

/* jansson reports most failed allocations as faults of the text, in words that depend on the
 * place; and when the buffer of a string cannot grow it leaves out characters and goes on. So what
 * counts is that one failed. What it allocates belongs to the document, and goes with it at once.
 * One thread. */
static bool alloc_failed;
static struct arena *alloc_arena;

static void *alloc_noted(size_t n)
{
	void *p = arena_alloc(alloc_arena, n);

	alloc_failed = alloc_failed || p == NULL;
	return p;
}

static void free_nothing(void *p)
{
	(void)p;
}

static int decode(struct json_doc *d, const char *text, size_t len, char *why, size_t why_size)
{
	struct buf copy = BUF_INIT;
	json_error_t error;
	int err = 0;

	blank_raw(d, text, len, &copy);
	if (copy.failed || d->nomem) {
		err = ERR_NOMEM;
		goto out;
	}
	json_set_alloc_funcs(alloc_noted, free_nothing);
	alloc_failed = false;
	alloc_arena = &d->arena;
	d->root = json_loadb(copy.data, copy.len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
	json_set_alloc_funcs(malloc, free);
	if (alloc_failed) {
		err = ERR_NOMEM;
		goto out;
	}
	if (d->root != NULL)
		goto out;
	err = ERR_PARSE;
	/* It may quote the text, line breaks and all. */
	for (char *p = error.text; *p != '\0'; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = ' ';
	snprintf(why, why_size, "%s at offset %zu", error.text,
	         offset_in_text(d, (size_t)error.position));
out:
	buf_release(&copy);
	return err;
}

int json_parse(const char *text, size_t len, const struct json_raw_rule *raw, struct json_doc **out,
               char *why, size_t why_size)
{
	struct json_doc *d = calloc(1, sizeof(*d));
	size_t at = 0;
	int err;

	snprintf(why, why_size, "%s", "");
	if (d == NULL)
		return ERR_NOMEM;
	if (raw != NULL)
		err = json_scan_members(
		    text, len, &(struct json_members){raw->array, raw->name, raw_found, d}, &at);
	else
		err = json_scan_check(text, len, &at);
	if (err != 0)
		snprintf(why, why_size,
		         at < len ? "not valid JSON at offset %zu"
		                  : "JSON text ends too early at offset %zu",
		         at);
	else
		err = decode(d, text, len, why, why_size);
	if (err != 0) {
		json_free(d);
		return err;
	}
	*out = d;
	return 0;
}

void json_free(struct json_doc *d)
{
	if (d == NULL)
		return;
	arena_release(&d->arena);
	free(d->raw);
	free(d);
}

struct json_span json_raw(const struct json_doc *d, size_t index)
{
	return index < d->n_raw ? d->raw[index] : (struct json_span){0, 0};
}

/* --- values: jansson's, under our name --- */

static const struct json_value *value_of(const json_t *j)
{
	return (const struct json_value *)(const void *)j;
}

static const json_t *jansson_of(const struct json_value *v)
{
	return (const json_t *)(const void *)v;
}

const struct json_value *json_root(const struct json_doc *d)
{
	return value_of(d->root);
}

enum json_type json_type(const struct json_value *v)
{
	switch (json_typeof(jansson_of(v))) {
	case JSON_OBJECT:
		return JSON_T_OBJECT;
	case JSON_ARRAY:
		return JSON_T_ARRAY;
	case JSON_STRING:
		return JSON_T_STR;
	case JSON_INTEGER:
		return JSON_T_INT;
	case JSON_REAL:
		return JSON_T_REAL;
	case JSON_TRUE:
	case JSON_FALSE:
		return JSON_T_BOOL;
	case JSON_NULL:
		break;
	}
	return JSON_T_NULL;
}

const char *json_type_str(enum json_type t)
{
	static const char *const text[] = {
	    [JSON_T_NULL] = "null",        [JSON_T_BOOL] = "a boolean", [JSON_T_INT] = "an integer",
	    [JSON_T_REAL] = "a number",    [JSON_T_STR] = "a string",   [JSON_T_ARRAY] = "an array",
	    [JSON_T_OBJECT] = "an object",
	};

	return text[t];
}

bool json_bool(const struct json_value *v)
{
	return json_is_true(jansson_of(v));
}

int64_t json_int(const struct json_value *v)
{
	return json_integer_value(jansson_of(v));
}

const char *json_str(const struct json_value *v, size_t *len)
{
	if (len != NULL)
		*len = json_string_length(jansson_of(v));
	return json_string_value(jansson_of(v));
}

size_t json_size(const struct json_value *v)
{
	const json_t *j = jansson_of(v);

	return json_is_array(j) ? json_array_size(j) : json_object_size(j);
}

const struct json_value *json_at(const struct json_value *v, size_t index)
{
	return value_of(json_array_get(jansson_of(v), index));
}

const struct json_value *json_member(const struct json_value *v, const char *name)
{
	return value_of(json_object_get(jansson_of(v), name));
}

bool json_next(const struct json_value *object, void **iter, const char **name,
               const struct json_value **value)
{
	/* jansson's iterator could change the object; this one does not. */
	json_t *j = unconst(object);

	*iter = *iter == NULL ? json_object_iter(j) : json_object_iter_next(j, *iter);
	if (*iter == NULL)
		return false;
	*name = json_object_iter_key(*iter);
	*value = value_of(json_object_iter_value(*iter));
	return true;
}
