/*
 * fuzz_template.c - what participants answer, put into what others are sent. The first line is the
 * payload of a saga's third step, the next two are what its steps "a" and "a.result" have answered.
 *
 * What is built is JSON, and, built again by jansson from decoded values, means the same.
 */
#include <jansson.h>
#include <stdbool.h>

#include "base/buf.h"
#include "base/json_scan.h"
#include "fuzz.h"
#include "node/template.h"

#define BUILT   2
#define OPENING "{{steps."

struct text {
	char *at; /* exactly as long as it is */
	size_t len;
	json_t *value; /* NULL: not for jansson */
};

static bool is_json(const struct text *t)
{
	return json_scan_check(t->at, t->len, NULL) == 0;
}

static json_t *load(const char *text, size_t len)
{
	return json_loadb(text, len, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES,
	                  NULL);
}

static unsigned depth_of(const char *text, size_t len)
{
	unsigned depth = 0, most = 0;
	bool in_string = false;

	for (size_t i = 0; i < len; i++) {
		if (in_string && text[i] == '\\')
			i++;
		else if (text[i] == '"')
			in_string = !in_string;
		else if (!in_string && (text[i] == '{' || text[i] == '['))
			most = ++depth > most ? depth : most;
		else if (!in_string && (text[i] == '}' || text[i] == ']'))
			depth--;
	}
	return most;
}

/* --- built again --- */

/* NULL: there is none, or it cannot be said here. The path ends before `end`. */
static json_t *look_up(const struct text *result, const char *path, const char *end)
{
	static const char longer[] = "a.result.result", shorter[] = "a.result";
	size_t len = (size_t)(end - path), skip = 0;
	json_t *v = result[0].value;

	if (len >= strlen(longer) && memcmp(path, longer, strlen(longer)) == 0 &&
	    (len == strlen(longer) || path[strlen(longer)] == '.')) {
		skip = strlen(longer);
		v = result[1].value;
	} else {
		must(len >= strlen(shorter) && memcmp(path, shorter, strlen(shorter)) == 0);
		skip = strlen(shorter);
	}
	for (path += skip; v && path < end;) {
		const char *name = ++path;

		if (name == end)
			break;
		while (path < end && *path != '.')
			path++;
		v = json_is_array(v) ? json_array_get(v, strtoul(name, NULL, 10))
		                     : json_object_getn(v, name, (size_t)(path - name));
	}
	return v;
}

/* False when jansson no longer knows how it was written. */
static bool insert(struct buf *out, const json_t *v)
{
	if (json_is_string(v))
		buf_append(out, json_string_value(v), json_string_length(v));
	else if (json_is_boolean(v))
		buf_puts(out, json_is_true(v) ? "true" : "false");
	return json_is_string(v) || json_is_boolean(v);
}

static json_t *string_again(const struct text *result, const json_t *v)
{
	const char *at = json_string_value(v), *end = at + json_string_length(v), *open;
	struct buf out = BUF_INIT;
	json_t *made = NULL;
	bool ok = true;

	while (ok && (open = memmem(at, (size_t)(end - at), OPENING, strlen(OPENING)))) {
		const char *path = open + strlen(OPENING);
		const char *close = memmem(path, (size_t)(end - path), "}}", 2);

		must(close);
		if (open == json_string_value(v) && close + 2 == end)
			return json_incref(look_up(result, path, close));
		buf_append(&out, at, (size_t)(open - at));
		ok = insert(&out, look_up(result, path, close));
		at = close + 2;
	}
	buf_append(&out, at, (size_t)(end - at));
	if (ok)
		made = json_stringn(out.data ? out.data : "", out.len);
	buf_release(&out);
	return made;
}

