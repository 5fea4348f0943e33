/*
 * test_sdk_termination.c - three-phase commit when nobody calls any more, against PostgreSQL and over
 * HTTP: whom a branch asks, and what follows from the answers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "participants/sdk/internal.h"
#include "sweep_world.h"

static void the_coordinator_is_obeyed(void **state)
{
	struct sweep_script *s = sweep_pre_committed("commit", NULL, sweep_peers, "wait");

	(void)state;
	sweep_tick();
	sweep_assert_decision(s->gid, "commit", false);
	assert_int_equal(fixture_effects(sweep_conn, s->gid), 1);
	s = sweep_pre_committed("abort", NULL, sweep_peers, "commit");
	sweep_tick();
	sweep_assert_decision(s->gid, "abort", false);
	assert_int_equal(sweep_report.n_swept, 1);
	sweep_end(s->gid, "abort");
}

/* As long as the coordinator is up, it is its business. */
static void pending_means_wait(void **state)
{
	struct sweep_script *s = sweep_pre_committed("pending", NULL, sweep_peers, "commit");

	(void)state;
	assert_int_equal(sweep_do(s->gid, "p", "pre_commit"), 200);
	for (int i = 0; i < 2; i++) {
		sweep_tick_b();
		sweep_assert_decision(s->gid, "", false);
		assert_int_equal(sweep_report.n_waiting, 1);
	}
	assert_int_equal(s->n_asked, 2);
	assert_int_equal(sweep_n_vouched(s->gid), 0);
	sweep_end(s->gid, "abort");
}

static void all_are_pre_committed(void **state)
{
	struct sweep_script *s = sweep_pre_committed("silent", NULL, sweep_peers, "wait");

	(void)state;
	assert_int_equal(sweep_do(s->gid, "p", "pre_commit"), 200);
	sweep_tick_b();
	sweep_assert_decision(s->gid, "commit", true);
	assert_int_equal(sweep_report.n_heuristic, 1);
	assert_non_null(strstr(sweep_report.heuristic, "p pre_committed"));
	/* The peer is bound by what it has said. */
	assert_int_equal(sweep_do(s->gid, "p", "intent"), 409);
	sweep_assert_says("\"outcome\":\"pre_committed\"");
	/* The coordinator hears of it when it is back. */
	assert_int_equal(sweep_do(s->gid, "b", "do_commit"), 200);
	sweep_assert_says("\"heuristic\":true");
	sweep_assert_says("p pre_committed");
	sweep_end(s->gid, "do_commit");
	assert_int_equal(fixture_effects(sweep_conn, s->gid), 2);
}

static void one_has_not_pre_committed(void **state)
{
	struct sweep_script *s = sweep_pre_committed("silent", NULL, sweep_peers, "commit");

	(void)state;
	assert_int_equal(sweep_do(s->gid, "p", "can_commit"), 200);
	sweep_tick_b();
	sweep_assert_decision(s->gid, "abort", true);
	assert_int_equal(sweep_do(s->gid, "p", "pre_commit"), 409);
	sweep_assert_says("\"outcome\":\"aborted\"");
	assert_int_equal(sweep_do(s->gid, "b", "do_commit"), 409);
	sweep_assert_says("\"outcome\":\"aborted\"");
	sweep_assert_says("\"heuristic\":true");
	sweep_end(s->gid, "abort");
}

static void one_has_ended(void **state)
{
	struct sweep_script *s = sweep_pre_committed("silent", NULL, sweep_peers, "wait");

	(void)state;
	assert_int_equal(sweep_do(s->gid, "p", "pre_commit"), 200);
	assert_int_equal(sweep_do(s->gid, "p", "do_commit"), 200);
	sweep_tick_b();
	sweep_assert_decision(s->gid, "commit", true);
	s = sweep_pre_committed("silent", NULL, sweep_peers, "commit");
	assert_int_equal(sweep_do(s->gid, "p", "abort"), 200);
	sweep_tick_b();
	sweep_assert_decision(s->gid, "abort", true);
	assert_int_equal(sweep_do(s->gid, "b", "abort"), 200);
	sweep_assert_says("\"heuristic\":true");
}

