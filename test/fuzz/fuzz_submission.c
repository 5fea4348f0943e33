/*
 * fuzz_submission.c - the body of a submission, and of an enlist request: the same bytes are tried
 * as both.
 *
 * What is accepted means the same when it is read again, as after a restart, and what jansson,
 * asked by itself, finds at the same places. What is refused is refused with a problem, words, and
 * a JSON pointer to something in the body.
 */
#include <arpa/inet.h>
#include <jansson.h>

#include "base/json_scan.h"
#include "fuzz.h"
#include "node/submission.h"

#define BODY_MAX ((size_t)100000)

static struct registry *registry(void)
{
	static struct registry *r;
	char why[256];

	if (r)
		return r;
	must(registry_new(&r) == 0);
	must(registry_allow(r, "http://shop:* https://10.0.0.0/8", why, sizeof why) == 0);
	must(registry_add(r, "stock", "http://127.0.0.1:7481/stock", "here", why, sizeof why) == 0);
	return r;
}

/* --- the pointer of a complaint --- */

static json_t *child(json_t *v, const char *name)
{
	char *end;
	unsigned long i;

	if (!json_is_array(v))
		return json_object_get(v, name);
	i = strtoul(name, &end, 10);
	return *name && !*end ? json_array_get(v, i) : NULL;
}

/* RFC 6901. A missing member is named where it should be. */
static bool points_to_something(json_t *v, const char *pointer, bool may_miss)
{
	while (*pointer == '/') {
		char name[sizeof((struct complaint *)0)->pointer];
		size_t n = 0;

		for (pointer++; *pointer && *pointer != '/'; pointer++) {
			char c = *pointer;

			if (c == '~') {
				c = *++pointer == '0' ? '~' : '/';
				must(*pointer == '0' || *pointer == '1');
			}
			name[n++] = c;
		}
		name[n] = '\0';
		if (!child(v, name))
			return may_miss && *pointer == '\0' && json_is_object(v);
		v = child(v, name);
	}
	return *pointer == '\0';
}