static json_t *again(const struct text *result, json_t *v)
{
	json_t *made, *part;
	const char *name;
	size_t i;

	if (json_is_string(v))
		return string_again(result, v);
	if (!json_is_array(v) && !json_is_object(v))
		return json_incref(v);
	made = json_is_array(v) ? json_array() : json_object();
	json_array_foreach(v, i, part)
	{
		if (json_array_append_new(made, again(result, part)) < 0)
			goto unknown;
	}
	json_object_foreach(v, name, part)
	{
		if (strstr(name, OPENING) || json_object_set_new(made, name, again(result, part)))
			goto unknown;
	}
	return made;
unknown:
	json_decref(made);
	return NULL;
}

static void check_meaning(const struct text *text, const struct buf *built)
{
	json_t *mine, *theirs;

	/* Behind an escape may stand what only looks like a reference when it is decoded. */
	if (!text[0].value || memchr(text[0].at, '\\', text[0].len))
		return;
	mine = again(text + 1, text[0].value);
	theirs = load(built->data, built->len);
	must(!mine || (theirs && json_equal(mine, theirs)));
	json_decref(mine);
	json_decref(theirs);
}

static void check_built(const struct text *text, const struct buf *built)
{
	must(built->len <= BUILT_MAX);
	if (json_scan_check(built->data, built->len, NULL) == 0)
		check_meaning(text, built);
	else
		must(depth_of(built->data, built->len) > JSON_DEPTH_MAX);
}

/* --- */

static void try(const struct submission *sub, const struct text *text)
{
	struct step_result result[BUILT + 1] = {{0}};
	struct buf built = BUF_INIT;
	char why[160] = "";
	int rc;

	for (int i = 0; i < BUILT; i++) {
		const struct text *t = &text[i + 1];

		if (t->len <= RESULT_MAX && is_json(t))
			result[i] = (struct step_result){t->at, t->len};
	}
	rc = template_render(sub, BUILT, result, &built, why, sizeof why);
	must(rc == 0 || rc == ERR_RESULT || rc == ERR_PAYLOAD);
	must(!rc == !*why && template_failed(rc) == (rc < 0));
	if (rc == 0)
		check_built(text, &built);
	buf_release(&built);
}

#define STEP(id) "{\"id\":\"" id "\",\"participant\":\"http://shop\""

static void submit(const struct text *text)
{
	static struct registry *r;
	struct buf body = BUF_INIT;
	struct submission sub;
	struct complaint c;
	struct arena arena;
	char why[160];
	enum problem p;

	if (!r) {
		must(registry_new(&r) == 0);
		must(registry_allow(r, "http://shop", why, sizeof why) == 0);
	}
	buf_puts(&body, "{\"mode\":\"saga\",\"branches\":[" STEP("a") "}," STEP(
	                    "a.result") "}," STEP("t") ",\"payload\":");
	buf_append(&body, text[0].at, text[0].len);
	buf_puts(&body, "}]}");
	arena_init(&arena, 0);
	p = submission_decode(body.data, body.len, r, &arena, &sub, &c);
	/* In a submission it is three deeper. */
	must(p == PROBLEM_NONE || p == PROBLEM_INVALID_ORDER ||
	     depth_of(text[0].at, text[0].len) + 3 > JSON_DEPTH_MAX);
	if (p == PROBLEM_NONE && sub.branch[BUILT].built)
		try(&sub, text);
	arena_release(&arena);
	buf_release(&body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct text text[BUILT + 1];
	const char *rest = (const char *)data;

	for (int i = 0; i <= BUILT; i++) {
		const char *end = size ? memchr(rest, '\n', size) : NULL;
		size_t len = end && i < BUILT ? (size_t)(end - rest) : size;

		text[i].at = fuzz_copy(rest, len);
		text[i].len = len;
		text[i].value = load(text[i].at, len);
		rest += len + (len < size);
		size -= len + (len < size);
	}
	if (is_json(&text[0]))
		submit(text);
	for (int i = 0; i <= BUILT; i++) {
		json_decref(text[i].value);
		free(text[i].at);
	}
	return 0;
}
