#include <string.h>

#include "internal.h"

bool sdk_is_outside(PGconn *conn, struct assent_reply *reply)
{
	if (PQstatus(conn) != CONNECTION_OK)
		assent_reply_reason(reply, 503, "the database cannot be reached");
	else if (PQtransactionStatus(conn) != PQTRANS_IDLE)
		assent_reply_reason(reply, 500, "the connection is inside a transaction block");
	else
		return true;
	return false;
}

bool sdk_may_begin(PGconn *conn, const struct assent_call *call, struct assent_reply *reply)
{
	if (!reply)
		return false;
	if (!call)
		assent_reply_reason(reply, 500, "there is no call");
	return call && sdk_is_outside(conn, reply);
}

/* A vote is worth nothing when the transaction it is about has failed or is gone. Work that has
 * committed may say no, and yet all of it remains: nobody must take that for a refusal. */
static enum assent_vote check_vote(PGconn *conn, enum assent_vote vote, struct assent_reply *reply)
{
	PGTransactionStatusType status = PQtransactionStatus(conn);

	if (PQstatus(conn) != CONNECTION_OK || status == PQTRANS_UNKNOWN) {
		assent_reply_reason(reply, 503, "the database connection was lost");
		return ASSENT_FAILED;
	}
	if (status == PQTRANS_IDLE) {
		assent_reply_reason(reply, 500, "the work ended its transaction");
		return ASSENT_FAILED;
	}
	if (vote == ASSENT_YES && status != PQTRANS_INTRANS) {
		assent_reply_reason(reply, 500, "a statement failed and the work voted yes");
		return ASSENT_FAILED;
	}
	return vote;
}

enum assent_vote sdk_do_work(PGconn *conn, const struct assent_call *call, assent_work_fn *work,
                             void *ctx, struct assent_reply *reply)
{
	static const char read_only[] = "{\"vote\":\"read_only\"}";
	enum assent_vote vote;

	sdk_reply_reset(reply);
	if (work) {
		vote = work(call, conn, reply, ctx);
	} else {
		vote = ASSENT_FAILED;
		assent_reply_reason(reply, 500, "there is no function for this work");
	}
	/* Without work, a decision still leaves the rows that repetitions and late calls find. And
	 * with pre_commit it is too late to step aside: the peers count on this branch. */
	if (vote == ASSENT_READ_ONLY && (!call->is_vote || strcmp(call->op, "pre_commit") == 0))
		vote = ASSENT_YES;
	vote = check_vote(conn, vote, reply);
	switch (vote) {
	case ASSENT_YES:
		reply->status = 200;
		return vote;
	case ASSENT_READ_ONLY:
		assent_reply_set(reply, 200, read_only, sizeof(read_only) - 1);
		break;
	case ASSENT_REFUSED:
		reply->status = 409;
		break;
	case ASSENT_FAILED:
		if (reply->status < 500)
			assent_reply_reason(reply, 503, "the work could not be done now");
		break;
	}
	sdk_pg_rollback(conn);
	return vote;
}

/* The barrier let it run: work, stored reply and barrier row become visible in one commit. */
static void work_and_commit(PGconn *conn, const struct assent_call *call, assent_work_fn *work,
                            void *ctx, struct assent_reply *reply)
{
	struct assent_error err;
	PGresult *result;

	if (sdk_do_work(conn, call, work, ctx, reply) != ASSENT_YES)
		return;
	if ((reply->body.len || reply->body.failed) &&
	    assent_barrier_store(conn, call, reply, &err)) {
		sdk_pg_rollback(conn);
		assent_reply_reason(reply, 503, "%s", err.text);
		return;
	}
	/* If the connection dies here, nobody knows: the repetition finds the row, or does not. */
	result = PQexec(conn, "COMMIT");
	if (!sdk_pg_tag(result, "COMMIT"))
		sdk_reply_sql(reply, conn, result);
	PQclear(result);
}

void assent_run_once(PGconn *conn, const struct assent_call *call, assent_work_fn *work, void *ctx,
                     struct assent_reply *reply)
{
	struct assent_call told;
	PGresult *result;
	int verdict;

	if (!sdk_may_begin(conn, call, reply) || !sdk_pg_begin(conn, call, reply))
		return;
	told = *call;
	verdict = sdk_barrier_enter(conn, call, sdk_patience_ms(call), reply, &result);
	PQclear(result);
	if (verdict == ASSENT_BARRIER_RUN || verdict == ASSENT_BARRIER_RUN_CONFIRMED) {
		told.confirmed = verdict == ASSENT_BARRIER_RUN_CONFIRMED;
		work_and_commit(conn, &told, work, ctx, reply);
		return;
	}
	if (verdict != ASSENT_BARRIER_EMPTY) {
		sdk_pg_rollback(conn);
		return;
	}
	/* What an empty cancel remembers must be durable before it is answered. */
	result = PQexec(conn, "COMMIT");
	if (!sdk_pg_tag(result, "COMMIT"))
		sdk_reply_sql(reply, conn, result);
	PQclear(result);
}
