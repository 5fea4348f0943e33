/*
 * test_sdk_client.c - what the client makes of a coordinator's answers, good and bad. The answers
 * are scripted; the real coordinator is asked in test/e2e.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "sdk_fixture.h"

static struct assent_server *server;
static struct assent_client *client;
static pthread_t runner;

/* What is answered, the last one for ever; and what came. */
static struct script {
	int status[4];
	const char *answer;
	int n_asked;
	char body[512];
} script;

static void coordinate(const char *body, size_t len, PGconn *conn, struct assent_reply *reply,
                       void *ctx)
{
	int i = script.n_asked < 3 ? script.n_asked : 3;

	(void)conn;
	(void)ctx;
	script.n_asked++;
	memcpy(script.body, body, len < sizeof(script.body) ? len : sizeof(script.body) - 1);
	assent_reply_set(reply, script.status[i], script.answer, strlen(script.answer));
}

static int submit(struct assent_result *result, struct assent_error *err)
{
	struct assent_txn *txn = assent_txn_new("g", "2pc", 5000, err);
	int rc;

	assert_non_null(txn);
	assert_int_equal(assent_txn_add_branch(txn, "a", "http://x/\"a\"", "{\"n\": 19.990}", err),
	                 0);
	assert_int_equal(assent_txn_add_branch(txn, "b", "http://y/b", NULL, err), 0);
	rc = assent_submit(client, txn, 1000, result, err);
	assent_txn_free(txn);
	return rc;
}

static void a_submission_is_repeated_until_taken(void **state)
{
	struct assent_result result;
	struct assent_error err;

	(void)state;
	script = (struct script){.status = {503, 429, 200, 200},
	                         .answer = "{\"gid\":\"g\",\"state\":\"committed\","
	                                   "\"outcome\":\"committed\",\"branches\":[]}"};
	assert_int_equal(submit(&result, &err), 0);
	assert_int_equal(script.n_asked, 3);
	assert_string_equal(result.gid, "g");
	assert_string_equal(result.state, "committed");
	assert_string_equal(result.outcome, "committed");
	assert_string_equal(script.body,
	                    "{\"gid\":\"g\",\"mode\":\"2pc\",\"timeout_ms\":5000,\"branches\":["
	                    "{\"id\":\"a\",\"participant\":\"http://x/\\\"a\\\"\","
	                    "\"payload\":{\"n\": 19.990}},"
	                    "{\"id\":\"b\",\"participant\":\"http://y/b\"}]}");
}

static void a_graph_and_options_are_written(void **state)
{
	struct assent_txn *txn = assent_txn_new("g", "saga", 0, NULL);
	struct assent_result result;

	(void)state;
	script = (struct script){.status = {200}, .answer = "{\"outcome\":\"committed\"}"};
	assert_int_equal(assent_txn_option(txn, "recovery", "forward", NULL), 0);
	assert_int_equal(assent_txn_add_branch(txn, "a", "x", NULL, NULL), 0);
	assert_int_equal(assent_txn_add_branch(txn, "b", "y", "1", NULL), 0);
	assert_int_equal(assent_txn_after(txn, "a", NULL), 0);
	assert_int_equal(assent_txn_add_branch(txn, "c", "z", NULL, NULL), 0);
	assert_int_equal(assent_txn_after(txn, "a", NULL), 0);
	assert_int_equal(assent_txn_after(txn, "b", NULL), 0);
	assert_int_equal(assent_submit(client, txn, 1000, &result, NULL), 0);
	assert_string_equal(script.body,
	                    "{\"gid\":\"g\",\"mode\":\"saga\",\"recovery\":\"forward\","
	                    "\"branches\":[{\"id\":\"a\",\"participant\":\"x\"},"
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
	script = (struct script){.status = {503, 503, 503, 503}, .answer = "{}"};
	assert_int_equal(submit(&result, &err), ASSENT_E_REFUSED);
	assert_int_equal(err.http_status, 503);
	assert_int_equal(script.n_asked, 5);
}

static void errors_are_told_apart(void **state)
{
	struct assent_result result;
	struct assent_error err;

	(void)state;
	script = (struct script){.status = {422, 422, 422, 422},
	                         .answer = "{\"code\":\"gid_conflict\",\"detail\":\"taken\"}"};
	assert_int_equal(submit(&result, &err), ASSENT_E_CONFLICT);
	assert_int_equal(script.n_asked, 1);
	assert_non_null(strstr(err.text, "taken"));
	script = (struct script){.status = {404, 404, 404, 404},
	                         .answer = "{\"code\":\"unknown_transaction\"}"};
	assert_int_equal(assent_get(client, "g", &result, &err), ASSENT_E_REFUSED);
	assert_int_equal(err.http_status, 404);
	assert_string_equal(result.outcome, "");
	/* 200 from something that is no coordinator. */
	script = (struct script){.status = {200, 200, 200, 200}, .answer = "<html>hello</html>"};
	assert_int_equal(assent_get(client, "g", &result, &err), ASSENT_E_REFUSED);
	script = (struct script){.status = {202, 202, 202, 202},
	                         .answer = "{\"state\":\"preparing\",\"outcome\":\"pending\"}"};
	assert_int_equal(assent_get(client, "g", &result, &err), 0);
	assert_string_equal(result.outcome, "pending");
}

static void *run(void *arg)
{
	assent_server_run(arg);
	return NULL;
}

static int setup(void **state)
{
	static const char path[] = "/v1/transactions/g";
	struct assent_server_options options = {.listen = "127.0.0.1:0"};

	(void)state;
	if (!fixture_start())
		return -1;
	options.database = fixture_conninfo();
	server = assent_server_new(&options, NULL);
	if (!server || assent_server_route(server, "PUT", path, coordinate, NULL, NULL) ||
	    assent_server_route(server, "GET", path, coordinate, NULL, NULL) ||
	    assent_server_start(server, NULL))
		return -1;
	client = assent_client_new(assent_server_url(server), NULL);
	return client ? pthread_create(&runner, NULL, run, server) : -1;
}

static int teardown(void **state)
{
	(void)state;
	assent_client_free(client);
	assent_server_stop(server);
	pthread_join(runner, NULL);
	assent_server_free(server);
	fixture_stop();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_submission_is_repeated_until_taken),
	    cmocka_unit_test(a_graph_and_options_are_written),
	    cmocka_unit_test(tries_are_bounded),
	    cmocka_unit_test(errors_are_told_apart),
	};

	return cmocka_run_group_tests_name("sdk_client", tests, setup, teardown);
}
