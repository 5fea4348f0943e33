#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "sweep_world.h"

#define N_SCRIPT   46
#define DEADLINE_S 30

PGconn *sweep_conn;
char sweep_body[256];
struct assent_participant *sweep_asker;
struct assent_tick_report sweep_report;
char sweep_peers[600];
struct assent_server *sweep_server, *sweep_locked;
char sweep_secret[] = "/tmp/assent-test-XXXXXX";

struct sweep_script sweep_decoy = {.words = {"silent"}};
struct sweep_script sweep_rivals[2] = {
    {.gid = "rival", .path = "/v1/transactions/rival/decision"},
    {.gid = "rival", .path = "/other/v1/transactions/rival/decision"},
};
/* Everybody is asked that first. */
static struct sweep_script hello = {.gid = "assent-hello", .words = {"abort"}};

static struct business yes;
static struct sweep_script scripts[N_SCRIPT];
static unsigned n_script;

enum assent_vote sweep_never(const struct assent_call *call, PGconn *c, struct assent_reply *reply,
                             void *ctx)
{
	(void)call, (void)c, (void)ctx;
	return assent_refuse(reply, "nobody calls here");
}

static void decide(const char *in, size_t len, PGconn *c, struct assent_reply *reply, void *ctx)
{
	struct sweep_script *s = ctx;
	const char *word = s->words[0];
	char json[256];

	(void)in, (void)len, (void)c;
	for (unsigned i = 1; i <= s->n_asked && i < 3 && s->words[i]; i++)
		word = s->words[i];
	s->n_asked++;
	if (!word || strcmp(word, "silent") == 0) {
		assent_reply_reason(reply, 503, "not now");
		return;
	}
	snprintf(json, sizeof(json),
	         "{\"gid\":\"%s\",\"cluster\":\"c0ffee00\",\"decision\":\"%s\",\"presumed\":false}",
	         s->gid, word);
	if (*word == '{')
		snprintf(json, sizeof(json), "%s", word);
	assent_reply_set(reply, 200, json, strlen(json));
}

/* A gid of its own for each case, because paths are given before the server starts. */
struct sweep_script *sweep_script(const char *first, const char *second)
{
	struct sweep_script *s = &scripts[n_script++];

	assert_true(n_script <= N_SCRIPT);
	s->words[0] = first;
	s->words[1] = second;
	return s;
}

struct assent_participant *sweep_participant(const char *coordinators, const char *secret)
{
	const struct assent_participant_options options = {
	    .coordinators = coordinators, .secret_file = secret, .ask_ms = 20000, .retry_ms = 1};
	struct assent_error err = {.text = "?"};
	struct assent_participant *p;

	if (assent_participant_new(&p, &options, &err))
		fprintf(stderr, "%s\n", err.text);
	assert_non_null(p);
	return p;
}

/* So that whatever is in doubt is due. */
void sweep_tick(void)
{
	struct assent_error err = {.text = "?"};

	fixture_exec(sweep_conn,
	             "UPDATE assent_participant.branch SET due_at = now() - interval '1 s'"
	             " WHERE mode = '2pc' OR due_at IS NOT NULL");
	if (assent_participant_tick(sweep_asker, sweep_conn, &sweep_report, &err))
		fprintf(stderr, "%s\n", err.text);
	if (sweep_report.n_failed)
		fprintf(stderr, "%s\n", sweep_report.failure);
	assert_int_equal(err.text[0], '?');
	assert_int_equal(sweep_report.n_failed, 0);
}

int sweep_do(const char *gid, const char *branch, const char *op)
{
	int status;

	fixture_branch(branch);
	status = fixture_do(sweep_conn, gid, op, &yes, sweep_body);
	fixture_branch("b");
	return status;
}

void sweep_assert_says(const char *text)
{
	if (!strstr(sweep_body, text))
		fprintf(stderr, "%s is not in %s\n", text, sweep_body);
	assert_non_null(strstr(sweep_body, text));
}

/* What has become of b, found without asking it. */
void sweep_assert_decision(const char *gid, const char *decision, bool heuristic)
{
	assert_int_equal(fixture_number(sweep_conn,
	                                "SELECT count(*) FROM assent_participant.branch"
	                                " WHERE gid = '%s' AND branch = 'b'"
	                                " AND decision IS NOT DISTINCT FROM nullif('%s', '')"
	                                " AND (heuristic IS NOT NULL) = %s",
	                                gid, decision, heuristic ? "true" : "false"),
	                 1);
	assert_int_equal(fixture_number(sweep_conn,
	                                "SELECT count(*) FROM pg_prepared_xacts"
	                                " WHERE gid = 'assent:c0ffee00:default:%s:b'",
	                                gid),
	                 *decision ? 0 : 1);
}

