/*
 * test_sdk_sweep.c - branches that nobody finishes, against PostgreSQL and over HTTP: what is swept,
 * what counts as an answer of the coordinator, and what is left alone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sweep_world.h"

/* ---- two-phase commit ---- */

static void two_phase(const char *word, unsigned n_effect, unsigned n_waiting)
{
	struct sweep_script *s = sweep_script(word, NULL);

	assert_int_equal(sweep_do(s->gid, "b", "prepare"), 200);
	sweep_tick();
	assert_int_equal(s->n_asked, 1);
	assert_int_equal(fixture_prepared(sweep_conn), n_waiting);
	assert_int_equal(sweep_report.n_waiting, n_waiting);
	assert_int_equal(sweep_report.n_swept, 1 - n_waiting);
	assert_int_equal(fixture_effects(sweep_conn, s->gid), n_effect);
	assert_int_equal(sweep_do(s->gid, "b", n_effect ? "commit" : "rollback"), 200);
}

static void a_vote_in_doubt_asks(void **state)
{
	(void)state;
	two_phase("commit", 1, 0);
	two_phase("abort", 0, 0);
	two_phase("pending", 0, 1);
	two_phase("silent", 0, 1);
	assert_int_equal(sweep_report.n_refused, 0);
}

static void only_an_answer_about_itself_counts(void **state)
{
	(void)state;
	two_phase("{\"gid\":\"other\",\"cluster\":\"c0ffee00\",\"decision\":\"commit\"}", 0, 1);
	two_phase("{\"cluster\":\"c0ffee00\",\"decision\":\"abort\"}", 0, 1);
	two_phase("{}", 0, 1);
	assert_int_equal(sweep_report.n_refused, 1);
	assert_non_null(strstr(sweep_report.failure, ": it answered 200"));
	/* Of the right gid; but the cluster is another's, or it is no answer. */
	two_phase("{\"gid\":\"g7\",\"cluster\":\"deadbeef\",\"decision\":\"commit\"}", 0, 1);
	assert_non_null(strstr(sweep_report.failure, ": it is of cluster deadbeef, not c0ffee00"));
	two_phase("{\"gid\":\"g8\",\"cluster\":\"c0ffee00\",\"decision\":\"perhaps\"}", 0, 1);
	two_phase("{\"gid\":\"g9\",\"cluster\":\"c0ffee00\",\"decision\":\"commit\"", 0, 1);
	/* A coordinator that has never heard of it: abort, and somebody should know. */
	two_phase(
	    "{\"gid\":\"g10\",\"cluster\":\"c0ffee00\",\"decision\":\"abort\",\"presumed\":true}",
	    0, 0);
	assert_int_equal(sweep_report.n_orphan, 1);
	assert_string_equal(sweep_report.orphan[0], "assent:c0ffee00:default:g10:b");
}

/* Not to be told apart from "pending" otherwise; and a password in an URL is not for the log. */
static void who_asks_in_vain_is_told(void **state)
{
	struct sweep_script *s = sweep_script("pending", NULL);
	struct assent_participant *all = sweep_asker;
	const char *port = strrchr(assent_server_url(sweep_server), ':');
	char plain[64], both[128], turned[128];
	const struct {
		const char *url, *says;
	} wrong[] = {{SWEEP_NOWHERE, SWEEP_NOWHERE ": "},
	             {SWEEP_NOWHERE, "connect to server"},
	             {"http://me:secret@127.0.0.1:1/", "127.0.0.1:1: "},
	             {"http://nowhere.invalid", "http://nowhere.invalid: "},
	             {both, SWEEP_NOWHERE ": "},
	             {turned, SWEEP_NOWHERE ": "},
	             {plain, "SSL"}};

	(void)state;
	snprintf(plain, sizeof(plain), "https://127.0.0.1%s", port);
	snprintf(both, sizeof(both), SWEEP_NOWHERE " http://127.0.0.1%s", port);
	snprintf(turned, sizeof(turned), "http://127.0.0.1%s " SWEEP_NOWHERE, port);
	assert_int_equal(sweep_do(s->gid, "b", "prepare"), 200);
	sweep_tick();
	assert_string_equal(sweep_report.failure, "");
	s->words[0] = "silent";
	sweep_tick();
	assert_non_null(strstr(sweep_report.failure, ": it answered 503"));
	s->words[0] = "{\"gid\":\"x\",\"cluster\":\"deadbeef\",\"decision\":\"abort\"}";
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		sweep_asker = sweep_participant(wrong[i].url, NULL);
		sweep_tick();
		assert_int_equal(sweep_report.n_waiting, 1);
		assert_int_equal(sweep_report.n_refused, 0);
		assert_non_null(strstr(sweep_report.failure, wrong[i].says));
		assert_null(strstr(sweep_report.failure, "secret"));
		assent_participant_free(sweep_asker);
	}
	sweep_asker = all;
	assert_int_equal(sweep_do(s->gid, "b", "rollback"), 200);
}