static void check_complaint(enum problem p, const struct complaint *c, const char *text, size_t len)
{
	json_t *root;

	must(c->problem == p && c->detail[0]);
	must(strlen(c->pointer) < sizeof c->pointer && strlen(c->detail) < sizeof c->detail);
	must(p != PROBLEM_OVERLOADED && problem_info(p)->status / 100 == 4);
	if (p == PROBLEM_MALFORMED_JSON) {
		must(c->pointer[0] == '\0');
		return;
	}
	root = json_loadb(text, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	/* Numbers that are too large for jansson stand in payloads, which are not decoded. */
	if (root)
		must(points_to_something(root, c->pointer, p == PROBLEM_MISSING_MEMBER));
	json_decref(root);
}

/* --- what was accepted --- */

static void same_pairs(const struct submission_pair *a, size_t n_a, const struct submission_pair *b,
                       size_t n_b)
{
	must(n_a == n_b);
	for (size_t i = 0; i < n_a; i++)
		must(!strcmp(a[i].name, b[i].name) && !strcmp(a[i].value, b[i].value));
}

static void same_branch(const struct branch_spec *a, const struct branch_spec *b)
{
	must(!strcmp(a->id, b->id) && !strcmp(a->participant, b->participant));
	must(a->timeout_us == b->timeout_us && a->payload_len == b->payload_len);
	must(!a->status_url == !b->status_url && a->waits == b->waits);
	must(!a->status_url || !strcmp(a->status_url, b->status_url));
	must(a->after == b->after && a->wanted == b->wanted && a->built == b->built);
	must(!a->payload == !b->payload);
	must(!a->payload || memcmp(a->payload, b->payload, a->payload_len) == 0);
	for (int op = 0; op < OP_MAX; op++) {
		must(!a->op_url[op] == !b->op_url[op]);
		must(!a->op_url[op] || !strcmp(a->op_url[op], b->op_url[op]));
	}
	same_pairs(a->header, a->n_header, b->header, b->n_header);
}

static void same(const struct submission *a, const struct submission *b)
{
	must(!a->gid == !b->gid && (!a->gid || !strcmp(a->gid, b->gid)));
	must(a->mode == b->mode && a->interactive == b->interactive);
	must(a->undo_confirms == b->undo_confirms);
	must(a->phase_timeout_us == b->phase_timeout_us && a->hold_us == b->hold_us);
	must(a->timeout_us == b->timeout_us && a->vote_timeout_us == b->vote_timeout_us);
	must(a->retry.initial_us == b->retry.initial_us && a->retry.factor == b->retry.factor);
	must(a->retry.cap_us == b->retry.cap_us && a->retry.alert_after == b->retry.alert_after);
	same_pairs(a->label, a->n_label, b->label, b->n_label);
	must(a->n_branch == b->n_branch);
	for (unsigned i = 0; i < a->n_branch; i++)
		same_branch(&a->branch[i], &b->branch[i]);
}

static void check_branch(const struct branch_spec *b, json_t *v, const char *text, size_t len)
{
	char why[256];

	must(strlen(b->id) >= 1 && strlen(b->id) <= BRANCH_ID_MAX);
	must(json_is_string(json_object_get(v, "id")));
	must(!strcmp(b->id, json_string_value(json_object_get(v, "id"))));
	must(!strcmp(b->participant, json_string_value(json_object_get(v, "participant"))));
	must(registry_check(registry(), b->participant, strlen(b->participant), why, sizeof why) ==
	     0);
	must(b->timeout_us >= 1000 && b->timeout_us <= 60000 * 1000);
	must(b->n_header <= BRANCH_HEADER_MAX);
	must(!b->payload == !json_object_get(v, "payload"));
	if (!b->payload)
		return;
	must(b->payload >= text && b->payload + b->payload_len <= text + len);
	must(b->payload_len > 0 && json_scan_check(b->payload, b->payload_len, NULL) == 0);
}

static void check_submission(const struct submission *s, const char *text, size_t len)
{
	json_t *root = json_loadb(text, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);

	must(s->mode > 0 && s->mode < MODE_MAX);
	must(!s->undo_confirms || s->mode == MODE_TCC);
	must(s->mode != MODE_THREE_PHASE || s->hold_us >= 2 * s->phase_timeout_us);
	must(!s->forward || (s->mode == MODE_SAGA && !s->interactive));
	must(s->n_branch <= TXN_BRANCH_MAX && (s->n_branch > 0 || s->interactive));
	must(s->timeout_us >= 1000 && s->timeout_us <= INT64_C(3600000) * 1000);
	must(s->n_label <= LABEL_MAX && (!s->gid || gid_valid(s->gid, strlen(s->gid))));
	for (unsigned i = 0; i < s->n_branch; i++) {
		must(submission_find(s, s->branch[i].id) == &s->branch[i]);
		if (root)
			check_branch(&s->branch[i],
			             json_array_get(json_object_get(root, "branches"), i), text,
			             len);
	}
	json_decref(root);
}

static void try_submission(const char *text, size_t len)
{
	struct submission s[3];
	struct arena arena[3];
	struct complaint c;
	enum problem p;

	for (int i = 0; i < 3; i++)
		arena_init(&arena[i], 0);
	p = submission_decode(text, len, registry(), &arena[0], &s[0], &c);
	if (p) {
		check_complaint(p, &c, text, len);
		must(submission_decode(text, len, registry(), &arena[1], &s[1], &c) == p);
	} else {
		must(!submission_decode(text, len, registry(), &arena[1], &s[1], &c));
		/* As recovery does. */
		must(!submission_decode(text, len, NULL, &arena[2], &s[2], &c));
		check_submission(&s[0], text, len);
		same(&s[0], &s[1]);
		same(&s[0], &s[2]);
	}
	for (int i = 0; i < 3; i++)
		arena_release(&arena[i]);
}

/* --- enlist --- */

#define BEGUN                                                                                 \
	"{\"mode\":\"2pc\",\"interactive\":true,\"branches\":[{\"id\":\"a\",\"participant\":" \
	"\"stock\"}]}"

static void begun(struct arena *arena, struct submission *s)
{
	struct complaint c;

	arena_init(arena, 0);
	must(!submission_decode(BEGUN, strlen(BEGUN), registry(), arena, s, &c));
}

/* What the database gives back: the length before each. */
static void try_stored(const char *text, size_t len, const struct submission *enlisted)
{
	char *blob = malloc(sizeof(uint32_t) + len);
	uint32_t n = htonl((uint32_t)len);
	struct submission s;
	struct complaint c;
	struct arena arena;

	must(blob);
	memcpy(blob, &n, sizeof n);
	memcpy(blob + sizeof n, text, len);
	begun(&arena, &s);
	must(!submission_add_stored(blob, sizeof n + len, &arena, &s, &c));
	same(enlisted, &s);
	must(s.branch[1].enlisted_len == len && memcmp(s.branch[1].enlisted, text, len) == 0);
	/* Twice is once too often, and cut off is nothing. */
	must(submission_add_stored(blob, sizeof n + len, &arena, &s, &c) ==
	     PROBLEM_DUPLICATE_BRANCH);
	must(submission_add_stored(blob, sizeof n + len - 1, &arena, &s, &c) != PROBLEM_NONE);
	must(s.n_branch == 2);
	arena_release(&arena);
	free(blob);
}

static void try_enlist(const char *text, size_t len)
{
	struct submission s;
	struct complaint c;
	struct arena arena;
	enum problem p;
	char *copy;

	begun(&arena, &s);
	copy = arena_strndup(&arena, text, len);
	must(copy);
	p = submission_add_branch(copy, len, registry(), &arena, &s, &c);
	must(s.n_branch == (p ? 1 : 2));
	if (p) {
		check_complaint(p, &c, text, len);
	} else {
		json_t *root = json_loadb(text, len, JSON_ALLOW_NUL, NULL);

		if (root)
			check_branch(&s.branch[1], root, s.branch[1].payload,
			             s.branch[1].payload_len);
		json_decref(root);
		try_stored(text, len, &s);
	}
	arena_release(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text;

	if (size > BODY_MAX)
		return 0;
	text = fuzz_copy(data, size);
	try_submission(text, size);
	try_enlist(text, size);
	free(text);
	return 0;
}
