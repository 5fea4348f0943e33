/*
 * test_sdk_stop.c - a sweep, and a server, that is stopped while those whom it asks never answer.
 */
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "participants/sdk/internal.h"
#include "sweep_world.h"

struct hole {
	int fd;
	char url[64];
};

static void make_hole(struct hole *hole)
{
	struct assent_error err;

	hole->fd = sdk_listen("127.0.0.1:0", hole->url, sizeof(hole->url), &err);
	assert_true(hole->fd >= 0);
}

/* Somebody waits for an answer. */
static int fall_in(const struct hole *hole)
{
	struct pollfd p = {.fd = hole->fd, .events = POLLIN};
	char byte;
	int fd;

	assert_int_equal(poll(&p, 1, 30000), 1);
	fd = accept(hole->fd, NULL, NULL);
	assert_int_equal(recv(fd, &byte, 1, 0), 1);
	return fd;
}

static void *tick_for_long(void *arg)
{
	struct assent_error err;
	PGconn *conn = fixture_connect();

	assert_int_equal(assent_participant_tick(arg, conn, &sweep_report, &err), 0);
	PQfinish(conn);
	return NULL;
}

static void a_stop_waits_for_no_answer(void **state)
{
	static const char *const where[] = {"coordinator", "peer"};

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct assent_participant_options options = {.ask_ms = 600000, .retry_ms = 1};
		int64_t start_us = sdk_now_us();
		char peers[128] = "p=";
		struct assent_error err;
		struct sweep_script *s;
		struct assent_participant *p;
		struct hole hole;
		pthread_t thread;
		int fds[2] = {-1, -1};

		make_hole(&hole);
		strncat(peers, i ? hole.url : SWEEP_NOWHERE, 100);
		s = sweep_pre_committed("silent", NULL, peers, "commit");
		fixture_exec(sweep_conn, "UPDATE assent_participant.branch SET due_at = now()"
		                         " WHERE decision IS NULL");
		options.coordinators = i ? assent_server_url(sweep_server) : hole.url;
		assert_int_equal(assent_participant_new(&p, &options, &err), 0);
		assert_int_equal(pthread_create(&thread, NULL, tick_for_long, p), 0);
		fds[0] = fall_in(&hole);
		if (i == 0) { /* the greeting is over, and the branch is asked about */
			assert_true(close(fds[0]) == 0);
			fds[0] = fall_in(&hole);
		}
		assent_participant_stop(p);
		pthread_join(thread, NULL);
		if (sdk_now_us() - start_us > 300000000)
			fail_msg("it waited for the %s", where[i]);
		/* Nobody was silent: nothing follows from it. */
		sweep_assert_decision(s->gid, "", false);
		assert_int_equal(sweep_report.n_waiting, 1);
		assert_int_equal(assent_participant_tick(p, sweep_conn, &sweep_report, &err), 0);
		assert_int_equal(sweep_report.n_waiting, 0);
		assent_participant_free(p);
		close(fds[0]);
		close(hole.fd);
		sweep_end(s->gid, "abort");
	}
}

#define N_DOUBT 16 /* a batch */

/* 16 branches that are due, and whose coordinator has 8 addresses. */
static void many_in_doubt(const struct hole *hole, char coordinators[600])
{
	char gid[16];

	*coordinators = '\0';
	for (int i = 0; i < 8; i++) {
		strncat(coordinators, hole->url, 64);
		strncat(coordinators, " ", 2);
	}
	fixture_terms(3600000, "p=" SWEEP_NOWHERE "/x", "wait");
	for (int i = 0; i < N_DOUBT; i++) {
		snprintf(gid, sizeof(gid), "stop%d", i);
		assert_int_equal(sweep_do(gid, "b", "pre_commit"), 200);
	}
	fixture_exec(sweep_conn, "UPDATE assent_participant.branch SET due_at = now()"
	                         " WHERE gid LIKE 'stop%'");
}

static void none_is_decided(void)
{
	for (int i = 0; i < N_DOUBT; i++) {
		char gid[16];

		snprintf(gid, sizeof(gid), "stop%d", i);
		sweep_assert_decision(gid, "", false);
		assert_int_equal(sweep_do(gid, "b", "abort"), 200);
	}
	fixture_exec(sweep_conn, "DELETE FROM assent_participant.branch WHERE gid LIKE 'stop%'");
}

/* When it is used up, one round of questions of a kind is asked, and the rest put off. */
static void the_budget_bounds_the_questions(void **state)
{
	struct assent_participant_options options = {
	    .ask_ms = 300, .budget_ms = 1, .retry_ms = 60000};
	char coordinators[600];
	struct assent_participant *p;
	struct assent_error err;
	struct pollfd fd = {.events = POLLIN};
	struct hole hole;
	int n = 0;

	(void)state;
	make_hole(&hole);
	many_in_doubt(&hole, coordinators);
	options.coordinators = coordinators;
	assert_int_equal(assent_participant_new(&p, &options, &err), 0);
	assert_int_equal(assent_participant_tick(p, sweep_conn, &sweep_report, &err), 0);
	assert_int_equal(sweep_report.n_waiting, N_DOUBT);
	for (fd.fd = hole.fd; poll(&fd, 1, 0) == 1; n++)
		close(accept(hole.fd, NULL, NULL));
	/* Whether they would answer, then 64 questions. Who waits for peers does not ask again. */
	assert_in_range(n, 8, 8 + 64);
	assent_participant_free(p);
	close(hole.fd);
	none_is_decided();
}

/* The whole of a server, with more to ask than a stop has time for. */
static void a_server_stops_soon(void **state)
{
	struct hole hole;
	struct assent_server_options options = {.listen = "127.0.0.1:0",
	                                        .database = fixture_conninfo()};
	struct assent_error err;
	struct assent_server *s;
	char coordinators[600];
	int64_t start_us;
	int fd;

	(void)state;
	make_hole(&hole);
	many_in_doubt(&hole, coordinators);
	options.coordinators = coordinators;
	s = assent_server_new(&options, &err);
	assert_non_null(s);
	assert_int_equal(assent_server_start(s, &err), 0);
	fd = fall_in(&hole);
	start_us = sdk_now_us();
	assent_server_stop(s);
	assent_server_run(s);
	assent_server_free(s);
	assert_in_range(sdk_now_us() - start_us, 0, 5000000);
	none_is_decided();
	close(fd);
	close(hole.fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_stop_waits_for_no_answer),
	    cmocka_unit_test(a_server_stops_soon),
	    cmocka_unit_test(the_budget_bounds_the_questions),
	};

	return cmocka_run_group_tests_name("sdk_stop", tests, sweep_setup, sweep_teardown);
}
