/*
 * test_sdk_client.c - what the client makes of a coordinator's answers, good and bad. The answers
 * are scripted; the real coordinator is asked in test/e2e.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "sdk_fixture.h"

static struct assent_server *server;
static struct assent_client *client;
static pthread_t runner;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* What is answered, the last one for ever; and what came, a letter each. */
struct script {
	struct {
		int status;
		const char *body;
	} put[4], get[4], post[4];
	int n_put, n_get, n_post;
	char asked[32];
	char body[512];
};
static struct script script;

#define STANDS(outcome) "{\"gid\":\"g\",\"state\":\"" outcome "\",\"outcome\":\"" outcome "\"}"
#define NOT_READY       "{\"code\":\"not_ready\"}"
#define OVERLOADED      "{\"code\":\"overloaded\"}"

/* A call that its caller has given up may come when the next script is on. */
static void play(struct script next)
{
	pthread_mutex_lock(&lock);
	script = next;
	pthread_mutex_unlock(&lock);
}

#define ANSWER(method, letter)                                                                   \
	static void answer_##method(const char *body, size_t len, PGconn *conn,                  \
	                            struct assent_reply *reply, void *ctx)                       \
	{                                                                                        \
		int i;                                                                           \
                                                                                                 \
		(void)conn;                                                                      \
		(void)ctx;                                                                       \
		pthread_mutex_lock(&lock);                                                       \
		i = script.n_##method;                                                           \
		if (i < 3 && script.method[i + 1].status)                                        \
			script.n_##method++;                                                     \
		if (strlen(script.asked) < sizeof(script.asked) - 1)                             \
			script.asked[strlen(script.asked)] = letter;                             \
		if (len && len < sizeof(script.body))                                            \
			memcpy(script.body, body, len + 1);                                      \
		assent_reply_set(reply, script.method[i].status ? script.method[i].status : 502, \
		                 script.method[i].body,                                          \
		                 script.method[i].body ? strlen(script.method[i].body) : 0);     \
		pthread_mutex_unlock(&lock);                                                     \
	}
ANSWER(put, 'P')
ANSWER(get, 'G')
ANSWER(post, 'O')

static struct assent_txn *two_branches(void)
{
	struct assent_txn *txn = assent_txn_new("g", "2pc", 5000, NULL);

	assert_non_null(txn);
	assert_int_equal(assent_txn_add_branch(txn, "a", "http://x/\"a\"", "{\"n\": 19.990}", NULL),
	                 0);
	assert_int_equal(assent_txn_add_branch(txn, "b", "http://y/b", NULL, NULL), 0);
	return txn;
}

static int submit(int wait_ms, struct assent_result *result, struct assent_error *err)
{
	struct assent_txn *txn = two_branches();
	int rc = assent_submit(client, txn, wait_ms, result, err);

	assent_txn_free(txn);
	return rc;
}

static void a_submission_is_repeated_until_taken(void **state)
{
	struct assent_result result;
	struct assent_error err;

	(void)state;
	play((struct script){.put = {{502, OVERLOADED}, {429, "{}"}, {200, STANDS("committed")}}});
	assert_int_equal(submit(1000, &result, &err), 0);
	assert_string_equal(script.asked, "PPP");
	assert_string_equal(result.gid, "g");
	assert_string_equal(result.state, "committed");
	assert_string_equal(result.outcome, "committed");
	assert_string_equal(script.body,
	                    "{\"gid\":\"g\",\"mode\":\"2pc\",\"timeout_ms\":5000,\"branches\":["
	                    "{\"id\":\"a\",\"participant\":\"http://x/\\\"a\\\"\","
	                    "\"payload\":{\"n\": 19.990}},"
	                    "{\"id\":\"b\",\"participant\":\"http://y/b\"}]}");
}