/* A coordinator of another cluster decides nothing, and that it knows nothing does not mean that the
 * right one is away. */
static void a_branch_of_another_cluster_is_not_ended(void **state)
{
	struct sweep_script *s = sweep_pre_committed(NULL, NULL, "p=" SWEEP_NOWHERE "/s", "commit");
	struct assent_participant *all = sweep_asker;
	char json[128], two[128];

	(void)state;
	snprintf(json, sizeof(json),
	         "{\"gid\":\"%s\",\"cluster\":\"deadbeef\",\"decision\":\"commit\"}", s->gid);
	s->words[0] = json;
	sweep_asker = sweep_participant(assent_server_url(sweep_server), NULL);
	sweep_tick();
	sweep_assert_decision(s->gid, "", false);
	assert_int_equal(sweep_report.n_waiting, 1);
	assert_non_null(strstr(sweep_report.failure, "of cluster deadbeef, not c0ffee00"));
	/* It remembers of which cluster an address is. */
	s->words[0] = "silent";
	sweep_tick();
	sweep_assert_decision(s->gid, "", false);
	assert_int_equal(s->n_asked, 2);
	assent_participant_free(sweep_asker);
	/* Here it may be the other address that is the coordinator's, and is away. */
	s->words[0] = json;
	snprintf(two, sizeof(two), "%s %s", assent_server_url(sweep_server), SWEEP_NOWHERE);
	sweep_asker = sweep_participant(two, NULL);
	sweep_tick();
	sweep_assert_decision(s->gid, "commit", true);
	assent_participant_free(sweep_asker);
	sweep_asker = all;
}

/* Of two nodes one does not know the transaction. Then the other one is right. */
static void who_knows_it_is_believed(void **state)
{
	static const char unknown[] = "{\"gid\":\"rival\",\"cluster\":\"c0ffee00\","
	                              "\"decision\":\"abort\",\"presumed\":true}";
	struct assent_participant *all = sweep_asker;
	char both[2][128];

	(void)state;
	snprintf(both[0], sizeof(both[0]), "%s %s/other", assent_server_url(sweep_server),
	         assent_server_url(sweep_server));
	snprintf(both[1], sizeof(both[1]), "%s/other %s", assent_server_url(sweep_server),
	         assent_server_url(sweep_server));
	assert_int_equal(sweep_do("rival", "b", "prepare"), 200);
	for (int i = 0; i < 4; i++) {
		sweep_asker = sweep_participant(both[i / 2], NULL);
		sweep_rivals[i % 2].words[0] = unknown;
		sweep_rivals[1 - i % 2].words[0] = "pending";
		sweep_tick();
		assert_int_equal(sweep_report.n_waiting, 1);
		assert_int_equal(fixture_prepared(sweep_conn), 1);
		assent_participant_free(sweep_asker);
	}
	sweep_rivals[0].words[0] = "commit";
	sweep_rivals[1].words[0] = unknown;
	sweep_asker = sweep_participant(both[1], NULL);
	sweep_tick();
	assert_int_equal(sweep_report.n_orphan, 0);
	assert_int_equal(fixture_effects(sweep_conn, "rival"), 1);
	assent_participant_free(sweep_asker);
	sweep_asker = all;
}

