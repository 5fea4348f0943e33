/*
 * three_phase.c - a branch of a three-phase commit as a prepared transaction of PostgreSQL: its
 * calls, and the question of a peer. What happens when nobody calls any more is in sweep.c.
 *
 *	          can_commit         pre_commit                do_commit, or alone
 *	(nothing) ----------> asked ------------> pre-committed -----------------> committed
 *	     |                  |                  |        | poll            ^        ^
 *	     | poll, abort,     | expiry, poll,    | abort, v  do_commit, or  |        |
 *	     | intent           | abort, intent    | intent vouched ----------+        |
 *	     v                  v                  v        | abort           | alone  |
 *	  aborted <---------------------------------- <-----+                 +--------+
 *
 * Everything that is decided goes through `settle` (sql/participant/004): one transaction under the
 * lock of the branch's row. Hence:
 *	(1) what has been answered is durable, and what excludes it will find it.
 *	(2) pre-committed is who is prepared and finds nothing decided *afterwards*: a poll that came
 *	    during the work has aborted the branch, and pre_commit undoes it before it says no.
 *	(3) a decision is committed before it is carried out. If we die between the two, whoever comes
 *	    next carries it out, a call or the sweep.
 *	(4) as in two_phase.c the barrier row inside the prepared transaction keeps the work of two
 *	    pre_commits from being done both, and tells after the end what that was.
 */
#include <stdio.h>
#include <string.h>

#include "internal.h"

/* What `state` in a result of sql/participant/004 says, for the two that end a branch. */
static bool is_state(const PGresult *result, const char *state)
{
	return strcmp(PQgetvalue(result, 0, 0), state) == 0;
}

/* {"outcome": ..., "heuristic": true, "reason": ...}: to a call that comes too late to decide. */
static void reply_ended(struct assent_reply *reply, int status, const char *outcome,
                        const char *heuristic)
{
	assent_reply_set(reply, status, NULL, 0);
	if (status == 200 && !*heuristic)
		return;
	sdk_text_puts(&reply->body, "{");
	if (status != 200)
		sdk_text_printf(&reply->body, "\"outcome\":\"%s\"%s", outcome,
		                *heuristic ? "," : "");
	if (*heuristic) {
		sdk_text_puts(&reply->body, "\"heuristic\":true,\"reason\":");
		sdk_text_json(&reply->body, heuristic);
	}
	sdk_text_puts(&reply->body, "}");
}

static void reply_aborted(struct assent_reply *reply, const char *heuristic)
{
	reply_ended(reply, 409, "aborted", heuristic);
}

static void reply_committed(struct assent_reply *reply, const char *heuristic)
{
	reply_ended(reply, 409, "committed", heuristic);
}

/* ---- settle ---- */

/* The work is not there although it was to be committed: somebody has finished the transaction by
 * hand, or another call has a moment ago. A statement of its own sees what is committed by now. */
static enum step look_for_work(PGconn *conn, const struct assent_call *call,
                               struct sdk_settled *settled, struct assent_reply *reply)
{
	PGresult *result = sdk_branch_exec(
	    conn, call, "SELECT assent_participant.has_committed($1, $2, $3, $4)", NULL, NULL);
	enum step step = STEP_GO;

	if (!sdk_pg_ok(result)) {
		step = sdk_step_failed(conn, result, reply);
	} else if (!*PQgetvalue(result, 0, 0)) {
		settled->state = SDK_ABORTED;
		snprintf(settled->heuristic, sizeof(settled->heuristic),
		         "the prepared transaction was rolled back by hand");
	}
	PQclear(result);
	return step;
}

/* Repeated by whoever comes next until it is done: what has been decided stays decided. */
static enum step carry_out(PGconn *conn, const struct assent_call *call, const PGresult *result,
                           struct sdk_settled *settled, struct assent_reply *reply)
{
	bool commit = settled->state == SDK_COMMITTED;
	bool prepared = *PQgetvalue(result, 0, 2) != 0;
	bool finished = *PQgetvalue(result, 0, 3) != 0;
	enum step step = STEP_GO;

	if (!commit && settled->state != SDK_ABORTED)
		return STEP_GO;
	if (prepared)
		step = sdk_finish_prepared(conn, call, commit ? "COMMIT" : "ROLLBACK", &finished,
		                           reply);
	if (step == STEP_GO && commit && !finished)
		step = look_for_work(conn, call, settled, reply);
	return step;
}

