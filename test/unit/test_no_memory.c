/*
 * test_no_memory.c - the coordinator's operations without memory; the sweep is no_memory_sweep.h.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/cursor.h"
#include "api/idempotency.h"
#include "base/heap.h"
#include "base/log.h"
#include "io/digest.h"
#include "io/journal_rows.h"
#include "node/auth.h"
#include "node/config.h"
#include "node/node.h"
#include "node/participant.h"
#include "node/secret.h"

#include "no_memory_sweep.h"

#if CAN_SWEEP
/* The operation's end: false for success, true for "out of memory". */
static bool ended(int rc)
{
	if (rc != 0 && rc != ERR_NOMEM)
		fail_msg("said to be \"%s\"", err_str(rc));
	return rc == ERR_NOMEM;
}

/* The same for those who say it in words. */
static bool ended_with(int rc, const char *why)
{
	if (rc == ERR_INVALID && (strstr(why, "out of memory") || strstr(why, "allocate memory")))
		rc = ERR_NOMEM;
	if (rc != 0 && rc != ERR_NOMEM)
		fail_msg("said to be \"%s\": %s", err_str(rc), why);
	return rc != 0;
}

/* A file in memory that only we can read; its descriptor. */
static int note(const char *text, char path[48])
{
	int fd = memfd_create("note", MFD_CLOEXEC);

	assert_true(fd >= 0 && fchmod(fd, 0600) == 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	(void)snprintf(path, 48, "/proc/self/fd/%d", fd);
	return fd;
}

/* --- base --- */

static bool use_buf(void)
{
	struct buf b = BUF_INIT;
	char big[500];
	bool failed;

	memset(big, 'x', sizeof big);
	buf_puts(&b, "a");
	buf_append(&b, big, sizeof big);
	buf_printf(&b, "%.*s", (int)sizeof big, big);
	buf_put_json_strn(&b, big, sizeof big);
	buf_put_json_time(&b, 1);
	digest_put_base64(&b, big, sizeof big);
	failed = b.failed;
	if (!failed)
		assert_true(b.len > 2000);
	buf_release(&b);
	return failed;
}

static bool use_arena(void)
{
	struct arena a;
	void *last = NULL;

	arena_init(&a, 0);
	for (size_t n = 1; n < 10000; n *= 3) {
		last = arena_alloc(&a, n);
		if (!last)
			break;
		memset(last, 1, n);
	}
	arena_release(&a);
	return !last;
}

static bool use_map_and_heap(void)
{
	static struct map_node node[300];
	static char key[300][4];
	struct heap_node timer[40] = {{0}};
	struct heap heap;
	struct map map;
	int rc = map_init(&map, 4);

	if (rc)
		return ended(rc);
	for (int i = 0; i < 300; i++) {
		(void)snprintf(key[i], sizeof key[i], "%d", i);
		assert_int_equal(map_put(&map, &node[i], key[i], strlen(key[i])), 0);
	}
	for (int i = 0; i < 300; i++)
		assert_ptr_equal(map_get(&map, key[i], strlen(key[i])), &node[i]);
	map_release(&map);
	heap_init(&heap);
	for (size_t i = 0; i < 40 && rc == 0; i++) {
		rc = heap_reserve(&heap, i + 1);
		if (rc == 0)
			heap_set(&heap, &timer[i], 40 - (int64_t)i);
	}
	if (rc == 0)
		assert_ptr_equal(heap_peek(&heap), &timer[39]);
	heap_release(&heap);
	return ended(rc);
}

/* --- core, submissions, gtx, journal --- */

#define BODY                                                                             \
	"{\"mode\":\"2pc\",\"interactive\":true,\"gid\":\"g\",\"labels\":{\"a\":\"b\"}," \
	"\"branches\":[{\"id\":\"a\",\"participant\":\"stock\",\"payload\":{\"n\":1},"   \
	"\"headers\":{\"X-A\":\"b\"},\"ops\":{\"commit\":\"" COMMIT_URL "\"}},"          \
	"{\"id\":\"b\",\"participant\":\"http://shop/b\"}]}"
#define JOINED "{\"id\":\"c\",\"participant\":\"http://shop/c\",\"payload\":[1.50]}"

/* Longer than the first room that a decoder takes for a string. */
#define COMMIT_URL "http://shop/commit/and/so/on/and/so/on"

static struct registry *registry;
static struct node node;
static struct config config;

static void set_up_node(void)
{
	char why[256];

	assert_int_equal(registry_new(&registry), 0);
	assert_int_equal(registry_allow(registry, "http://shop", why, sizeof why), 0);
	assert_int_equal(
	    registry_add(registry, "stock", "http://127.0.0.1:9/stock", "here", why, sizeof why),
	    0);
	config.registry = registry;
	config.participant_concurrency = 4;
	config.participant_queue_max = 4;
	node.config = &config;
	list_init(&node.failed_calls);
	/* For good: it grows with the transactions admitted. */
	heap_init(&node.timers.heap);
	assert_int_equal(heap_reserve(&node.timers.heap, 1), 0);
}

static bool use_txn(void)
{
	static struct effects fx;
	struct txn_config options = {.mode = MODE_TWO_PHASE,
	                             .interactive = true,
	                             .vote_timeout_us = 5,
	                             .retry = {1, 1, 1, 1}};
	struct arena arena;
	struct txn t;
	int rc;

	arena_init(&arena, 0);
	rc = txn_init(&t, &arena, &options);
	if (rc == 0)
		assert_int_equal(txn_step(&t, &(struct event){.type = EV_BEGIN}, &fx), 0);
	for (unsigned i = 1; i <= TXN_BRANCH_MAX && rc == 0; i++) {
		rc = txn_reserve(&t, &arena, i);
		if (rc == 0)
			assert_int_equal(txn_step(&t, &(struct event){.type = EV_ENLIST}, &fx), 0);
		txn_check(&t);
	}
	arena_release(&arena);
	return ended(rc);
}

static bool complained(enum problem p, const struct complaint *c)
{
	if (p != PROBLEM_NONE && p != PROBLEM_OVERLOADED)
		fail_msg("said to be %s: %s", problem_info(p)->code, c->detail);
	return p != PROBLEM_NONE;
}

static bool use_submission(void)
{
	struct submission s;
	struct complaint c;
	struct arena arena;
	enum problem p;
	const char *joined;
	unsigned n;

	arena_init(&arena, 0);
	p = submission_decode(BODY, strlen(BODY), registry, &arena, &s, &c);
	if (p == PROBLEM_NONE) {
		assert_string_equal(s.branch[0].op_url[OP_COMMIT], COMMIT_URL);
		assert_string_equal(s.branch[1].participant, "http://shop/b");
	}
	for (int i = 0; i < 3 && p == PROBLEM_NONE; i++) {
		char text[] = JOINED;

		text[7] = (char)('c' + i);
		n = s.n_branch;
		joined = arena_strndup(&arena, text, sizeof text - 1);
		p = joined
		        ? submission_add_branch(joined, sizeof text - 1, registry, &arena, &s, &c)
		        : PROBLEM_OVERLOADED;
		assert_int_equal(s.n_branch, p ? n : n + 1);
	}
	arena_release(&arena);
	return complained(p, &c);
}

static bool write_rows(struct gtx *g)
{
	struct columns columns = {0};
	bool failed = false;

	columns_reset(&columns, COLUMNS_CREATE);
	g->entry.flying = g->entry.durable;
	columns_add_entry(&columns, &g->entry);
	for (size_t i = 0; i < COLUMNS_MAX; i++)
		failed |= columns.column[i].failed;
	columns_release(&columns);
	return failed;
}

static bool use_gtx(void)
{
	struct gtx *g = gtx_new(&node, BODY, strlen(BODY));
	struct complaint c;
	int rc = g ? 0 : ERR_NOMEM;

	if (rc == 0 &&
	    complained(submission_decode(g->body, g->body_len, registry, &g->arena, &g->spec, &c),
	               &c))
		rc = ERR_NOMEM;
	if (rc == 0) {
		(void)snprintf(g->gid, sizeof g->gid, "g");
		rc = gtx_prepare(g, 1);
	}
	for (unsigned i = 3; i < 40 && rc == 0; i++)
		rc = gtx_reserve(g, i);
	if (rc == 0 && write_rows(g))
		rc = ERR_NOMEM;
	gtx_free(g);
	return ended(rc);
}

/* --- what clients send --- */

static bool use_headers(void)
{
	static const char key[] = "\"a key that is longer than the first room that a buffer takes, "
	                          "so that it has to grow\"";
	struct cursor c = {.created_us = 7, .gid = "some-gid"}, back;
	struct buf text = BUF_INIT;
	char gid[GID_MAX + 1];
	struct complaint complaint;
	enum problem p = idempotency_gid(key, "shop", gid, &complaint);
	bool failed;

	cursor_put(&c, (const uint8_t *)"key", 3, &text);
	failed = text.failed;
	if (!failed) {
		assert_int_equal(cursor_parse(text.data, (const uint8_t *)"key", 3, &back), 0);
		assert_string_equal(back.gid, c.gid);
	}
	buf_release(&text);
	return complained(p, &complaint) || failed;
}

/* --- what the operator wrote --- */

#define HASH "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

static bool use_config(void)
{
	char file[48], tokens[48], secret[48], text[600], why[512] = "";
	char *argv[] = {(char[]){"assentd"}, (char[]){"--config"}, file, (char[]){"--node=n"},
	                NULL};
	int fd[3], rc;
	enum config_action action;
	struct config c;

	hold();
	fd[0] = note("shop submit " HASH "\n", tokens);
	fd[1] = note("whsec_c2l4dGVlbiBieXRlcyBvciBtb3Jl\nand-a-second-secret\n", secret);
	(void)snprintf(text, sizeof text,
	               "database = host=db dbname=x\ntoken_file = %s\nsigning_secret_file = %s\n"
	               "participant.stock = http://shop/stock queue=5 secret=%s\n"
	               "participant_allow = http://10.0.0.0/8\n",
	               tokens, secret, secret);
	fd[2] = note(text, file);
	hold();
	rc = config_read(&c, 4, argv, &action, why, sizeof why);
	if (rc == 0)
		rc = config_take_access(&c, why, sizeof why);
	config_release(&c);
	for (int i = 0; i < 3; i++)
		(void)close(fd[i]);
	return ended_with(rc, why);
}

static bool use_secrets(void)
{
	char path[48], why[256] = "";
	struct secret_keys *keys;
	struct buf signature = BUF_INIT;
	bool failed = true;
	int fd, rc;

	hold();
	fd = note("whsec_c2l4dGVlbiBieXRlcyBvciBtb3Jl\nand-a-second-secret\n", path);
	hold();
	rc = secret_keys_load("secret", path, &keys, why, sizeof why);
	if (rc == 0) {
		secret_sign(keys, "id", "1", "{}", 2, &signature);
		failed = signature.failed;
		assert_true(failed || signature.len == 2 * 47 + 1);
		buf_release(&signature);
		secret_keys_free(keys);
	}
	(void)close(fd);
	return ended_with(rc, why) || failed;
}

SWEEP(buf)
SWEEP(arena)
SWEEP(map_and_heap)
SWEEP(txn)
SWEEP(submission)
SWEEP(gtx)
SWEEP(headers)
SWEEP(config)
SWEEP(secrets)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(sweep_buf),          cmocka_unit_test(sweep_arena),
	    cmocka_unit_test(sweep_map_and_heap), cmocka_unit_test(sweep_txn),
	    cmocka_unit_test(sweep_submission),   cmocka_unit_test(sweep_gtx),
	    cmocka_unit_test(sweep_headers),      cmocka_unit_test(sweep_config),
	    cmocka_unit_test(sweep_secrets),
	};

	log_set_level(LOG_ERROR);
	set_up_node();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
#else
int main(void)
{
	return 0;
}
#endif
