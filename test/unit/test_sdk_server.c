/*
 * test_sdk_server.c - the server helper over HTTP: what it refuses, that second phases are never
 * kept out, how it stops, and a database that goes away.
 */
#include <arpa/inet.h>
#include <curl/curl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "sdk_fixture.h"

#define N_FIRST     2
#define DEADLINE_MS 30000

static PGconn *conn;
static struct assent_server *server;
static pthread_t runner;
static struct business business, decided;
static char body[512];

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void wait_for_waiting(int n)
{
	int64_t until = now_ms() + DEADLINE_MS;

	while (fixture_number(conn, "SELECT count(*) FROM pg_locks WHERE NOT granted") != n)
		assert_true(now_ms() < until);
}

/* ---- a client ---- */

struct request {
	const char *path;
	const char *gid; /* NULL: without Assent headers */
	const char *op;
	size_t size; /* of the body; 0 for a payload */
	int status;
	char answer[512];
};

static size_t on_data(char *data, size_t size, size_t n, void *ctx)
{
	struct request *r = ctx;

	strncat(r->answer, data,
	        size * n < sizeof(r->answer) - strlen(r->answer) - 1
	            ? size * n
	            : sizeof(r->answer) - strlen(r->answer) - 1);
	return size * n;
}

static struct curl_slist *make_headers(const struct request *r)
{
	struct curl_slist *list = curl_slist_append(NULL, "Expect:");
	bool tcc = strncmp(r->path, "/money", 6) == 0;
	char line[256];

	if (!r->gid)
		return list;
	list = curl_slist_append(list, "Assent-Cluster: c0ffee00");
	list = curl_slist_append(list, "Assent-Namespace: default");
	list = curl_slist_append(list, "Assent-Branch: b");
	list = curl_slist_append(list, tcc ? "Assent-Mode: tcc" : "Assent-Mode: 2pc");
	list = curl_slist_append(list, "Assent-Attempt: 1");
	list = curl_slist_append(list, "Assent-Timeout-Ms: 30000");
	snprintf(line, sizeof(line), "Assent-Gid: %s", r->gid);
	list = curl_slist_append(list, line);
	snprintf(line, sizeof(line), "Assent-Op: %s", r->op);
	return curl_slist_append(list, line);
}

/* A thread's function too. Status 0: no answer. */
static void *send_request(void *arg)
{
	struct request *r = arg;
	CURL *curl = curl_easy_init();
	struct curl_slist *headers = make_headers(r);
	char *data = r->size ? calloc(1, r->size) : strdup("{\"n\": 1}");
	char url[512];
	long status = 0;

	snprintf(url, sizeof(url), "%s%s", assent_server_url(server), r->path);
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, 60000L);
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, r);
	curl_easy_setopt(curl, CURLOPT_POSTFIELDS, data);
	curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)(r->size ? r->size : strlen(data)));
	curl_easy_perform(curl);
	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	r->status = (int)status;
	free(data);
	curl_slist_free_all(headers);
	curl_easy_cleanup(curl);
	return NULL;
}

static int post_to(const char *path, const char *gid, const char *op, size_t size)
{
	struct request r = {.path = path, .gid = gid, .op = op, .size = size};

	send_request(&r);
	snprintf(body, sizeof(body), "%s", r.answer);
	return r.status;
}

static int post(const char *gid, const char *op)
{
	char path[32];

	snprintf(path, sizeof(path), "/goods/%s", op);
	return post_to(path, gid, op, 0);
}

/* A client that sends all it has before it reads. Were the connection closed meanwhile, it would
 * never come to reading why. */
static void too_long_is_read_to_its_end(void **state)
{
	static const char head[] =
	    "POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n";
	static const char data[80000];
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	char reply[13] = "";

	(void)state;
	to.sin_port = htons(
	    (uint16_t)strtol(strrchr(assent_server_url(server), ':') + 1, NULL, 10));
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	assert_int_equal(send(fd, head, strlen(head), MSG_NOSIGNAL), strlen(head));
	for (int i = 0; i < 100; i++)
		assert_int_equal(send(fd, data, sizeof(data), MSG_NOSIGNAL), sizeof(data));
	assert_int_equal(recv(fd, reply, 12, MSG_WAITALL), 12);
	assert_string_equal(reply, "HTTP/1.1 413");
	close(fd);
}

/* ---- the service ---- */

static void slow_route(const char *text, size_t len, PGconn *own, struct assent_reply *reply,
                       void *ctx)
{
	(void)ctx;
	fixture_exec(own, "SELECT pg_advisory_lock(7); SELECT pg_advisory_unlock(7)");
	assent_reply_set(reply, 201, text, len);
}

