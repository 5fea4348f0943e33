/*
 * barrier.c - idempotency, empty cancel and late try, for operations that end with their own
 * local transaction. The rules are in sql/participant/: one function call decides, in one round
 * trip, inside the transaction that does the work.
 */
#include <stdio.h>
#include <string.h>

#include "internal.h"

static int int4_at(const PGresult *result, int column)
{
	const unsigned char *b = (const unsigned char *)PQgetvalue(result, 0, column);

	return (int)((uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3]);
}

static void use_stored(const PGresult *result, struct assent_reply *reply)
{
	int status = PQgetisnull(result, 0, 1) ? 200 : int4_at(result, 1);

	assent_reply_set(reply, status, PQgetvalue(result, 0, 2),
	                 (size_t)PQgetlength(result, 0, 2));
}

static int judge(const PGresult *result, struct assent_reply *reply)
{
	const char *verdict = PQgetvalue(result, 0, 0);

	if (strcmp(verdict, "run") == 0) {
		sdk_reply_reset(reply);
		return *PQgetvalue(result, 0, 3) ? ASSENT_BARRIER_RUN_CONFIRMED
		                                 : ASSENT_BARRIER_RUN;
	}
	if (strcmp(verdict, "duplicate") == 0) {
		use_stored(result, reply);
		return ASSENT_BARRIER_DUPLICATE;
	}
	if (strcmp(verdict, "empty") == 0) {
		sdk_reply_reset(reply);
		return ASSENT_BARRIER_EMPTY;
	}
	if (strcmp(verdict, "late") == 0)
		assent_reply_reason(reply, 409, "the call came after its deadline");
	else if (strcmp(verdict, "committed") == 0)
		sdk_reply_outcome(reply, "committed", "confirmed before");
	else if (strcmp(verdict, "missing") == 0)
		sdk_reply_outcome(reply, "aborted", "there is no try to confirm");
	else
		sdk_reply_outcome(reply, "aborted", "undone before it came");
	return ASSENT_BARRIER_SHUT_OUT;
}

int sdk_barrier_enter(PGconn *conn, const struct assent_call *call, int lock_ms,
                      struct assent_reply *reply, PGresult **result)
{
	char ms[16];
	bool late = call->is_vote && call->timeout_ms <= 0;
	const char *more[] = {call->op, ms, late ? "t" : "f", call->may_be_confirmed ? "t" : "f",
	                      NULL};

	snprintf(ms, sizeof(ms), "%d", lock_ms > 0 ? lock_ms : 1);
	*result = sdk_branch_exec(conn, call,
	                          "SELECT verdict, status, body, confirmed"
	                          " FROM assent_participant.enter($1, $2, $3, $4, $5, $6, $7, $8)",
	                          more, NULL);
	if (!sdk_pg_ok(*result)) {
		sdk_reply_sql(reply, conn, *result);
		return *sdk_sqlstate(*result) ? ASSENT_E_DATABASE : ASSENT_E_UNREACHABLE;
	}
	return judge(*result, reply);
}

int assent_barrier_enter(PGconn *conn, const struct assent_call *call, struct assent_reply *reply,
                         struct assent_error *err)
{
	PGresult *result;
	int verdict;

	if (!call || !reply)
		return sdk_fail(err, ASSENT_E_INVALID, "call or reply is NULL");
	if (PQtransactionStatus(conn) != PQTRANS_INTRANS)
		return sdk_fail(err, ASSENT_E_INVALID,
		                "the barrier works inside an open transaction");
	verdict = sdk_barrier_enter(conn, call, assent_call_remaining_ms(call), reply, &result);
	if (verdict < 0)
		sdk_fail_pg(err, conn, result);
	PQclear(result);
	return verdict;
}

int assent_barrier_store(PGconn *conn, const struct assent_call *call,
                         const struct assent_reply *reply, struct assent_error *err)
{
	char status[16];
	const char *more[] = {call ? call->op : NULL, status, NULL};
	PGresult *result;
	int rc = 0;

	if (!call || !reply)
		return sdk_fail(err, ASSENT_E_INVALID, "call or reply is NULL");
	if (PQtransactionStatus(conn) != PQTRANS_INTRANS)
		return sdk_fail(err, ASSENT_E_INVALID,
		                "the barrier works inside an open transaction");
	if (reply->body.failed)
		return sdk_fail(err, ASSENT_E_NOMEM, "out of memory");
	snprintf(status, sizeof(status), "%d", reply->status);
	result = sdk_branch_exec(conn, call,
	                         "SELECT assent_participant.store($1, $2, $3, $4, $5, $6, $7)",
	                         more, &reply->body);
	if (!sdk_pg_ok(result))
		rc = sdk_fail_pg(err, conn, result);
	PQclear(result);
	return rc;
}
