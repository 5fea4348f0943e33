/*
 * sweep.c - what becomes of a branch that nobody finishes: the sweep of two-phase commit, and the
 * termination protocol of three-phase commit.
 *
 * One round for a branch that is prepared and past its time:
 *	1. Ask the coordinator. Decided: do that. Pending: wait; it will call, or be asked again.
 *	   Only a 200 with the branch's own gid and cluster is an answer, everything else is silence.
 *	2. Silence, and two-phase commit: wait.
 *	   Silence, and three-phase commit: ask all peers. A peer that has not pre-committed aborts
 *	   before it answers, and one that has binds itself to take no intent any more. One has
 *	   committed: commit. One has aborted: abort. All have answered, and all are pre-committed:
 *	   commit.
 *	3. A peer was silent: wait, or under `commit` ask the coordinator once more, and commit if it
 *	   still is silent. Without that question a coordinator that came back while a peer went
 *	   down would decide otherwise.
 *
 * The branches of a batch are asked about together, so that a round lasts as long as the slowest
 * answer and not as long as all of them. What is decided is decided by `settle`: whatever came
 * meanwhile counts. Nothing is kept between two rounds but what is in the database, and of which
 * cluster each address of a coordinator is: a branch whose coordinator is none of them for certain is
 * not ended by itself. Its coordinator is not silent, nobody has asked it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sweep.h"

#define ASK_MS       2000
#define RETRY_MS     2000
#define RETRY_MAX_MS 86400000
#define BUDGET_MS    10000

/* ---- configuration ---- */

static int add_coordinators(struct assent_participant *p, const char *urls,
                            struct assent_error *err)
{
	static const char between[] = " ,\t\n";

	for (urls += strspn(urls, between); *urls; urls += strspn(urls, between)) {
		size_t len = strcspn(urls, between), end = len;
		char *url;

		while (end && urls[end - 1] == '/')
			end--;
		if ((strncmp(urls, "http://", 7) != 0 && strncmp(urls, "https://", 8) != 0) ||
		    p->n_coordinator == COORDINATOR_MAX)
			return sdk_fail(
			    err, ASSENT_E_INVALID,
			    "coordinators: %.*s is not a URL like http://127.0.0.1:7470,"
			    " or there are more than %d",
			    (int)len, urls, COORDINATOR_MAX);
		url = strndup(urls, end);
		if (!url)
			return sdk_fail(err, ASSENT_E_NOMEM, "out of memory");
		p->coordinator[p->n_coordinator++].url = url;
		urls += len;
	}
	return p->n_coordinator
	           ? 0
	           : sdk_fail(err, ASSENT_E_INVALID,
	                      "coordinators: the URL of the coordinator is needed, for branches "
	                      "that wait for a decision");
}

static int configure(struct assent_participant *p, const struct assent_participant_options *options,
                     struct assent_error *err)
{
	int rc = add_coordinators(p, options->coordinators ? options->coordinators : "", err);

	if (rc == 0 && options->token_file)
		rc = sdk_read_token_file(options->token_file, &p->authorization, err);
	if (rc == 0 && options->secret_file)
		rc = assent_verifier_load(&p->verifier, options->secret_file, err);
	if (rc)
		return rc;
	if (options->cluster && !sdk_identifier(options->cluster, 32, ""))
		return sdk_fail(err, ASSENT_E_INVALID, "cluster is not valid");
	p->cluster = options->cluster ? strdup(options->cluster) : NULL;
	rc = sdk_peers_allow(options->peers, &p->allowed, err);
	if (rc)
		return rc;
	p->ask_ms = options->ask_ms ? (int)options->ask_ms : ASK_MS;
	p->retry_ms = options->retry_ms ? (int)options->retry_ms : RETRY_MS;
	p->retry_ms = p->retry_ms < RETRY_MAX_MS ? p->retry_ms : RETRY_MAX_MS;
	p->budget_ms = options->budget_ms ? (int)options->budget_ms : BUDGET_MS;
	p->getter = sdk_getter_new();
	if (!p->getter || (options->cluster && !p->cluster))
		return sdk_fail(err, ASSENT_E_NOMEM, "out of memory");
	return 0;
}

