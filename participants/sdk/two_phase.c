/*
 * two_phase.c - a branch of a two-phase commit as a prepared transaction of PostgreSQL.
 *
 *	           prepare                      commit
 *	(nothing) ---------> prepared name ------------> barrier row made by prepare
 *	    |                      | rollback
 *	    | rollback             v
 *	    +--------------> barrier row made by rollback (the tombstone)
 *
 * The barrier row of the key "prepare" is written inside the prepared transaction. Until that
 * ends nobody sees the row, yet it blocks every insert of its key. Hence:
 *	(1) no insert of the key waits longer than SLICE_MS, and after each wait the name is looked
 *	    for again: only a running transaction lets go of the key by itself, a prepared one never.
 *	(2) a rollback answers only after its tombstone is committed. ROLLBACK PREPARED comes first,
 *	    so that the tombstone cannot wait for the transaction it is to undo; a prepare that slips
 *	    in between holds the key again, and the loop begins anew.
 *	(3) a commit makes nothing: what is not prepared is either committed (its row is visible) or
 *	    will never be.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "internal.h"

#define SLICE_MS 50
#define BUSY_NS  1000000
#define KEPT_MS  "2000"

bool sdk_have_time(int64_t until_us, struct assent_reply *reply)
{
	if (sdk_now_us() < until_us)
		return true;
	assent_reply_reason(reply, 503, "another call for this branch is still at work");
	return false;
}

int sdk_slice_ms(int64_t until_us)
{
	int64_t left = (until_us - sdk_now_us()) / 1000;

	return left >= SLICE_MS ? SLICE_MS : left > 0 ? (int)left : 1;
}

enum step sdk_step_failed(PGconn *conn, const PGresult *result, struct assent_reply *reply)
{
	if (sdk_is_contended(result))
		return STEP_AGAIN;
	sdk_reply_sql(reply, conn, result);
	return STEP_ANSWERED;
}

static bool is_undone(const char *made_by)
{
	return strcmp(made_by, "rollback") == 0;
}

/* ---- prepare ---- */

/* A result can be stored only after PREPARE TRANSACTION, by the connection that did it: in between,
 * a duplicate would say yes without it. What tells is an advisory lock, which the prepared transaction
 * keeps. Who prepared may have died in between: nobody waits longer than KEPT_MS for it. */
#define MARK "hashtextextended('assent result:' || $1 || ':' || $2 || ':' || $3 || ':' || $4, 0)"

static bool mark_result(PGconn *conn, const struct assent_call *call, struct assent_reply *reply)
{
	PGresult *result = sdk_branch_exec(conn, call, "SELECT pg_advisory_xact_lock(" MARK ")",
	                                   NULL, NULL);
	bool ok = sdk_pg_ok(result);

	if (!ok) {
		sdk_pg_rollback(conn);
		sdk_reply_sql(reply, conn, result);
	}
	PQclear(result);
	return ok;
}

bool sdk_result_is_due(PGconn *conn, const struct assent_call *call)
{
	static const struct timespec pause = {0, BUSY_NS};
	static const char sql[] =
	    "SELECT NOT pg_try_advisory_xact_lock_shared(" MARK ") AND EXISTS"
	    " (SELECT FROM pg_prepared_xacts WHERE gid = $5 AND database = current_database()"
	    "   AND prepared > clock_timestamp() - $6::int * interval '1 ms')";
	const char *more[] = {call->name, KEPT_MS, NULL};
	PGresult *result = sdk_branch_exec(conn, call, sql, more, NULL);
	bool due = sdk_pg_ok(result) && *PQgetvalue(result, 0, 0) != 0;

	PQclear(result);
	if (due)
		nanosleep(&pause, NULL);
	return due;
}

static enum step judge_branch(PGconn *conn, const PGresult *result, const struct assent_call *call,
                              struct assent_reply *reply)
{
	bool prepared = *PQgetvalue(result, 0, 0) != 0;
	bool decided = !PQgetisnull(result, 0, 1);

	if (!prepared && decided && is_undone(PQgetvalue(result, 0, 1))) {
		sdk_reply_outcome(reply, "aborted", "rolled back before");
		return STEP_ANSWERED;
	}
	if (prepared && PQgetisnull(result, 0, 2) && sdk_result_is_due(conn, call))
		return STEP_AGAIN;
	if (prepared || decided) {
		assent_reply_set(reply, 200, PQgetvalue(result, 0, 2),
		                 (size_t)PQgetlength(result, 0, 2));
		return STEP_ANSWERED;
	}
	/* Without a trace of the branch, a call this late may be a duplicate of one whose traces
	 * have been cleared away. */
	if (call->timeout_ms <= 0) {
		assent_reply_reason(reply, 409, "the call came after its deadline");
		return STEP_ANSWERED;
	}
	return STEP_GO;
}

/* What is recorded about a branch before its work: parameters for begin_branch, note_branch. */
struct facts {
	char timeout[16], hold[16];
	const char *more[5];
};