/* Before a branch is in doubt, and once. */
static void the_first_tick_tells_of_wrong_addresses(void **state)
{
	const struct {
		const char *url, *says;
		unsigned n_refused;
	} wrong[] = {
	    {SWEEP_NOWHERE, "no coordinator at " SWEEP_NOWHERE ": ", 0},
	    {assent_server_url(sweep_locked), ": it answered 404 (is it a coordinator?)", 1},
	    {assent_server_url(sweep_server), "", 0}};
	struct assent_participant *all = sweep_asker;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		sweep_asker = sweep_participant(wrong[i].url, NULL);
		sweep_tick();
		assert_int_equal(sweep_report.n_refused, wrong[i].n_refused);
		assert_non_null(strstr(sweep_report.failure, wrong[i].says));
		assert_int_equal(*sweep_report.failure == '\0', i == 2);
		sweep_tick();
		assert_string_equal(sweep_report.failure, "");
		assert_int_equal(sweep_report.n_refused, 0);
		assent_participant_free(sweep_asker);
	}
	sweep_asker = all;
}

static void who_is_in_time_is_left_alone(void **state)
{
	struct sweep_script *s = sweep_script("abort", NULL);
	struct assent_error err;

	(void)state;
	assert_int_equal(sweep_do(s->gid, "b", "prepare"), 200);
	assert_int_equal(sweep_do(s->gid, "p", "pre_commit"), 200);
	assert_int_equal(assent_participant_tick(sweep_asker, sweep_conn, &sweep_report, &err), 0);
	assert_int_equal(s->n_asked, 0);
	assert_int_equal(fixture_prepared(sweep_conn), 2);
	assert_int_equal(sweep_report.n_swept + sweep_report.n_waiting + sweep_report.n_orphan, 0);
	assert_int_equal(sweep_do(s->gid, "b", "rollback"), 200);
	assert_int_equal(sweep_do(s->gid, "p", "abort"), 200);
}

/* ---- the rest of it ---- */

static void prepare_by_hand(const char *name)
{
	char sql[256];

	snprintf(sql, sizeof(sql),
	         "BEGIN; INSERT INTO effect VALUES ('hand', 1, 'x');"
	         "PREPARE TRANSACTION '%s'",
	         name);
	fixture_exec(sweep_conn, sql);
}

static void orphans_are_reported(void **state)
{
	static const char *const names[] = {"assent:c0ffee00:default:lost:b", "somebody else",
	                                    "assent:deadbeef:default:lost:b"};
	const struct assent_participant_options options = {.coordinators = SWEEP_NOWHERE,
	                                                   .cluster = "c0ffee00"};
	struct assent_participant *ours, *all = sweep_asker;
	struct assent_error err;

	(void)state;
	for (size_t i = 0; i < 3; i++)
		prepare_by_hand(names[i]);
	sweep_tick();
	assert_int_equal(sweep_report.n_orphan, 2);
	assert_int_equal(assent_participant_new(&ours, &options, &err), 0);
	sweep_asker = ours;
	sweep_tick();
	assert_int_equal(sweep_report.n_orphan, 1);
	assert_string_equal(sweep_report.orphan[0], names[0]);
	assent_participant_free(ours);
	sweep_asker = all;
	assert_int_equal(fixture_prepared(sweep_conn), 3);
	for (size_t i = 0; i < 3; i++) {
		char sql[128];

		snprintf(sql, sizeof(sql), "ROLLBACK PREPARED '%s'", names[i]);
		fixture_exec(sweep_conn, sql);
	}
}

static void only_its_own_cluster_and_database(void **state)
{
	struct sweep_script *s = sweep_pre_committed("abort", NULL, sweep_peers, "wait");
	const struct assent_participant_options options = {.coordinators = SWEEP_NOWHERE,
	                                                   .cluster = "deadbeef"};
	struct assent_participant *other, *all = sweep_asker;
	struct assent_error err;
	PGconn *elsewhere;
	char info[512];

	(void)state;
	assert_int_equal(assent_participant_new(&other, &options, &err), 0);
	sweep_asker = other;
	sweep_tick();
	sweep_assert_decision(s->gid, "", false);
	assert_int_equal(sweep_report.n_waiting + sweep_report.n_orphan, 0);
	assent_participant_free(other);
	sweep_asker = all;

	fixture_exec(sweep_conn, "CREATE DATABASE elsewhere");
	snprintf(info, sizeof(info), "%s dbname=elsewhere", fixture_conninfo());
	elsewhere = PQconnectdb(info);
	assert_int_equal(PQstatus(elsewhere), CONNECTION_OK);
	assert_int_equal(assent_participant_install(elsewhere, &err), 0);
	assert_int_equal(assent_participant_tick(sweep_asker, elsewhere, &sweep_report, &err), 0);
	assert_int_equal(sweep_report.n_orphan + sweep_report.n_swept + sweep_report.n_waiting, 0);
	PQfinish(elsewhere);
	assert_int_equal(s->n_asked, 0);
	sweep_tick();
	sweep_assert_decision(s->gid, "abort", false);
}