static void quick_route(const char *text, size_t len, PGconn *own, struct assent_reply *reply,
                        void *ctx)
{
	(void)own;
	(void)ctx;
	assent_reply_set(reply, 200, text, len);
}

static void *run(void *arg)
{
	assent_server_run(arg);
	return NULL;
}

static int start(void **state)
{
	struct assent_server_options options = {
	    .listen = "127.0.0.1:0", .database = fixture_conninfo(), .n_first = N_FIRST};
	struct assent_error err;

	(void)state;
	business = (struct business){.sql = "UPDATE goods SET n = n - 1 WHERE id = 1"};
	server = assent_server_new(&options, &err);
	if (!server ||
	    assent_server_on(server, "/goods", "prepare", fixture_work, &business, &err) ||
	    assent_server_on(server, "/money", "try", fixture_work, &business, &err) ||
	    assent_server_on(server, "/money", "confirm", fixture_work, &decided, &err) ||
	    assent_server_on(server, "/money", "cancel", fixture_work, &decided, &err) ||
	    assent_server_route(server, "POST", "/slow", slow_route, NULL, &err) ||
	    assent_server_route(server, "POST", "/other", quick_route, NULL, &err) ||
	    assent_server_start(server, &err)) {
		print_error("%s\n", err.text);
		return -1;
	}
	return pthread_create(&runner, NULL, run, server);
}

static int stop(void **state)
{
	(void)state;
	assent_server_stop(server);
	pthread_join(runner, NULL);
	assent_server_free(server);
	return 0;
}

static void answers_and_refuses(void **state)
{
	(void)state;
	assert_int_equal(post("ar", "prepare"), 200);
	assert_int_equal(post("ar", "commit"), 200);
	assert_int_equal(post("ar", "rollback"), 409);
	assert_non_null(strstr(body, "\"outcome\":\"committed\""));
	assert_int_equal(post_to("/goods/prepare", NULL, NULL, 0), 400);
	assert_non_null(strstr(body, "Assent-Cluster"));
	assert_int_equal(post_to("/goods/commit", "x", "rollback", 0), 400);
	assert_int_equal(post_to("/goods/try", "x", "try", 0), 404);
	assert_int_equal(post_to("/goods", "x", "prepare", 0), 404);
	assert_int_equal(post_to("/slow", NULL, NULL, 1024 * 1024 + 1), 413);
	assert_int_equal(post_to("/slow", NULL, NULL, 1024 * 1024), 201);
	assert_int_equal(fixture_effects(conn, "ar"), 1);
}

/* Every first-phase worker waits for a lock; the decisions of others go on. */
static void confirm_and_cancel_are_not_kept_out(void **state)
{
	struct request r[N_FIRST] = {{.path = "/money/try", .gid = "k0", .op = "try"},
	                             {.path = "/money/try", .gid = "k1", .op = "try"}};
	pthread_t thread[N_FIRST];
	PGconn *holder = fixture_connect();

	(void)state;
	assert_int_equal(post_to("/money/try", "k2", "try", 0), 200);
	assert_int_equal(post_to("/money/try", "k3", "try", 0), 200);
	fixture_exec(holder, "BEGIN; UPDATE goods SET n = n");
	for (int i = 0; i < N_FIRST; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, send_request, &r[i]), 0);
	wait_for_waiting(N_FIRST);
	assert_int_equal(post_to("/money/confirm", "k2", "confirm", 0), 200);
	assert_int_equal(post_to("/money/cancel", "k3", "cancel", 0), 200);
	assert_int_equal(post_to("/money/confirm", "k3", "confirm", 0), 409);
	PQfinish(holder);
	for (int i = 0; i < N_FIRST; i++) {
		pthread_join(thread[i], NULL);
		assert_int_equal(r[i].status, 200);
	}
	assert_int_equal(fixture_effects_of(conn, "k2", "confirm"), 1);
	assert_int_equal(fixture_effects_of(conn, "k3", "cancel"), 1);
}

/* Every first-phase worker waits for the lock that only the commit releases. */
static void second_phases_are_not_kept_out(void **state)
{
	struct request r[N_FIRST] = {{.path = "/goods/prepare", .gid = "w0", .op = "prepare"},
	                             {.path = "/goods/prepare", .gid = "w1", .op = "prepare"}};
	struct request back[N_FIRST] = {{.path = "/goods/rollback", .gid = "w0", .op = "rollback"},
	                                {.path = "/goods/rollback", .gid = "w1", .op = "rollback"}};
	pthread_t thread[N_FIRST], undo[N_FIRST];
	int64_t begun;

	(void)state;
	assert_int_equal(post("held", "prepare"), 200);
	for (int i = 0; i < N_FIRST; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, send_request, &r[i]), 0);
	wait_for_waiting(N_FIRST);
	begun = now_ms();
	assert_int_equal(post("held", "commit"), 200);
	assert_in_range(now_ms() - begun, 0, 15000);

	/* One of them has the lock now; a rollback of the other waits until that one is undone. */
	for (int i = 0; i < N_FIRST; i++)
		assert_int_equal(pthread_create(&undo[i], NULL, send_request, &back[i]), 0);
	for (int i = 0; i < N_FIRST; i++) {
		pthread_join(undo[i], NULL);
		pthread_join(thread[i], NULL);
		assert_int_equal(back[i].status, 200);
		assert_true(r[i].status == 200 || r[i].status == 409);
	}
	assert_int_equal(fixture_prepared(conn), 0);
}

