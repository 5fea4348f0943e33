/*
 * conflict.c - what differs between two submissions.
 *
 * Both are walked side by side, once, and only until a handful of places is found. Payloads are
 * compared byte for byte, as they are passed on.
 */
#include "api/conflict.h"

#include <stdio.h>
#include <string.h>

#include "node/decoder.h"

static const struct json_raw_rule payloads = {"branches", "payload"};

struct comparison {
	const struct json_doc *before, *now;
	char path[sizeof((struct complaint *)0)->pointer];
	struct place place[PLACE_MAX];
	size_t n_place;
};

static void compare(struct comparison *c, const struct json_value *before,
                    const struct json_value *now);

static bool full(const struct comparison *c)
{
	return c->n_place == PLACE_MAX;
}

static void note(struct comparison *c, const char *detail)
{
	struct place *p = &c->place[c->n_place];

	if (full(c))
		return;
	memcpy(p->pointer, c->path, sizeof p->pointer);
	p->detail = detail;
	c->n_place++;
}

/* Either may be NULL. */
static void compare_member(struct comparison *c, const char *name, const struct json_value *before,
                           const struct json_value *now)
{
	size_t len = strlen(c->path);

	decoder_append_to_pointer(c->path, sizeof c->path, name);
	if (!before)
		note(c, "this was not there before");
	else if (!now)
		note(c, "this was there before");
	else
		compare(c, before, now);
	c->path[len] = '\0';
}

static void compare_objects(struct comparison *c, const struct json_value *before,
                            const struct json_value *now)
{
	const struct json_value *value;
	const char *name;
	void *iter = NULL;

	while (!full(c) && json_next(before, &iter, &name, &value))
		compare_member(c, name, value, json_member(now, name));
	iter = NULL;
	while (!full(c) && json_next(now, &iter, &name, &value))
		if (!json_member(before, name))
			compare_member(c, name, NULL, value);
}

static void compare_arrays(struct comparison *c, const struct json_value *before,
                           const struct json_value *now)
{
	size_t n_before = json_size(before), n_now = json_size(now);

	for (size_t i = 0; !full(c) && (i < n_before || i < n_now); i++) {
		char index[24];

		(void)snprintf(index, sizeof index, "%zu", i);
		compare_member(c, index, i < n_before ? json_at(before, i) : NULL,
		               i < n_now ? json_at(now, i) : NULL);
	}
}

static bool same_scalar(const struct json_value *a, const struct json_value *b)
{
	const char *text_a, *text_b;
	size_t len_a, len_b;

	switch (json_type(a)) {
	case JSON_T_BOOL:
		return json_bool(a) == json_bool(b);
	case JSON_T_INT:
		return json_int(a) == json_int(b);
	case JSON_T_STR:
		text_a = json_str(a, &len_a);
		text_b = json_str(b, &len_b);
		return len_a == len_b && memcmp(text_a, text_b, len_a) == 0;
	case JSON_T_NULL:
	case JSON_T_REAL: /* no submission has one outside a payload */
	case JSON_T_ARRAY:
	case JSON_T_OBJECT:
		break;
	}
	return true;
}

static void compare(struct comparison *c, const struct json_value *before,
                    const struct json_value *now)
{
	if (json_type(before) != json_type(now))
		note(c, "this has another type than before");
	else if (json_type(now) == JSON_T_OBJECT)
		compare_objects(c, before, now);
	else if (json_type(now) == JSON_T_ARRAY)
		compare_arrays(c, before, now);
	else if (!same_scalar(before, now))
		note(c, "this was another value before");
}

/* They appear as null in the documents. One that was added or left out has been noted there. */
static void compare_payloads(struct comparison *c, const char *before, const char *now)
{
	const struct json_value *branches = json_member(json_root(c->now), payloads.array);

	for (size_t i = 0; branches && i < json_size(branches) && !full(c); i++) {
		struct json_span a = json_raw(c->before, i), b = json_raw(c->now, i);

		if (a.len == 0 || b.len == 0 ||
		    (a.len == b.len && memcmp(before + a.at, now + b.at, a.len) == 0))
			continue;
		(void)snprintf(c->path, sizeof c->path, "/%s/%zu/%s", payloads.array, i,
		               payloads.name);
		note(c, "this had other bytes before");
	}
}

static void refuse(struct exchange *x, const char *gid, const struct comparison *c)
{
	struct complaint complaint;

	if (!c)
		(void)complain(
		    &complaint, PROBLEM_GID_CONFLICT, "",
		    "%s was submitted before with another body; use a gid once, and repeat "
		    "a request byte for byte",
		    gid);
	else if (c->n_place == 0)
		(void)complain(&complaint, PROBLEM_GID_CONFLICT, "",
		               "%s was submitted before with the same values, written differently; "
		               "repeat a request byte for byte",
		               gid);
	else
		(void)complain(
		    &complaint, PROBLEM_GID_CONFLICT, "",
		    "%s was submitted before with another body: %.64s%s differs; use a gid once",
		    gid, c->place[0].pointer, c->n_place > 1 ? " and more" : "");
	exchange_problem_at(x, &complaint, c ? c->place : NULL, c ? c->n_place : 0);
}

void reply_conflict(struct exchange *x, const char *gid, const char *body, size_t len)
{
	struct comparison c = {.n_place = 0};
	struct json_doc *before = NULL, *now = NULL;
	bool known = false;
	const char *text;
	size_t text_len;
	char why[160];

	text = http_request_body(x->rq, &text_len);
	if (json_parse(body, len, &payloads, &before, why, sizeof why) == 0 &&
	    json_parse(text, text_len, &payloads, &now, why, sizeof why) == 0) {
		known = true;
		c.before = before;
		c.now = now;
		compare(&c, json_root(before), json_root(now));
		compare_payloads(&c, body, text);
	}
	refuse(x, gid, known ? &c : NULL);
	json_free(before);
	json_free(now);
}