static void a_submission_in_doubt_is_looked_up(void **state)
{
	struct assent_result result;
	struct assent_error err;

	(void)state;
	play((struct script){.put = {{502, NOT_READY}, {200, STANDS("committed")}},
	                     .get = {{404, "{\"code\":\"unknown_transaction\"}"}}});
	assert_int_equal(submit(0, &result, &err), 0);
	assert_string_equal(script.asked, "PGP");
	/* Found, and not taken a second time: what was read counts. */
	play((struct script){.put = {{500, "{}"}, {502, OVERLOADED}},
	                     .get = {{200, STANDS("aborted")}}});
	assert_int_equal(submit(1000, &result, &err), 0);
	assert_string_equal(script.asked, "PGP");
	assert_string_equal(result.outcome, "aborted");
	/* Found, and somebody else's. */
	play((struct script){.put = {{502, "bad gateway"}, {422, "{\"code\":\"gid_conflict\"}"}},
	                     .get = {{200, STANDS("committed")}}});
	assert_int_equal(submit(0, &result, &err), ASSENT_E_CONFLICT);
	assert_string_equal(result.outcome, "");
	/* An answer about another transaction is none. */
	play((struct script){.put = {{502, NOT_READY}, {200, STANDS("committed")}},
	                     .get = {{200, "{\"gid\":\"h\",\"outcome\":\"aborted\"}"}}});
	assert_int_equal(submit(0, &result, &err), 0);
	assert_string_equal(result.outcome, "committed");
}

static void a_graph_and_options_are_written(void **state)
{
	struct assent_txn *txn = assent_txn_new("g", "saga", 0, NULL);
	struct assent_result result;

	(void)state;
	play((struct script){.put = {{200, STANDS("committed")}}});
	assert_int_equal(assent_txn_option(txn, "recovery", "forward", NULL), 0);
	assert_int_equal(assent_txn_option(txn, "timeout_ms", "070", NULL), ASSENT_E_INVALID);
	assert_int_equal(assent_txn_option(txn, "timeout_ms", "7 ", NULL), ASSENT_E_INVALID);
	assert_int_equal(assent_txn_option(txn, "timeout_ms", "70", NULL), 0);
	assert_int_equal(assent_txn_add_branch(txn, "a", "x", NULL, NULL), 0);
	assert_int_equal(assent_txn_branch_option(txn, "timeout_ms", "500", NULL), 0);
	assert_int_equal(assent_txn_branch_option(txn, "on_timeout", "wait", NULL), 0);
	assert_int_equal(assent_txn_add_branch(txn, "b", "y", "1", NULL), 0);
	assert_int_equal(assent_txn_after(txn, "a", NULL), 0);
	assert_int_equal(assent_txn_branch_option(txn, "x", "y", NULL), ASSENT_E_INVALID);
	assert_int_equal(assent_txn_add_branch(txn, "c", "z", NULL, NULL), 0);
	assert_int_equal(assent_txn_after(txn, "a", NULL), 0);
	assert_int_equal(assent_txn_after(txn, "b", NULL), 0);
	assert_int_equal(assent_submit(client, txn, 1000, &result, NULL), 0);
	assert_string_equal(script.body,
	                    "{\"gid\":\"g\",\"mode\":\"saga\",\"recovery\":\"forward\","
	                    "\"timeout_ms\":70,"
	                    "\"branches\":[{\"id\":\"a\",\"participant\":\"x\","
	                    "\"timeout_ms\":500,\"on_timeout\":\"wait\"},"
	                    "{\"id\":\"b\",\"participant\":\"y\",\"payload\":1,"
	                    "\"after\":[\"a\"]},"
	                    "{\"id\":\"c\",\"participant\":\"z\",\"after\":[\"a\",\"b\"]}]}");
	assent_txn_free(txn);
}

static void tries_are_bounded(void **state)
{
	struct assent_result result;
	struct assent_error err;

	(void)state;
	assert_int_equal(assent_client_set_patience(client, 600, &err), 0);
	play((struct script){.put = {{502, OVERLOADED}}});
	/* On a busy machine the last answer may come too late, and then it is in doubt. */
	for (int i = 0; i < 9 && submit(0, &result, &err) != ASSENT_E_REFUSED; i++)
		assert_int_equal(err.code, ASSENT_E_UNREACHABLE);
	assert_int_equal(err.code, ASSENT_E_REFUSED);
	assert_int_equal(err.http_status, 502);
	assert_true(strlen(script.asked) > 1);
	/* It may have been taken, and that is what is said. */
	play((struct script){.put = {{503, NOT_READY}, {503, OVERLOADED}},
	                     .get = {{503, NOT_READY}}});
	assert_int_equal(submit(0, &result, &err), ASSENT_E_UNREACHABLE);
	assert_non_null(strstr(err.text, "may or may not"));
	play((struct script){.get = {{503, NOT_READY}}});
	assert_int_equal(assent_get(client, "g", &result, &err), ASSENT_E_UNREACHABLE);
	assert_int_equal(assent_client_set_patience(client, 5000, &err), 0);
}