static void set_facts(struct facts *f, const struct assent_call *call)
{
	snprintf(f->timeout, sizeof(f->timeout), "%d", call->timeout_ms);
	snprintf(f->hold, sizeof(f->hold), "%d", call->hold_ms);
	f->more[0] = call->mode;
	f->more[1] = call->name;
	f->more[2] = f->timeout;
	f->more[3] = f->hold;
	f->more[4] = NULL;
}

static enum step find_branch(PGconn *conn, const struct assent_call *call,
                             struct assent_reply *reply)
{
	struct facts facts;
	PGresult *result;
	enum step step;

	set_facts(&facts, call);
	result = sdk_branch_exec(
	    conn, call,
	    "SELECT prepared, made_by, body"
	    " FROM assent_participant.begin_branch($1, $2, $3, $4, $5, $6, $7, $8)",
	    facts.more, NULL);
	step = sdk_pg_ok(result) ? judge_branch(conn, result, call, reply)
	                         : sdk_step_failed(conn, result, reply);
	PQclear(result);
	return step;
}

/* The same as find_branch and take_key for a branch that is new, as nearly all are: recording its
 * facts, beginning and taking the key are one round trip, and the key alone tells that it was new.
 * Otherwise, or when that cannot be told in a moment, nothing has happened: STEP_AGAIN. */
static enum step take_new(PGconn *conn, const struct assent_call *call, struct assent_reply *reply)
{
	struct facts facts;
	char limit[16];
	const char *more[] = {"1", limit, NULL};
	const struct sdk_query note = {"SELECT assent_participant.note_branch($1, $2, $3, $4, $5,"
	                               " $6, $7, $8)",
	                               facts.more};
	const struct sdk_query take = {
	    "SELECT assent_participant.take_prepare($1, $2, $3, $4, $5, $6)", more};
	PGresult *result;
	enum step step;

	if (call->timeout_ms <= 0)
		return STEP_AGAIN;
	set_facts(&facts, call);
	snprintf(limit, sizeof(limit), "%d", sdk_patience_ms(call));
	result = sdk_branch_begin(conn, call, &note, &take);
	if (!sdk_pg_ok(result))
		step = sdk_step_failed(conn, result, reply);
	else
		step = *PQgetvalue(result, 0, 0) ? STEP_GO : STEP_AGAIN;
	PQclear(result);
	if (step != STEP_GO)
		sdk_pg_rollback(conn);
	return step;
}

enum step sdk_take_key(PGconn *conn, const struct assent_call *call, struct assent_reply *reply)
{
	PGresult *result;
	enum step step = STEP_GO;
	int verdict;

	if (!sdk_pg_begin(conn, call, reply))
		return STEP_ANSWERED;
	verdict = sdk_barrier_enter(conn, call, sdk_slice_ms(call->until_us), reply, &result);
	if (verdict < 0)
		step = sdk_step_failed(conn, result, reply);
	else if (verdict != ASSENT_BARRIER_RUN)
		step = STEP_AGAIN;
	PQclear(result);
	if (step != STEP_GO)
		sdk_pg_rollback(conn);
	return step;
}

enum step sdk_prepare_transaction(PGconn *conn, const struct assent_call *call,
                                  struct assent_reply *reply)
{
	char sql[SDK_NAME_MAX + 32];
	PGresult *result;
	enum step step = STEP_GO;

	if (reply->body.len && !mark_result(conn, call, reply))
		return STEP_ANSWERED;
	snprintf(sql, sizeof(sql), "PREPARE TRANSACTION '%s'", call->name);
	result = PQexec(conn, sql);
	if (!sdk_pg_tag(result, "PREPARE TRANSACTION"))
		step = sdk_step_failed(conn, result, reply);
	PQclear(result);
	sdk_pg_rollback(conn);
	return step;
}

/* The result goes into the barrier row, for a prepare that is repeated after the commit, and next
 * to the facts, for one repeated before it. Facts cannot hold it earlier: it exists only now. If
 * the process dies between PREPARE and the second, the repeated call says yes without it. */
static enum step work_and_prepare(PGconn *conn, const struct assent_call *call,
                                  assent_work_fn *work, void *ctx, struct assent_reply *reply)
{
	static const char keep[] = "UPDATE assent_participant.branch SET result = $5"
	                           " WHERE (cluster, namespace, gid, branch) = ($1, $2, $3, $4)";
	struct assent_error err;
	enum step step;

	if (sdk_do_work(conn, call, work, ctx, reply) != ASSENT_YES)
		return STEP_ANSWERED;
	if (reply->body.len && assent_barrier_store(conn, call, reply, &err)) {
		sdk_pg_rollback(conn);
		assent_reply_reason(reply, 503, "%s", err.text);
		return STEP_ANSWERED;
	}
	step = sdk_prepare_transaction(conn, call, reply);
	if (step != STEP_GO)
		return step;
	if (reply->body.len)
		PQclear(sdk_branch_exec(conn, call, keep, NULL, &reply->body));
	return STEP_ANSWERED;
}