static enum step settle_once(PGconn *conn, const struct assent_call *call, const char *wish,
                             const char *why, struct sdk_settled *settled,
                             struct assent_reply *reply)
{
	static const struct sdk_text nothing = {0};
	bool keeps = strcmp(wish, "keep") == 0;
	char ms[16];
	/* A NULL ends the list: an empty reason stands for none. */
	const char *more[] = {call->name, ms, wish, why ? why : "", NULL};
	PGresult *result;
	enum step step = STEP_GO;

	snprintf(ms, sizeof(ms), "%d",
	         sdk_slice_ms(sdk_now_us() + (int64_t)sdk_patience_ms(call) * 1000));
	result = sdk_branch_exec(conn, call,
	                         "SELECT state, heuristic, prepared, finished"
	                         " FROM assent_participant.settle($1, $2, $3, $4, $5, $6, $7,"
	                         " nullif($8, ''), $9)",
	                         more, keeps ? &reply->body : &nothing);
	if (!sdk_pg_ok(result)) {
		step = sdk_step_failed(conn, result, reply);
	} else {
		settled->state = is_state(result, "committed") ? SDK_COMMITTED
		                 : is_state(result, "aborted") ? SDK_ABORTED
		                 : is_state(result, "vouched") ? SDK_VOUCHED
		                                               : SDK_PRE_COMMITTED;
		snprintf(settled->heuristic, sizeof(settled->heuristic), "%s",
		         PQgetvalue(result, 0, 1));
		step = carry_out(conn, call, result, settled, reply);
	}
	PQclear(result);
	return step;
}

bool sdk_settle(PGconn *conn, const struct assent_call *call, const char *wish, const char *why,
                struct sdk_settled *settled, struct assent_reply *reply)
{
	int64_t until_us = sdk_now_us() + (int64_t)sdk_patience_ms(call) * 1000;
	enum step step;

	*settled = (struct sdk_settled){0};
	do {
		step = settle_once(conn, call, wish, why, settled, reply);
	} while (step == STEP_AGAIN && sdk_have_time(until_us, reply));
	return step == STEP_GO;
}

/* ---- can_commit and pre_commit ---- */

static enum step judge_branch(PGconn *conn, const PGresult *result, const struct assent_call *call,
                              struct assent_reply *reply)
{
	bool asks = strcmp(call->op, "can_commit") == 0;

	if (is_state(result, "open"))
		return STEP_GO;
	if (is_state(result, "late"))
		assent_reply_reason(reply, 409, "the call came after its deadline");
	else if (is_state(result, "aborted"))
		reply_aborted(reply, PQgetvalue(result, 0, 1));
	else if (is_state(result, "committed") && !asks)
		reply_committed(reply, PQgetvalue(result, 0, 1));
	else if (!asks && PQgetisnull(result, 0, 2) && sdk_result_is_due(conn, call))
		return STEP_AGAIN;
	else /* whether it could commit is no question any more */
		assent_reply_set(reply, 200, PQgetvalue(result, 0, 2),
		                 asks ? 0 : (size_t)PQgetlength(result, 0, 2));
	return STEP_ANSWERED;
}

/* Until when the sweep leaves the branch alone. A process that dies after PREPARE TRANSACTION has no
 * other hold time than this. */
static int due_ms(const struct assent_call *call)
{
	int timeout_ms = call->timeout_ms > 0 ? call->timeout_ms : 0;

	if (strcmp(call->op, "can_commit") == 0)
		return call->hold_ms ? call->hold_ms : timeout_ms;
	return timeout_ms + call->hold_ms;
}

static enum step open_branch(PGconn *conn, const struct assent_call *call,
                             struct assent_reply *reply)
{
	char ms[4][16];
	const char *more[] = {call->name,
	                      ms[0],
	                      ms[1],
	                      ms[2],
	                      ms[3],
	                      call->may_commit ? "commit" : "wait",
	                      call->peers ? call->peers : "-",
	                      NULL};
	PGresult *result;
	enum step step;

	snprintf(ms[0], sizeof(ms[0]), "%d", sdk_slice_ms(call->until_us));
	snprintf(ms[1], sizeof(ms[1]), "%d", call->timeout_ms);
	snprintf(ms[2], sizeof(ms[2]), "%d", call->hold_ms);
	snprintf(ms[3], sizeof(ms[3]), "%d", due_ms(call));
	result = sdk_branch_exec(conn, call,
	                         "SELECT state, heuristic, body FROM assent_participant"
	                         ".open_branch($1, $2, $3, $4, $5, $6, $7, $8, $9, $10,"
	                         " nullif($11, '-'))",
	                         more, NULL);
	step = sdk_pg_ok(result) ? judge_branch(conn, result, call, reply)
	                         : sdk_step_failed(conn, result, reply);
	PQclear(result);
	return step;
}

