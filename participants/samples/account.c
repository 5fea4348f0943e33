/*
 * account - takes money from an account, in every mode, and shows Try-Confirm-Cancel in full.
 *
 *	tcc	try freezes the amount: it is still on the account, and cannot be spent twice. confirm
 *		deducts it, cancel releases it. Under on_confirm_failure "cancel" a cancel may come
 *		after the confirm, and pays back.
 *	2pc	prepare deducts it in a transaction that stays open until the decision.
 *	3pc	pre_commit does just that; can_commit looks beforehand, and locks nothing.
 *	saga	action deducts it, compensate pays it back.
 *
 * A branch's payload is {"user": 7, "amount": 30}; {"discount": 5} lessens the amount. libassent
 * answers calls that come twice, late or out of order: each statement here runs once, and only when
 * there is something for it to do. A confirm therefore finds what its try has frozen.
 *
 *	account --listen 127.0.0.1:7482 --database CONNINFO
 */
#include "participants/samples/service.h"

/* Several of these may start at once on the same database. ON CONFLICT would wait for a row that a
 * prepared transaction has changed, and the service that is to commit it would never start. */
static const char tables[] =
    "BEGIN;"
    "SET LOCAL client_min_messages = warning;"
    "SELECT pg_advisory_xact_lock(7482);"
    "CREATE TABLE IF NOT EXISTS account (user_id bigint PRIMARY KEY, balance bigint NOT NULL,"
    " frozen bigint NOT NULL DEFAULT 0, CHECK (frozen >= 0 AND balance >= frozen));"
    /* Of a table that was made before there was Try-Confirm-Cancel. */
    "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'account'::regclass"
    " AND attname = 'frozen') THEN ALTER TABLE account ADD frozen bigint NOT NULL DEFAULT 0"
    " CHECK (frozen >= 0 AND balance >= frozen); END IF; END $$;"
    "INSERT INTO account (user_id, balance) SELECT * FROM (VALUES (7, 1000), (8, 20)) AS v"
    " WHERE NOT EXISTS (SELECT FROM account);"
    "COMMIT";

#define WANT                                                            \
	"WITH want AS (SELECT ($1::json->>'user')::bigint AS user_id, " \
	"($1::json->>'amount')::bigint"                                 \
	" - coalesce(($1::json->>'discount')::bigint, 0) AS amount),"
/* Money that is not frozen for somebody else; nothing is done unless all of it is there. */
#define THERE       "account.user_id = want.user_id AND amount >= 0 AND balance - frozen >= amount"
#define IF_THERE    " FROM want WHERE " THERE " RETURNING 1)"
#define IN_ANY_CASE " FROM want WHERE account.user_id = want.user_id RETURNING 1)"
#define ANSWER                                                                          \
	" SELECT EXISTS (SELECT FROM done), 'not enough money on the account of user '" \
	" || coalesce(user_id::text, 'unknown') FROM want"

static const char look[] = WANT "done AS (SELECT FROM account, want WHERE " THERE ")" ANSWER;
static const char freeze[] = WANT
    "done AS (UPDATE account SET frozen = frozen + amount" IF_THERE ANSWER;
static const char deduct_frozen[] = WANT
    "done AS (UPDATE account SET balance = balance - amount, frozen = frozen - amount" IN_ANY_CASE
        ANSWER;
static const char release[] = WANT
    "done AS (UPDATE account SET frozen = frozen - amount" IN_ANY_CASE ANSWER;
static const char deduct[] = WANT
    "done AS (UPDATE account SET balance = balance - amount" IF_THERE ANSWER;
static const char pay_back[] = WANT
    "done AS (UPDATE account SET balance = balance + amount" IN_ANY_CASE ANSWER;

int main(int argc, char **argv)
{
	struct service service = {
	    .name = "account",
	    .options = {.listen = "127.0.0.1:7482", .coordinators = "http://127.0.0.1:7470"},
	    .tables = tables,
	    .path = "/account",
	    .ops = {{.op = "prepare", .sql = deduct},
	            {.op = "can_commit", .sql = look},
	            {.op = "pre_commit", .sql = deduct},
	            {.op = "try", .sql = freeze},
	            {.op = "confirm", .sql = deduct_frozen},
	            {.op = "cancel", .sql = release, .undo_confirmed = pay_back},
	            {.op = "action", .sql = deduct},
	            {.op = "compensate", .sql = pay_back}}};

	return service_main(&service, argc, argv);
}