void assent_prepare(PGconn *conn, const struct assent_call *call, assent_work_fn *work, void *ctx,
                    struct assent_reply *reply)
{
	enum step step;

	if (!sdk_may_begin(conn, call, reply))
		return;
	step = take_new(conn, call, reply);
	if (step == STEP_GO)
		step = work_and_prepare(conn, call, work, ctx, reply);
	/* Even without time left, what is known of the branch is looked up once. */
	while (step == STEP_AGAIN) {
		step = find_branch(conn, call, reply);
		if (step == STEP_GO)
			step = sdk_take_key(conn, call, reply);
		if (step == STEP_GO)
			step = work_and_prepare(conn, call, work, ctx, reply);
		if (step == STEP_AGAIN && !sdk_have_time(call->until_us, reply))
			return;
	}
}

/* ---- commit and rollback ---- */

enum step sdk_finish_prepared(PGconn *conn, const struct assent_call *call, const char *verb,
                              bool *found, struct assent_reply *reply)
{
	static const struct timespec pause = {0, BUSY_NS};
	char sql[SDK_NAME_MAX + 32];
	PGresult *result;
	const char *state;
	enum step step = STEP_GO;

	snprintf(sql, sizeof(sql), "%s PREPARED '%s'", verb, call->name);
	result = PQexec(conn, sql);
	state = sdk_sqlstate(result);
	*found = sdk_pg_ok(result);
	if (strcmp(state, "55000") == 0) {
		/* Busy: another session is finishing it. There is no lock to wait for. */
		nanosleep(&pause, NULL);
		step = STEP_AGAIN;
	} else if (!*found && strcmp(state, "42704") != 0) {
		step = sdk_step_failed(conn, result, reply);
	}
	PQclear(result);
	return step;
}

static enum step find_committed(PGconn *conn, const struct assent_call *call,
                                struct assent_reply *reply)
{
	PGresult *result = sdk_branch_exec(
	    conn, call,
	    "SELECT made_by FROM assent_participant.barrier"
	    " WHERE (cluster, namespace, gid, branch, op) = ($1, $2, $3, $4, 'prepare')",
	    NULL, NULL);
	enum step step = STEP_ANSWERED;

	if (!sdk_pg_ok(result))
		step = sdk_step_failed(conn, result, reply);
	else if (PQntuples(result) == 0)
		sdk_reply_outcome(reply, "aborted", "never prepared");
	else if (is_undone(PQgetvalue(result, 0, 0)))
		sdk_reply_outcome(reply, "aborted", "rolled back before");
	else
		sdk_reply_reset(reply);
	PQclear(result);
	return step;
}

void assent_commit(PGconn *conn, const struct assent_call *call, assent_work_fn *work, void *ctx,
                   struct assent_reply *reply)
{
	int64_t until_us;
	bool found;
	enum step step;

	if (call && call->one_phase) {
		assent_run_once(conn, call, work, ctx, reply);
		return;
	}
	if (!sdk_may_begin(conn, call, reply))
		return;
	until_us = sdk_now_us() + (int64_t)sdk_patience_ms(call) * 1000;
	sdk_reply_reset(reply);
	do {
		step = sdk_finish_prepared(conn, call, "COMMIT", &found, reply);
		if (step == STEP_GO && found)
			return;
		if (step == STEP_GO)
			step = find_committed(conn, call, reply);
	} while (step == STEP_AGAIN && sdk_have_time(until_us, reply));
}

/* Takes the prepare's key for ever, or finds that it was committed. */
static enum step bury(PGconn *conn, const struct assent_call *call, int lock_ms,
                      struct assent_reply *reply)
{
	char ms[16];
	const char *more[] = {ms, NULL};
	PGresult *result;
	enum step step = STEP_ANSWERED;

	snprintf(ms, sizeof(ms), "%d", lock_ms);
	result = sdk_branch_exec(conn, call, "SELECT assent_participant.bury($1, $2, $3, $4, $5)",
	                         more, NULL);
	if (!sdk_pg_ok(result))
		step = sdk_step_failed(conn, result, reply);
	else if (is_undone(PQgetvalue(result, 0, 0)))
		sdk_reply_reset(reply);
	else
		sdk_reply_outcome(reply, "committed", "committed before");
	PQclear(result);
	return step;
}

void assent_rollback(PGconn *conn, const struct assent_call *call, struct assent_reply *reply)
{
	int64_t until_us;
	bool found;
	enum step step;

	if (!sdk_may_begin(conn, call, reply))
		return;
	until_us = sdk_now_us() + (int64_t)sdk_patience_ms(call) * 1000;
	do {
		step = sdk_finish_prepared(conn, call, "ROLLBACK", &found, reply);
		if (step == STEP_GO)
			step = bury(conn, call, sdk_slice_ms(until_us), reply);
	} while (step == STEP_AGAIN && sdk_have_time(until_us, reply));
}