/* More than a batch of them, in one tick. */
static void many_at_once(void **state)
{
	char gid[16];

	(void)state;
	for (int i = 0; i < 40; i++) {
		snprintf(gid, sizeof(gid), "many%d", i);
		fixture_terms(3600000, NULL, "wait");
		assert_int_equal(sweep_do(gid, "b", "pre_commit"), 200);
	}
	sweep_tick();
	assert_int_equal(sweep_report.n_heuristic, 40);
	assert_int_equal(fixture_prepared(sweep_conn), 0);
}

static int n_read(void)
{
	return fixture_number(sweep_conn,
	                      "SELECT seq_tup_read + idx_tup_fetch"
	                      " FROM pg_stat_xact_user_tables WHERE relname = 'branch'");
}

/* After an outage very many may be due: a batch reads some rows more than it takes. */
static void a_batch_reads_no_more_than_it_takes(void **state)
{
	int n_before;

	(void)state;
	fixture_exec(sweep_conn,
	             "BEGIN;"
	             "INSERT INTO assent_participant.branch (cluster, namespace, gid, branch, mode,"
	             " prepared_name, vote_deadline_at, hold_ms, due_at)"
	             " SELECT 'many', 'default', 'm' || i, 'b', '3pc', 'm' || i, now(), 0,"
	             " now() - interval '1 s' FROM generate_series(1, 5000) i;"
	             "ANALYZE assent_participant.branch");
	n_before = n_read(); /* also what transactions before this one have read */
	assert_int_equal(fixture_number(sweep_conn, "SELECT count(*) FROM assent_participant"
	                                            ".claim_due('many', 16, 1000)"),
	                 16);
	assert_in_range(n_read() - n_before, 16, 500);
	fixture_exec(sweep_conn, "ROLLBACK");
}

/* ---- options and privileges ---- */

static int start_as(const char *role, struct assent_error *err)
{
	char info[512];
	struct assent_server_options options = {.listen = "127.0.0.1:0", .database = info};
	struct assent_server *s;
	int rc;

	snprintf(info, sizeof(info), "%s user=%s", fixture_conninfo(), role);
	s = assent_server_new(&options, err);
	assert_non_null(s);
	rc = assent_server_start(s, err);
	assent_server_free(s);
	return rc;
}

/* Said at the start rather than with the first decision. */
static void privileges_are_checked(void **state)
{
	struct assent_error err;

	(void)state;
	fixture_exec(sweep_conn, "CREATE ROLE weak LOGIN");
	assert_int_equal(start_as("weak dbname=template1", &err), ASSENT_E_DATABASE);
	assert_non_null(strstr(err.text, "GRANT CREATE ON DATABASE template1 TO"));
	assert_non_null(strstr(err.text, "install as another role"));
	assert_int_equal(start_as("weak", &err), ASSENT_E_DATABASE);
	assert_non_null(strstr(err.text, "weak may not read the schema assent_participant"));
	assert_non_null(strstr(err.text, "GRANT USAGE"));
	assert_string_equal(err.sqlstate, "42501");
	fixture_exec(sweep_conn, "GRANT USAGE ON SCHEMA assent_participant TO weak;"
	                         "GRANT SELECT ON ALL TABLES IN SCHEMA assent_participant TO weak");
	assert_int_equal(start_as("weak", &err), ASSENT_E_INVALID);
	assert_non_null(strstr(err.text, "GRANT USAGE"));
	fixture_exec(sweep_conn, "GRANT ALL ON ALL TABLES IN SCHEMA assent_participant TO weak");
	fixture_exec(sweep_conn, "REVOKE SELECT ON assent_participant.mark FROM weak");
	assert_int_equal(start_as("weak", &err), ASSENT_E_INVALID);
	fixture_exec(sweep_conn, "GRANT SELECT ON assent_participant.mark TO weak");
	assert_int_equal(start_as("weak", &err), 0);
	fixture_exec(sweep_conn, "BEGIN; CREATE TEMP TABLE latest AS SELECT max(version) AS version"
	                         " FROM assent_participant.version; DELETE FROM"
	                         " assent_participant.version v USING latest"
	                         " WHERE v.version = latest.version; COMMIT");
	assert_int_equal(start_as("weak", &err), ASSENT_E_DATABASE);
	assert_non_null(strstr(err.text, "let its owner install it"));
	fixture_exec(sweep_conn, "INSERT INTO assent_participant.version SELECT * FROM latest");
	prepare_by_hand("assent:c0ffee00:default:hers:b");
	assert_int_equal(start_as("weak", &err), ASSENT_E_INVALID);
	assert_non_null(strstr(err.text, "connect as"));
	fixture_exec(sweep_conn, "ROLLBACK PREPARED 'assent:c0ffee00:default:hers:b'");
}