static void without_others_it_commits(void **state)
{
	struct sweep_script *s = sweep_pre_committed("silent", NULL, NULL, "wait");

	(void)state;
	sweep_tick();
	sweep_assert_decision(s->gid, "commit", true);
}

static void a_peer_is_silent(void **state)
{
	static const char gone[] = "p=" SWEEP_NOWHERE "/x/status";
	struct sweep_script *s = sweep_pre_committed("silent", NULL, gone, "wait");

	(void)state;
	sweep_tick();
	sweep_assert_decision(s->gid, "", false);
	assert_int_equal(sweep_report.n_waiting, 1);
	assert_int_equal(s->n_asked, 1);
	sweep_end(s->gid, "abort");

	/* on_timeout: not before the coordinator has been asked again. */
	s = sweep_pre_committed("silent", NULL, gone, "commit");
	sweep_tick();
	sweep_assert_decision(s->gid, "commit", true);
	assert_int_equal(s->n_asked, 2);
	assert_non_null(strstr(sweep_report.heuristic, "p not reached"));
	s = sweep_pre_committed("silent", "pending", gone, "commit");
	sweep_tick();
	sweep_assert_decision(s->gid, "", false);
	s->words[1] = "abort";
	sweep_tick();
	sweep_assert_decision(s->gid, "abort", false);
	s = sweep_pre_committed("silent", "abort", gone, "commit");
	sweep_tick();
	sweep_assert_decision(s->gid, "abort", false);
}

/* Somebody is at that address who does not speak for p in this transaction. */
static void only_the_peer_itself_counts(void **state)
{
	static const char *const wrong[][3] = {
	    {"deadbeef", NULL, "p"}, {"c0ffee00", "other", "p"}, {"c0ffee00", NULL, "q"}};
	char url[300], json[256];
	struct sweep_script *s;

	(void)state;
	snprintf(url, sizeof(url), "p=%s/decoy/status", assent_server_url(sweep_server));
	s = sweep_pre_committed("silent", NULL, url, "wait");
	sweep_decoy.words[0] = json;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		snprintf(json, sizeof(json),
		         "{\"cluster\":\"%s\",\"gid\":\"%s\",\"branch\":\"%s\","
		         "\"state\":\"pre_committed\"}",
		         wrong[i][0], wrong[i][1] ? wrong[i][1] : s->gid, wrong[i][2]);
		sweep_tick();
		sweep_assert_decision(s->gid, "", false);
		assert_int_equal(sweep_decoy.n_asked, i + 1);
	}
	snprintf(json, sizeof(json),
	         "{\"cluster\":\"c0ffee00\",\"gid\":\"%s\",\"branch\":\"p\","
	         "\"state\":\"pre_committed\"}",
	         s->gid);
	sweep_tick();
	sweep_assert_decision(s->gid, "commit", true);
}

/* ---- peers with a secret ---- */

static void questions_are_signed(void **state)
{
	struct assent_participant *open_one = sweep_asker;
	struct sweep_script *s;

	(void)state;
	snprintf(sweep_peers, sizeof(sweep_peers), "p=%s/p/status",
	         assent_server_url(sweep_locked));
	s = sweep_pre_committed("silent", NULL, sweep_peers, "wait");
	assert_int_equal(sweep_do(s->gid, "p", "pre_commit"), 200);
	sweep_tick_b();
	sweep_assert_decision(s->gid, "", false); /* 401 is no answer */
	assert_int_equal(sweep_n_vouched(s->gid), 0);
	sweep_asker = sweep_participant(assent_server_url(sweep_server), sweep_secret);
	sweep_tick_b();
	sweep_assert_decision(s->gid, "commit", true);
	assent_participant_free(sweep_asker);
	sweep_asker = open_one;
	snprintf(sweep_peers, sizeof(sweep_peers), "p=%s/p/status",
	         assent_server_url(sweep_server));
	sweep_end(s->gid, "do_commit");
}