int assent_participant_new_sized(struct assent_participant **out,
                                 const struct assent_participant_options *options, size_t size,
                                 struct assent_error *err)
{
	struct assent_participant_options known;
	struct assent_participant *p;
	int rc;

	if (out)
		*out = NULL;
	if (!out || !options)
		return sdk_fail(err, ASSENT_E_INVALID, "participant or options is NULL");
	rc = sdk_take_struct(&known, sizeof(known), options, size, err);
	if (rc)
		return rc;
	p = calloc(1, sizeof(*p));
	rc = p ? configure(p, &known, err) : sdk_fail(err, ASSENT_E_NOMEM, "out of memory");
	if (rc) {
		assent_participant_free(p);
		p = NULL;
	}
	*out = p;
	return rc;
}

void assent_participant_free(struct assent_participant *p)
{
	if (!p)
		return;
	while (p->n_coordinator)
		free(p->coordinator[--p->n_coordinator].url);
	if (p->authorization)
		explicit_bzero(p->authorization, strlen(p->authorization));
	free(p->authorization);
	assent_verifier_free(p->verifier);
	free(p->cluster);
	free(p->allowed);
	sdk_getter_free(p->getter);
	free(p);
}

void assent_participant_stop(struct assent_participant *p)
{
	if (p)
		atomic_store(&p->stopped, true);
}

static bool is_stopped(const struct tick *t)
{
	return atomic_load(&t->p->stopped);
}

/* ---- what follows from it ---- */

void sdk_put_off(struct tick *t, struct due *due)
{
	due->open = false;
	t->report->n_waiting++;
}

static void note_failure(struct tick *t, const struct due *due)
{
	t->report->n_failed++;
	snprintf(t->report->failure, sizeof(t->report->failure), "%.128s, branch %.32s: %d %.70s",
	         due->call.gid, due->call.branch, assent_reply_status(t->reply),
	         assent_reply_body(t->reply, NULL));
}

/* Silence it is, but whoever runs this service must hear that it asks in vain: in words that are the
 * same for every branch, and that do not hide what is about one. */
static void note_silence(struct tick *t, struct due *due)
{
	struct assent_tick_report *report = t->report;

	if (due->refused)
		sdk_text_printf(&due->why, ", it answered %d", due->refused);
	if (due->refused || report->n_failed + report->n_refused == 0)
		snprintf(report->failure, sizeof(report->failure), "%s", due->silence);
	report->n_refused += due->refused != 0;
	due->refused = 0;
	*due->silence = '\0';
}

static void note_orphan(struct tick *t, const char *name)
{
	struct assent_tick_report *report = t->report;

	if (report->n_orphan < ASSENT_ORPHAN_MAX)
		snprintf(report->orphan[report->n_orphan], sizeof(report->orphan[0]), "%s", name);
	report->n_orphan++;
}

/* A wish, and with `why` one that nobody with a right to decide has told us. */
static void settle(struct tick *t, struct due *due, const char *wish, const char *why)
{
	struct sdk_settled settled;

	due->open = false;
	sdk_reply_reset(t->reply);
	if (!sdk_settle(t->conn, &due->call, wish, why, &settled, t->reply)) {
		note_failure(t, due);
	} else if (settled.state == SDK_PRE_COMMITTED || settled.state == SDK_VOUCHED) {
		t->report->n_waiting++; /* prepared after all */
	} else if (why && *settled.heuristic) {
		t->report->n_heuristic++;
		snprintf(t->report->heuristic, sizeof(t->report->heuristic),
		         "%.128s, branch %.32s: %s: %.250s", due->call.gid, due->call.branch,
		         settled.state == SDK_COMMITTED ? "committed" : "aborted",
		         settled.heuristic);
	} else {
		t->report->n_swept++;
	}
}

static void obey(struct tick *t, struct due *due)
{
	bool commit = due->coordinator == COMMIT;

	if (due->coordinator == PRESUMED)
		note_orphan(t, due->call.name);
	if (!due->two_phase) {
		settle(t, due, commit ? "commit" : "abort", NULL);
		return;
	}
	due->open = false;
	sdk_reply_reset(t->reply);
	if (commit)
		assent_commit(t->conn, &due->call, NULL, NULL, t->reply);
	else
		assent_rollback(t->conn, &due->call, t->reply);
	if (assent_reply_status(t->reply) == 200)
		t->report->n_swept++;
	else
		note_failure(t, due);
}

