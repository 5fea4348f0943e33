#include "core/verdict.h"

#include <string.h>

#include "core/txn.h"

static bool is(const char *member, const char *value)
{
	return member && strcmp(member, value) == 0;
}

static bool absent(const char *member)
{
	return !member || *member == '\0';
}

static enum event_type judge_success(bool vote, const struct answer *a)
{
	if (!vote)
		return EV_DONE;
	if (is(a->vote, "read_only"))
		return EV_READ_ONLY;
	/* 200 {"vote":"no"}: whatever was meant, it is not the durable promise that a yes is. */
	return absent(a->vote) || is(a->vote, "yes") ? EV_YES : EV_CONTRACT;
}

static enum event_type judge_conflict(enum txn_op op, bool one_phase, const struct answer *a)
{
	bool vote = txn_op_votes(op, one_phase);

	/* A prepare decides nothing, so an outcome in its answer is just a No. Whoever is asked to
	 * pre-commit may have come to an end by itself. */
	if (!vote || one_phase || op == OP_PRE_COMMIT) {
		if (is(a->outcome, "committed"))
			return EV_FOUND_COMMITTED;
		if (is(a->outcome, "aborted"))
			return EV_FOUND_ABORTED;
	}
	if (op == OP_PRE_ABORT && is(a->outcome, "pre_committed"))
		return EV_VOUCHED;
	/* A confirm may be refused, where its transaction can do something about it. */
	return vote || op == OP_CONFIRM ? EV_NO : EV_CONTRACT;
}

enum event_type verdict_judge(enum txn_op op, bool one_phase, const struct answer *answer)
{
	int status = answer->status;

	if (answer->err != 0)
		return EV_UNKNOWN;
	if (status == 202 || status == 425)
		return EV_WORKING;
	if (status >= 200 && status <= 299)
		return judge_success(txn_op_votes(op, one_phase), answer);
	if (status == 409)
		return judge_conflict(op, one_phase, answer);
	/* 408: the request did not arrive whole, and a repetition may. */
	if (status == 408 || status == 429 || (status >= 500 && status <= 599))
		return EV_UNKNOWN;
	return EV_CONTRACT;
}

const char *verdict_str(enum event_type type)
{
	static const char *const name[EV_TYPE_MAX] = {
	    [EV_SUBMIT] = "submit",
	    [EV_YES] = "yes",
	    [EV_READ_ONLY] = "read_only",
	    [EV_NO] = "no",
	    [EV_DONE] = "done",
	    [EV_FOUND_COMMITTED] = "found_committed",
	    [EV_FOUND_ABORTED] = "found_aborted",
	    [EV_WORKING] = "working",
	    [EV_UNKNOWN] = "unknown",
	    [EV_CONTRACT] = "contract",
	    [EV_TIMER] = "timer",
	    [EV_RESUME] = "resume",
	    [EV_BEGIN] = "begin",
	    [EV_ENLIST] = "enlist",
	    [EV_COMMIT] = "commit",
	    [EV_ROLLBACK] = "rollback",
	    [EV_VOUCHED] = "vouched",
	};

	return (unsigned)type < EV_TYPE_MAX ? name[type] : "?";
}