int sweep_n_vouched(const char *gid)
{
	return fixture_number(sweep_conn,
	                      "SELECT count(*) FROM assent_participant.branch"
	                      " WHERE gid = '%s' AND vouched_at IS NOT NULL",
	                      gid);
}

void sweep_end(const char *gid, const char *op)
{
	sweep_do(gid, "b", op);
	sweep_do(gid, "p", op);
	assert_int_equal(fixture_prepared(sweep_conn), 0);
}

/* Both are pre-committed; b is swept. */
struct sweep_script *sweep_pre_committed(const char *first, const char *second,
                                         const char *peer_list, const char *on_timeout)
{
	struct sweep_script *s = sweep_script(first, second);

	fixture_terms(3600000, peer_list, on_timeout);
	assert_int_equal(sweep_do(s->gid, "b", "pre_commit"), 200);
	fixture_terms(3600000, NULL, NULL);
	return s;
}

/* b only: p has nobody who ticks for it. */
void sweep_tick_b(void)
{
	fixture_exec(sweep_conn, "UPDATE assent_participant.branch SET due_at = NULL,"
	                         " vote_deadline_at = now() + interval '1 h' WHERE branch = 'p'");
	sweep_tick();
}

/* ---- set up ---- */

static atomic_uint n_ticked;

static void ticked(const struct assent_tick_report *report, const struct assent_error *err,
                   void *ctx)
{
	(void)report, (void)ctx;
	if (!err)
		atomic_fetch_add(&n_ticked, 1);
}

/* What a server ticks when it starts shall not meet the tests' branches. */
static bool wait_for_ticks(unsigned n)
{
	time_t until = time(NULL) + DEADLINE_S;

	while (atomic_load(&n_ticked) < n && time(NULL) < until)
		sched_yield();
	return atomic_load(&n_ticked) == n;
}

/* Answers for p. Its own sweep finds nothing due: it ticks once an hour. */
static struct assent_server *make_server(const char *secret)
{
	const struct assent_server_options options = {.listen = "127.0.0.1:0",
	                                              .database = fixture_conninfo(),
	                                              .secret_file = secret,
	                                              .coordinators = SWEEP_NOWHERE,
	                                              .tick_ms = 3600000,
	                                              .on_tick = ticked};
	struct assent_error err = {.text = "?"};
	struct assent_server *s = assent_server_new(&options, &err);

	if (!s || assent_server_on(s, "/p", "pre_commit", sweep_never, NULL, &err)) {
		fprintf(stderr, "%s\n", err.text);
		return NULL;
	}
	for (unsigned i = 0; i < N_SCRIPT && !secret; i++) {
		snprintf(scripts[i].gid, sizeof(scripts[i].gid), "g%u", i);
		snprintf(scripts[i].path, sizeof(scripts[i].path), "/v1/transactions/g%u/decision",
		         i);
		if (assent_server_route(s, "GET", scripts[i].path, decide, &scripts[i], &err))
			return NULL;
	}
	for (int i = 0; i < 2 && !secret; i++)
		assent_server_route(s, "GET", sweep_rivals[i].path, decide, &sweep_rivals[i], &err);
	if (!secret)
		assent_server_route(s, "GET", "/decoy/status", decide, &sweep_decoy, &err);
	if (!secret && assent_server_route(s, "GET", "/v1/transactions/assent-hello/decision",
	                                   decide, &hello, &err))
		return NULL;
	if (assent_server_start(s, &err)) {
		fprintf(stderr, "%s\n", err.text);
		return NULL;
	}
	return s;
}

int sweep_setup(void **state)
{
	static const char secret[] = "a-secret-that-sweep_peers-share\n";
	int fd = mkstemp(sweep_secret);

	(void)state;
	if (!fixture_start() || fd < 0 || write(fd, secret, strlen(secret)) < 0 || close(fd))
		return -1;
	sweep_conn = fixture_connect();
	sweep_server = make_server(NULL);
	sweep_locked = make_server(sweep_secret);
	if (!sweep_server || !sweep_locked || !wait_for_ticks(2))
		return -1;
	snprintf(sweep_peers, sizeof(sweep_peers), "p=%s/p/status",
	         assent_server_url(sweep_server));
	sweep_asker = sweep_participant(assent_server_url(sweep_server), NULL);
	return 0;
}

int sweep_teardown(void **state)
{
	(void)state;
	assent_participant_free(sweep_asker);
	assent_server_free(sweep_server);
	assent_server_free(sweep_locked);
	PQfinish(sweep_conn);
	fixture_stop();
	unlink(sweep_secret);
	return 0;
}