/* Whether one of the addresses may be its coordinator's, for all we know. */
static bool is_ours(const struct tick *t, const struct due *due)
{
	for (size_t i = 0; i < t->p->n_coordinator; i++) {
		const char *cluster = t->p->coordinator[i].cluster;

		if (!*cluster || strcmp(cluster, due->call.cluster) == 0)
			return true;
	}
	return false;
}

/* After a round with the coordinator: those it has spoken about are done with. */
static void follow_coordinator(struct tick *t, struct due *dues, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (!dues[i].open)
			continue;
		if (dues[i].coordinator == PENDING ||
		    (dues[i].coordinator == SILENT && is_stopped(t)))
			sdk_put_off(t, &dues[i]);
		else if (dues[i].coordinator != SILENT)
			obey(t, &dues[i]);
		else if (*dues[i].silence)
			note_silence(t, &dues[i]);
		if (dues[i].open && !is_ours(t, &dues[i]))
			sdk_put_off(t, &dues[i]);
	}
}

/* True when it is not decided: a peer was silent, and so far the coordinator. */
static bool follow_peers(struct tick *t, struct due *due)
{
	const char *why = due->why.failed || due->why.len == 0 ? "" : due->why.data;
	struct sdk_text text = {0};
	bool decided = due->n_committed || due->n_aborted || due->n_answer == due->n_peer;

	if (!decided)
		return true;
	sdk_text_printf(&text, "the hold time was over, the coordinator not reached%s", why);
	settle(t, due, !due->n_committed && due->n_aborted ? "abort" : "commit",
	       text.failed ? "no memory for the reason" : text.data);
	sdk_text_release(&text);
	return false;
}

/* The protocol's rule, and the only way to end what is against the others. */
static void commit_alone(struct tick *t, struct due *due)
{
	struct sdk_text text = {0};

	sdk_text_printf(&text, "on_timeout is commit: the coordinator was not reached twice%s",
	                due->why.len ? due->why.data : "");
	settle(t, due, "commit", text.failed ? "on_timeout is commit" : text.data);
	sdk_text_release(&text);
}

static void terminate(struct tick *t, struct due *dues, size_t n)
{
	sdk_ask_peers(t, dues, n);
	for (size_t i = 0; i < n; i++) {
		if (dues[i].open &&
		    (dues[i].two_phase ||
		     (follow_peers(t, &dues[i]) && (!dues[i].call.may_commit || is_stopped(t)))))
			sdk_put_off(t, &dues[i]);
	}
	sdk_ask_coordinators(t, dues, n);
	follow_coordinator(t, dues, n);
	for (size_t i = 0; i < n; i++) {
		if (dues[i].open)
			commit_alone(t, &dues[i]);
	}
}

/* ---- a tick ---- */

/* Once: a wrong address or token is better heard of now than with the first branch in doubt. */
static void greet(struct tick *t)
{
	struct due hello = {0};

	sdk_greet_coordinators(t, &hello);
	t->p->has_greeted = true;
	if (*hello.silence && !is_stopped(t))
		note_silence(t, &hello);
	sdk_text_release(&hello.why);
}

static bool read_due(const PGresult *result, int row, struct due *due)
{
	const char *const identity[4] = {PQgetvalue(result, row, 0), PQgetvalue(result, row, 1),
	                                 PQgetvalue(result, row, 2), PQgetvalue(result, row, 3)};

	*due = (struct due){.open = true};
	if (!sdk_call_make(&due->call, "", identity))
		return false;
	due->two_phase = strcmp(PQgetvalue(result, row, 4), "2pc") == 0;
	due->call.may_commit = strcmp(PQgetvalue(result, row, 7), "commit") == 0;
	if (PQgetisnull(result, row, 8))
		return true;
	due->call.peers = strdup(PQgetvalue(result, row, 8));
	return due->call.peers != NULL;
}

static void release_due(struct due *due)
{
	sdk_text_release(&due->why);
	sdk_call_release(&due->call);
}