/* A crash of PostgreSQL would take back what a peer or the coordinator was told. */
static void commits_are_durable(void **state)
{
	PGconn *weak = fixture_connect();
	struct assent_error err;

	(void)state;
	fixture_exec(sweep_conn, "ALTER ROLE weak SET synchronous_commit = off");
	assert_int_equal(start_as("weak", &err), ASSENT_E_INVALID);
	assert_non_null(strstr(err.text, "synchronous_commit"));
	fixture_exec(sweep_conn, "ALTER ROLE weak SET synchronous_commit = local");
	assert_int_equal(start_as("weak", &err), 0);
	assert_int_equal(assent_participant_check(weak, &err), 0);
	fixture_exec(weak, "SET synchronous_commit = off");
	assert_int_equal(assent_participant_check(weak, &err), ASSENT_E_INVALID);
	PQfinish(weak);
}

static void options_are_checked(void **state)
{
	static const struct {
		struct assent_participant_options options;
		const char *text;
	} bad[] = {
	    {{.coordinators = NULL}, "coordinators"},
	    {{.coordinators = " , "}, "coordinators"},
	    {{.coordinators = "ftp://x"}, "ftp://x"},
	    {{.coordinators = "http://a http://b http://c http://d http://e http://f http://g "
	                      "http://h http://i"},
	     "more than 8"},
	    {{.coordinators = SWEEP_NOWHERE, .cluster = "a:b"}, "cluster"},
	    {{.coordinators = SWEEP_NOWHERE, .token_file = "/nowhere"}, "/nowhere"},
	    {{.coordinators = SWEEP_NOWHERE, .secret_file = "/nowhere"}, "/nowhere"},
	};
	const struct assent_server_options alone = {.listen = "127.0.0.1:0",
	                                            .database = fixture_conninfo()};
	struct assent_participant *p;
	struct assent_error err;
	struct assent_server *s;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_true(assent_participant_new(&p, &bad[i].options, &err) < 0);
		assert_null(p);
		assert_non_null(strstr(err.text, bad[i].text));
	}
	s = assent_server_new(&alone, &err);
	assert_int_equal(assent_server_on(s, "/x", "pre_commit", sweep_never, NULL, &err), 0);
	assert_int_equal(assent_server_start(s, &err), ASSENT_E_INVALID);
	assert_non_null(strstr(err.text, "coordinators"));
	assent_server_free(s);
	s = assent_server_new(&alone, &err);
	assert_int_equal(assent_server_on(s, "/x", "can_commit", sweep_never, NULL, &err), 0);
	assert_int_equal(assent_server_start(s, &err), ASSENT_E_INVALID);
	assert_non_null(strstr(err.text, "pre_commit"));
	assent_server_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_vote_in_doubt_asks),
	    cmocka_unit_test(only_an_answer_about_itself_counts),
	    cmocka_unit_test(who_asks_in_vain_is_told),
	    cmocka_unit_test(a_branch_of_another_cluster_is_not_ended),
	    cmocka_unit_test(who_knows_it_is_believed),
	    cmocka_unit_test(the_first_tick_tells_of_wrong_addresses),
	    cmocka_unit_test(who_is_in_time_is_left_alone),
	    cmocka_unit_test(orphans_are_reported),
	    cmocka_unit_test(only_its_own_cluster_and_database),
	    cmocka_unit_test(many_at_once),
	    cmocka_unit_test(a_batch_reads_no_more_than_it_takes),
	    cmocka_unit_test(privileges_are_checked),
	    cmocka_unit_test(commits_are_durable),
	    cmocka_unit_test(options_are_checked),
	};

	return cmocka_run_group_tests_name("sdk_sweep", tests, sweep_setup, sweep_teardown);
}