static void errors_are_told_apart(void **state)
{
	struct assent_result result;
	struct assent_error err;

	(void)state;
	play((struct script){.put = {{422, "{\"code\":\"gid_conflict\",\"detail\":\"taken\"}"}}});
	assert_int_equal(submit(1000, &result, &err), ASSENT_E_CONFLICT);
	assert_string_equal(script.asked, "P");
	assert_non_null(strstr(err.text, "taken"));
	play((struct script){.get = {{404, "{\"code\":\"unknown_transaction\"}"}}});
	assert_int_equal(assent_get(client, "g", &result, &err), ASSENT_E_REFUSED);
	assert_int_equal(err.http_status, 404);
	assert_string_equal(result.outcome, "");
	/* From something that is no coordinator: it knows nothing of the transaction. */
	assert_int_equal(assent_client_set_patience(client, 900, &err), 0);
	play((struct script){.get = {{200, "<html>hello</html>"}}});
	assert_int_equal(assent_get(client, "g", &result, &err), ASSENT_E_UNREACHABLE);
	assert_int_equal(err.http_status, 200);
	assert_int_equal(assent_client_set_patience(client, 100, &err), 0);
	play((struct script){.put = {{404, "{}"}}, .get = {{404, "{\"detail\":\"no route\"}"}}});
	assert_int_equal(assent_get(client, "g", &result, &err), ASSENT_E_UNREACHABLE);
	assert_int_equal(submit(0, &result, &err), ASSENT_E_UNREACHABLE);
	assert_non_null(strstr(err.text, "may or may not"));
	assert_int_equal(assent_client_set_patience(client, 5000, &err), 0);
	play((struct script){
	    .get = {{200, "{\"gid\":\"g\",\"state\":\"preparing\",\"outcome\":\"pending\"}"}}});
	assert_int_equal(assent_get(client, "g", &result, &err), 0);
	assert_string_equal(result.outcome, "pending");
}

static void the_end_is_waited_for(void **state)
{
	static const char deciding[] =
	    "{\"gid\":\"g\",\"state\":\"committing\",\"outcome\":\"committed\"}";
	struct assent_result result;

	(void)state;
	play((struct script){.get = {{200, deciding}, {200, deciding}, {200, STANDS("mixed")}}});
	assert_int_equal(assent_wait(client, "g", 60000, &result, NULL), 0);
	assert_string_equal(script.asked, "GGG");
	assert_string_equal(result.state, "mixed");
	play((struct script){.get = {{200, deciding}}});
	assert_int_equal(assent_wait(client, "g", 50, &result, NULL), 0);
	assert_string_equal(result.state, "committing");
}

static void a_dead_address_is_passed_over(void **state)
{
	char urls[256];
	struct assent_client *several;
	struct assent_result result;

	(void)state;
	snprintf(urls, sizeof(urls), " http://127.0.0.1:1, %s/ ,", assent_server_url(server));
	several = assent_client_new(urls, NULL);
	assert_non_null(several);
	play((struct script){.get = {{200, STANDS("committed")}}});
	assert_int_equal(assent_get(several, "g", &result, NULL), 0);
	assert_int_equal(assent_get(several, "g", &result, NULL), 0);
	assert_string_equal(script.asked, "GG");
	assent_client_free(several);
	assert_null(assent_client_new("http://a,b", NULL));
	assert_null(assent_client_new("", NULL));
	assert_null(assent_client_new("http://,", NULL));
}

/* ---- interactive ---- */