static PGresult *claim(const struct tick *t)
{
	char limit[16], retry[16];
	const char *values[] = {t->p->cluster, limit, retry};

	/* By chance, so that of two services with one database, one of which knows the coordinator,
	 * that one has its turn. */
	snprintf(limit, sizeof(limit), "%d", BATCH);
	snprintf(retry, sizeof(retry), "%d", sdk_jitter_ms(2 * t->p->retry_ms));
	return PQexecParams(t->conn,
	                    "SELECT cluster, namespace, gid, branch, mode, decision, prepared,"
	                    " on_timeout, peers FROM assent_participant.claim_due($1, $2, $3)",
	                    3, NULL, values, NULL, NULL, 0);
}

/* How many there were; negative: err. */
static int sweep_batch(struct tick *t, struct assent_error *err)
{
	struct due *dues = t->p->due;
	PGresult *result = claim(t);
	int rc = 0, n = sdk_pg_ok(result) ? PQntuples(result) : 0;

	if (!sdk_pg_ok(result))
		rc = sdk_fail_pg(err, t->conn, result);
	/* Another one comes first each time: who comes last may be put off. */
	t->p->turn++;
	for (int i = 0; i < n; i++) {
		int row = (int)((t->p->turn + (unsigned)i) % (unsigned)n);
		const char *decision = PQgetvalue(result, row, 5);

		if (!read_due(result, row, &dues[i])) {
			dues[i].open = false;
			rc = sdk_fail(err, ASSENT_E_NOMEM, "out of memory");
		} else if (is_stopped(t)) {
			sdk_put_off(t, &dues[i]);
		} else if (*decision) {
			settle(t, &dues[i], decision, NULL);
		} else if (*PQgetvalue(result, row, 6) != 't') {
			settle(t, &dues[i], "expire", NULL);
		}
	}
	PQclear(result);
	sdk_ask_coordinators(t, dues, (size_t)n);
	follow_coordinator(t, dues, (size_t)n);
	terminate(t, dues, (size_t)n);
	for (int i = 0; i < n; i++)
		release_due(&dues[i]);
	return rc ? rc : n;
}

static int find_orphans(struct tick *t, struct assent_error *err)
{
	const char *values[] = {t->p->cluster};
	PGresult *result = PQexecParams(t->conn, "SELECT assent_participant.orphans($1)", 1, NULL,
	                                values, NULL, NULL, 0);
	int rc = sdk_pg_ok(result) ? 0 : sdk_fail_pg(err, t->conn, result);

	for (int i = 0; rc == 0 && i < PQntuples(result); i++)
		note_orphan(t, PQgetvalue(result, i, 0));
	PQclear(result);
	return rc;
}

static int sweep(struct tick *t, struct assent_error *err)
{
	int n;

	if (!sdk_is_outside(t->conn, t->reply))
		return sdk_fail(err,
		                PQstatus(t->conn) == CONNECTION_OK ? ASSENT_E_INVALID
		                                                   : ASSENT_E_UNREACHABLE,
		                "the connection is lost or inside a transaction block");
	if (is_stopped(t))
		return 0;
	if (!t->p->has_greeted)
		greet(t);
	do {
		n = sweep_batch(t, err);
	} while (n == BATCH && !is_stopped(t) && sdk_now_us() < t->until_us);
	return n < 0 ? n : find_orphans(t, err);
}

int assent_participant_tick_sized(struct assent_participant *p, PGconn *conn,
                                  struct assent_tick_report *report, size_t size,
                                  struct assent_error *err)
{
	struct assent_tick_report known = {0};
	struct tick t = {.p = p, .conn = conn, .report = &known};
	int rc;

	if (report)
		memset(report, 0, size);
	if (!p)
		return sdk_fail(err, ASSENT_E_INVALID, "participant is NULL");
	t.until_us = sdk_now_us() + (int64_t)p->budget_ms * 1000;
	t.reply = assent_reply_new();
	if (!t.reply)
		return sdk_fail(err, ASSENT_E_NOMEM, "out of memory");
	rc = sweep(&t, err);
	if (report)
		memcpy(report, &known, size < sizeof(known) ? size : sizeof(known));
	assent_reply_free(t.reply);
	return rc;
}