static void the_database_goes_and_comes(void **state)
{
	(void)state;
	assert_int_equal(post("db", "prepare"), 200);
	/* Every worker has a connection to lose: they take turns. */
	for (int i = 0; i < 8; i++)
		assert_int_equal(post("none", "commit"), 409);
	PQfinish(conn);
	fixture_crash();
	assert_int_equal(post("db", "commit"), 503);
	fixture_resume();
	conn = fixture_connect();
	/* No call is lost on a connection that died meanwhile, whichever worker has it. */
	for (int i = 0; i < 8; i++)
		assert_int_equal(post("db", "commit"), 200);
	assert_int_equal(fixture_effects(conn, "db"), 1);
}

static void stops_after_finishing(void **state)
{
	struct request slow = {.path = "/slow"};
	int64_t until = now_ms() + DEADLINE_MS;
	pthread_t thread;

	(void)state;
	fixture_exec(conn, "SELECT pg_advisory_lock(7)");
	assert_int_equal(pthread_create(&thread, NULL, send_request, &slow), 0);
	wait_for_waiting(1);
	kill(getpid(), SIGTERM);
	/* New routes are refused, as soon as the signal is seen; the coordinator is answered. */
	while (post_to("/other", NULL, NULL, 0) != 503)
		assert_true(now_ms() < until);
	assert_int_equal(post("never", "commit"), 409);
	fixture_exec(conn, "SELECT pg_advisory_unlock(7)");
	pthread_join(thread, NULL);
	assert_int_equal(slow.status, 201);
	assert_string_equal(slow.answer, "{\"n\": 1}");
	pthread_join(runner, NULL);
	assert_int_equal(post("never", "commit"), 0);
	assent_server_free(server);
}

static void start_says_why_not(void **state)
{
	struct assent_server_options options = {.listen = "nowhere",
	                                        .database = fixture_conninfo()};
	struct assent_server *other = assent_server_new(&options, NULL);
	struct assent_error err;

	(void)state;
	assert_int_equal(assent_server_start(other, &err), ASSENT_E_INVALID);
	assent_server_free(other);
	options.listen = assent_server_url(server) + strlen("http://");
	other = assent_server_new(&options, NULL);
	assert_int_equal(assent_server_start(other, &err), ASSENT_E_SYSTEM);
	assert_non_null(strstr(err.text, "in use"));
	assert_int_equal(assent_server_on(other, "/x", "drop", fixture_work, NULL, &err),
	                 ASSENT_E_INVALID);
	assent_server_free(other);
	other = assent_server_new(&options, NULL);
	assert_int_equal(assent_server_on(other, "/x", "try", fixture_work, NULL, NULL), 0);
	assert_int_equal(assent_server_on(other, "/x", "confirm", fixture_work, NULL, NULL), 0);
	assert_int_equal(assent_server_on(other, "/y", "cancel", fixture_work, NULL, NULL), 0);
	assert_int_equal(assent_server_start(other, &err), ASSENT_E_INVALID);
	assert_string_equal(err.text, "/x/try needs cancel as well");
	assent_server_free(other);
	options.database = "host=/nonexistent";
	other = assent_server_new(&options, NULL);
	assert_int_equal(assent_server_start(other, &err), ASSENT_E_UNREACHABLE);
	assent_server_free(other);
}

static int setup(void **state)
{
	(void)state;
	if (!fixture_start())
		return -1;
	conn = fixture_connect();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	PQfinish(conn);
	fixture_stop();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(answers_and_refuses, start, stop),
	    cmocka_unit_test_setup_teardown(too_long_is_read_to_its_end, start, stop),
	    cmocka_unit_test_setup_teardown(second_phases_are_not_kept_out, start, stop),
	    cmocka_unit_test_setup_teardown(confirm_and_cancel_are_not_kept_out, start, stop),
	    cmocka_unit_test_setup_teardown(the_database_goes_and_comes, start, stop),
	    cmocka_unit_test_setup_teardown(start_says_why_not, start, stop),
	    cmocka_unit_test_setup(stops_after_finishing, start),
	};

	return cmocka_run_group_tests_name("sdk_server", tests, setup, teardown);
}