/* ---- where peers may be ---- */

static void peers_elsewhere_are_not_asked(void **state)
{
	const char *here = assent_server_url(sweep_server);
	struct assent_participant_options options = {.coordinators = here, .peers = SWEEP_NOWHERE};
	struct assent_participant *all = sweep_asker;
	struct assent_error err;
	struct sweep_script *s;

	(void)state;
	s = sweep_pre_committed("silent", NULL, sweep_peers, "wait");
	assert_int_equal(sweep_do(s->gid, "p", "pre_commit"), 200);
	assert_int_equal(assent_participant_new(&sweep_asker, &options, &err), 0);
	sweep_tick_b();
	sweep_assert_decision(s->gid, "", false);
	assert_int_equal(sweep_n_vouched(s->gid), 0);
	assent_participant_free(sweep_asker);
	options.peers = here;
	assert_int_equal(assent_participant_new(&sweep_asker, &options, &err), 0);
	sweep_tick_b();
	sweep_assert_decision(s->gid, "commit", true);
	assent_participant_free(sweep_asker);
	sweep_asker = all;
	sweep_end(s->gid, "do_commit");
}

static void the_list_is_of_whole_parts(void **state)
{
	static const struct {
		const char *allowed, *url;
		bool yes;
	} cases[] = {
	    {NULL, "http://anywhere/", true},
	    {"", "http://anywhere/", false},
	    {"http://stock", "http://stock/status", true},
	    {"http://stock", "http://stock?x=1", true},
	    {"http://stock", "http://stock", true},
	    {"http://stock", "http://stock.example/status", false},
	    {"http://stock", "http://stock@example/status", false},
	    {"http://stock", "http://stock:7481/status", false},
	    {"http://stock", "http://stock\\@example", false},
	    {"http://stock", "https://stock/status", false},
	    {"http://stock", "http://stoc", false},
	    {"http://a http://stock:7481", "http://stock:7481/status", true},
	    {"http://a,\n http://stock:7481/x/", "http://stock:7481/x/status", true},
	    {"http://a,http://stock:7481/x", "http://stock:7481/xy/status", false},
	};
	static const char *const bad[] = {"stock:7481", "http://", "http://a ftp://b",
	                                  "http://me@stock"};
	struct assent_error err;
	char *allowed;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct sdk_peer peer = {.url = cases[i].url, .url_len = strlen(cases[i].url)};

		assert_int_equal(sdk_peers_allow(cases[i].allowed, &allowed, &err), 0);
		assert_int_equal(sdk_peer_is_allowed(allowed, &peer), cases[i].yes);
		free(allowed);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(sdk_peers_allow(bad[i], &allowed, &err), ASSENT_E_INVALID);
		assert_null(allowed);
	}
}

/* ---- by hand ---- */

/* A transaction with one snapshot sees a commit by hand only when it asks anew. */
static void a_commit_by_hand_is_seen_in_any_isolation(void **state)
{
	static const char *const levels[] = {"READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"};

	(void)state;
	for (int i = 0; i < 3; i++) {
		struct sweep_script *s = sweep_pre_committed("pending", NULL, sweep_peers, "wait");
		PGconn *other = fixture_connect();
		PGresult *result;
		char sql[256], said[16];

		snprintf(sql, sizeof(sql), "BEGIN ISOLATION LEVEL %s; SELECT 1 FROM effect",
		         levels[i]);
		fixture_exec(other, sql);
		snprintf(sql, sizeof(sql), "COMMIT PREPARED 'assent:c0ffee00:default:%s:b'",
		         s->gid);
		fixture_exec(sweep_conn, sql);
		snprintf(sql, sizeof(sql),
		         "SELECT state FROM assent_participant.settle('c0ffee00', 'default', '%s',"
		         " 'b', 'assent:c0ffee00:default:%s:b', 1000, 'poll', NULL, NULL)",
		         s->gid, s->gid);
		result = PQexec(other, sql);
		snprintf(said, sizeof(said), "%s",
		         PQntuples(result) ? PQgetvalue(result, 0, 0)
		                           : PQresultErrorField(result, PG_DIAG_SQLSTATE));
		PQclear(result);
		PQfinish(other); /* and with it its locks */
		assert_string_equal(said, i == 0 ? "committed" : "40001");
		assert_int_equal(sweep_do(s->gid, "b", "abort"), 409);
		sweep_assert_says("\"outcome\":\"committed\"");
		sweep_assert_says("committed by hand");
		sweep_assert_decision(s->gid, "commit", true);
	}
}