static void it_grows(void **state)
{
	struct assent_txn *txn = two_branches();
	struct assent_result result;

	(void)state;
	play((struct script){.put = {{202, "{\"gid\":\"g\",\"outcome\":\"pending\"}"}},
	                     .post = {{502, NOT_READY}, {200, STANDS("pending")}}});
	assert_int_equal(assent_begin(client, txn, &result, NULL), 0);
	assert_string_equal(script.body, "{\"gid\":\"g\",\"mode\":\"2pc\",\"timeout_ms\":5000,"
	                                 "\"interactive\":true}");
	assert_int_equal(assent_enlist(client, txn, NULL, NULL), 0);
	assert_string_equal(script.asked, "POO");
	assert_string_equal(script.body, "{\"id\":\"b\",\"participant\":\"http://y/b\"}");
	script.post[1].body = STANDS("committed");
	assert_int_equal(assent_request_commit(client, "g", 1000, &result, NULL), 0);
	assert_string_equal(result.outcome, "committed");
	assent_txn_free(txn);
}

static void a_word_that_came_too_late(void **state)
{
	struct assent_result result;
	struct assent_error err;

	(void)state;
	play((struct script){.post = {{409, "{\"code\":\"wrong_state\"}"}},
	                     .get = {{200, STANDS("aborted")}}});
	assert_int_equal(assent_request_commit(client, "g", 0, &result, &err), ASSENT_E_REFUSED);
	assert_int_equal(err.http_status, 409);
	assert_string_equal(result.outcome, "aborted");
	play((struct script){.post = {{404, "{\"code\":\"unknown_transaction\"}"}}});
	assert_int_equal(assent_request_rollback(client, "g", 0, &result, &err), ASSENT_E_REFUSED);
	assert_string_equal(result.outcome, "");
	assert_string_equal(script.asked, "O");
}

static void note_header(void *ctx, const char *name, const char *value)
{
	strncat(ctx, name, 40);
	strncat(ctx, "=", 2);
	strncat(ctx, value, 80);
	strncat(ctx, ";", 2);
}

static void headers_for_ones_own_client(void **state)
{
	struct assent_txn *txn = two_branches();
	struct assent_client *fresh = assent_client_new(assent_server_url(server), NULL);
	struct assent_attempt attempt = {.op = "cancel", .number = 1, .timeout_ms = 900};
	char headers[1024] = "";
	struct assent_error err;

	(void)state;
	assert_int_equal(assent_branch_headers(fresh, txn, &attempt, note_header, headers, &err),
	                 ASSENT_E_INVALID);
	attempt.op = "try";
	play((struct script){.get = {{200, "{\"gid\":\"g\",\"cluster\":\"c0ffee00\","
	                                   "\"decision\":\"pending\"}"}}});
	for (attempt.number = 1; attempt.number <= 2; attempt.number++) {
		*headers = '\0';
		assert_int_equal(
		    assent_branch_headers(fresh, txn, &attempt, note_header, headers, &err), 0);
	}
	assert_string_equal(headers, "Content-Type=application/json;Assent-Cluster=c0ffee00;"
	                             "Assent-Namespace=default;Assent-Gid=g;Assent-Branch=b;"
	                             "Assent-Op=try;Assent-Mode=2pc;Assent-Attempt=2;"
	                             "Assent-Timeout-Ms=900;"
	                             "Idempotency-Key=\"c0ffee00/g/b/try\";");
	assert_string_equal(script.asked, "G");
	assent_client_free(fresh);
	/* What is said about another transaction is no answer. */
	fresh = assent_client_new(assent_server_url(server), NULL);
	*headers = '\0';
	play((struct script){.get = {{200, "{\"gid\":\"h\",\"cluster\":\"c0ffee00\","
	                                   "\"decision\":\"pending\"}"}}});
	assert_int_equal(assent_client_set_patience(fresh, 50, &err), 0);
	assert_int_equal(assent_branch_headers(fresh, txn, &attempt, note_header, headers, &err),
	                 ASSENT_E_UNREACHABLE);
	assert_string_equal(headers, "");
	assent_client_free(fresh);
	assent_txn_free(txn);
}