/* Locks nothing, keeps nothing: what it finds may be otherwise when pre_commit comes. */
static bool check(PGconn *conn, const struct assent_call *call, assent_work_fn *work, void *ctx,
                  struct assent_reply *reply)
{
	if (!sdk_pg_begin(conn, call, reply))
		return false;
	PQclear(PQexec(conn, "SET TRANSACTION READ ONLY"));
	if (sdk_do_work(conn, call, work, ctx, reply) != ASSENT_YES)
		return false;
	sdk_pg_rollback(conn);
	return true;
}

void assent_can_commit(PGconn *conn, const struct assent_call *call, assent_work_fn *work,
                       void *ctx, struct assent_reply *reply)
{
	enum step step;

	if (!sdk_may_begin(conn, call, reply))
		return;
	sdk_reply_reset(reply);
	if (work && !check(conn, call, work, ctx, reply))
		return;
	do {
		step = open_branch(conn, call, reply);
	} while (step == STEP_AGAIN && sdk_have_time(call->until_us, reply));
}

static enum step work_and_prepare(PGconn *conn, const struct assent_call *call,
                                  assent_work_fn *work, void *ctx, struct assent_reply *reply)
{
	struct sdk_settled settled;
	enum step step;

	if (sdk_do_work(conn, call, work, ctx, reply) != ASSENT_YES)
		return STEP_ANSWERED;
	if (reply->body.failed) {
		sdk_pg_rollback(conn);
		return STEP_ANSWERED;
	}
	step = sdk_prepare_transaction(conn, call, reply);
	if (step != STEP_GO)
		return step;
	/* Prepared is not yet pre-committed. If we die here, the call is repeated or the sweep asks;
	 * only the result is lost. */
	if (!sdk_settle(conn, call, "keep", NULL, &settled, reply))
		return STEP_ANSWERED;
	if (settled.state == SDK_ABORTED)
		reply_aborted(reply, settled.heuristic);
	else if (settled.state == SDK_COMMITTED)
		reply_committed(reply, settled.heuristic);
	return STEP_ANSWERED;
}

void assent_pre_commit(PGconn *conn, const struct assent_call *call, assent_work_fn *work,
                       void *ctx, struct assent_reply *reply)
{
	enum step step;

	if (!sdk_may_begin(conn, call, reply))
		return;
	sdk_reply_reset(reply);
	do {
		step = open_branch(conn, call, reply);
		if (step == STEP_GO)
			step = sdk_take_key(conn, call, reply);
		if (step == STEP_GO)
			step = work_and_prepare(conn, call, work, ctx, reply);
	} while (step == STEP_AGAIN && sdk_have_time(call->until_us, reply));
}

/* ---- do_commit, abort and status ---- */

void assent_do_commit(PGconn *conn, const struct assent_call *call, struct assent_reply *reply)
{
	struct sdk_settled settled;

	if (!sdk_may_begin(conn, call, reply) ||
	    !sdk_settle(conn, call, "commit", NULL, &settled, reply))
		return;
	if (settled.state == SDK_COMMITTED)
		reply_ended(reply, 200, "committed", settled.heuristic);
	else
		reply_aborted(reply, settled.heuristic);
}

void assent_abort(PGconn *conn, const struct assent_call *call, struct assent_reply *reply)
{
	struct sdk_settled settled;

	if (!sdk_may_begin(conn, call, reply) ||
	    !sdk_settle(conn, call, call->intent ? "intent" : "abort", NULL, &settled, reply))
		return;
	if (settled.state == SDK_ABORTED)
		reply_ended(reply, 200, "aborted", settled.heuristic);
	else if (settled.state == SDK_COMMITTED)
		reply_committed(reply, settled.heuristic);
	else
		sdk_reply_outcome(reply, "pre_committed", "a peer has been told so");
}

void assent_status(PGconn *conn, const struct assent_call *call, struct assent_reply *reply)
{
	static const char *const names[] = {[SDK_PRE_COMMITTED] = "pre_committed",
	                                    [SDK_VOUCHED] = "pre_committed",
	                                    [SDK_COMMITTED] = "committed",
	                                    [SDK_ABORTED] = "aborted"};
	struct sdk_settled settled;

	if (!sdk_may_begin(conn, call, reply) ||
	    !sdk_settle(conn, call, "poll", NULL, &settled, reply))
		return;
	assent_reply_set(reply, 200, NULL, 0);
	sdk_text_printf(&reply->body,
	                "{\"cluster\":\"%s\",\"gid\":\"%s\",\"branch\":\"%s\",\"state\":\"%s\"}",
	                call->cluster, call->gid, call->branch, names[settled.state]);
}