/* All of it on a connection with another default. */
static void repeatable_read_does_as_well(void **state)
{
	static const char *const ends[] = {"do_commit", "abort", "intent", "status"};
	struct sweep_script *s;

	(void)state;
	fixture_exec(sweep_conn, "SET default_transaction_isolation = 'repeatable read'");
	for (int i = 0; i < 4; i++) {
		s = sweep_script("pending", NULL);
		assert_int_equal(sweep_do(s->gid, "b", "can_commit"), 200);
		if (i < 2)
			assert_int_equal(sweep_do(s->gid, "b", "pre_commit"), 200);
		assert_int_equal(sweep_do(s->gid, "b", ends[i]), 200);
		assert_int_equal(sweep_do(s->gid, "b", ends[i]), 200);
		assert_int_equal(sweep_do(s->gid, "b", "pre_commit"), 409);
		sweep_assert_decision(s->gid, i ? "abort" : "commit", false);
	}
	fixture_exec(sweep_conn, "RESET default_transaction_isolation");
}

static void asked_and_forgotten(void **state)
{
	struct sweep_script *s = sweep_script("pending", NULL);

	(void)state;
	assert_int_equal(sweep_do(s->gid, "b", "can_commit"), 200);
	sweep_tick();
	sweep_assert_decision(s->gid, "abort", false);
	assert_int_equal(s->n_asked, 0);
	assert_int_equal(sweep_do(s->gid, "b", "pre_commit"), 409);
	sweep_assert_says("\"outcome\":\"aborted\"");
}

static void what_was_decided_is_carried_out(void **state)
{
	static const char *const decisions[] = {"commit", "abort"};

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct sweep_script *s = sweep_pre_committed("pending", NULL, sweep_peers, "wait");
		char sql[256];

		snprintf(sql, sizeof(sql),
		         "SELECT assent_participant.settle('c0ffee00', 'default', '%s', 'b',"
		         " 'assent:c0ffee00:default:%s:b', 1000, '%s', NULL, NULL)",
		         s->gid, s->gid, decisions[i]);
		fixture_exec(sweep_conn, sql);
		sweep_tick();
		sweep_assert_decision(s->gid, decisions[i], false);
		assert_int_equal(fixture_effects(sweep_conn, s->gid), 1 - i);
		assert_int_equal(s->n_asked, 0);
		assert_int_equal(sweep_report.n_swept, 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_coordinator_is_obeyed),
	    cmocka_unit_test(pending_means_wait),
	    cmocka_unit_test(all_are_pre_committed),
	    cmocka_unit_test(one_has_not_pre_committed),
	    cmocka_unit_test(one_has_ended),
	    cmocka_unit_test(without_others_it_commits),
	    cmocka_unit_test(a_peer_is_silent),
	    cmocka_unit_test(only_the_peer_itself_counts),
	    cmocka_unit_test(questions_are_signed),
	    cmocka_unit_test(peers_elsewhere_are_not_asked),
	    cmocka_unit_test(the_list_is_of_whole_parts),
	    cmocka_unit_test(a_commit_by_hand_is_seen_in_any_isolation),
	    cmocka_unit_test(repeatable_read_does_as_well),
	    cmocka_unit_test(asked_and_forgotten),
	    cmocka_unit_test(what_was_decided_is_carried_out),
	};

	return cmocka_run_group_tests_name("sdk_termination", tests, sweep_setup, sweep_teardown);
}