static void a_try_is_judged(void **state)
{
	static const struct {
		int status;
		const char *body;
		int vote;
	} cases[] = {{200, "{}", ASSENT_YES},
	             {201, "", ASSENT_YES},
	             {200, "{\"vote\":\"read_only\"}", ASSENT_READ_ONLY},
	             {409, "{\"reason\":\"no tea\"}", ASSENT_REFUSED},
	             {400, "", ASSENT_REFUSED}};
	struct assent_txn *txn = assent_txn_new("g", "tcc", 0, NULL);
	struct assent_reply *reply = assent_reply_new();
	struct assent_error err;

	(void)state;
	assert_int_equal(assent_txn_add_branch(txn, "n", "stock", "1", NULL), 0);
	assert_int_equal(assent_try(client, txn, 5000, reply, &err), ASSENT_E_INVALID);
	assert_int_equal(
	    assent_txn_add_branch(txn, "a", assent_server_url(server), " [19.990]", NULL), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		play((struct script){
		    .get = {{200, "{\"gid\":\"g\",\"cluster\":\"c\",\"decision\":\"pending\"}"}},
		    .post = {{503, ""}, {cases[i].status, cases[i].body}}});
		assert_int_equal(assent_try(client, txn, 30000, reply, &err), cases[i].vote);
		assert_string_equal(script.body, " [19.990]");
		assert_int_equal(assent_reply_status(reply), cases[i].status);
		assert_string_equal(assent_reply_body(reply, NULL), cases[i].body);
	}
	script.n_post = 0;
	assert_int_equal(assent_try(client, txn, 40, reply, &err), ASSENT_E_UNREACHABLE);
	assent_reply_free(reply);
	assent_txn_free(txn);
}

static void *run(void *arg)
{
	assent_server_run(arg);
	return NULL;
}

static int setup(void **state)
{
	(void)state;
	return fixture_start() ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	fixture_stop();
	return 0;
}

/* For each test one of its own, which what is late for another does not reach. */
static int start(void **state)
{
	static const char path[] = "/v1/transactions/g";
	static const char *const posts[] = {"/v1/transactions/g/branches",
	                                    "/v1/transactions/g/commit",
	                                    "/v1/transactions/g/rollback", "/try"};
	struct assent_server_options options = {
	    .listen = "127.0.0.1:0", .n_first = 1, .n_second = 1, .n_route = 2};
	int rc;

	(void)state;
	options.database = fixture_conninfo();
	server = assent_server_new(&options, NULL);
	if (!server)
		return -1;
	rc = assent_server_route(server, "PUT", path, answer_put, NULL, NULL) ||
	     assent_server_route(server, "GET", path, answer_get, NULL, NULL) ||
	     assent_server_route(server, "GET", "/v1/transactions/g/decision", answer_get, NULL,
	                         NULL);
	for (size_t i = 0; i < sizeof(posts) / sizeof(posts[0]) && !rc; i++)
		rc = assent_server_route(server, "POST", posts[i], answer_post, NULL, NULL);
	if (rc || assent_server_start(server, NULL))
		return -1;
	client = assent_client_new(assent_server_url(server), NULL);
	return client ? pthread_create(&runner, NULL, run, server) : -1;
}

static int stop(void **state)
{
	(void)state;
	assent_client_free(client);
	assent_server_stop(server);
	pthread_join(runner, NULL);
	assent_server_free(server);
	return 0;
}

#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, start, stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    WITH_SERVER(a_submission_is_repeated_until_taken),
	    WITH_SERVER(a_submission_in_doubt_is_looked_up),
	    WITH_SERVER(a_graph_and_options_are_written),
	    WITH_SERVER(tries_are_bounded),
	    WITH_SERVER(errors_are_told_apart),
	    WITH_SERVER(the_end_is_waited_for),
	    WITH_SERVER(a_dead_address_is_passed_over),
	    WITH_SERVER(it_grows),
	    WITH_SERVER(a_word_that_came_too_late),
	    WITH_SERVER(headers_for_ones_own_client),
	    WITH_SERVER(a_try_is_judged),
	};

	return cmocka_run_group_tests_name("sdk_client", tests, setup, teardown);
}
