/*
 * coupon - a step of a saga: redeems a coupon, or gives it back.
 *
 * A branch's payload is {"code": "SPRING"}. The action's result, {"discount": 5}, may stand in the
 * payloads of later steps as "{{steps.coupon.result.discount}}". Between action and compensate the
 * coupon is gone for everybody: a saga shows what it has done so far, and takes it back by doing the
 * opposite. libassent keeps the result, and gives it again to a call that is repeated.
 *
 *	coupon --listen 127.0.0.1:7483 --database CONNINFO
 */
#include "participants/samples/service.h"

/* Several of these may start at once on the same database. */
static const char tables[] =
    "BEGIN;"
    "SET LOCAL client_min_messages = warning;"
    "SELECT pg_advisory_xact_lock(7483);"
    "CREATE TABLE IF NOT EXISTS coupon (code text PRIMARY KEY, n int NOT NULL CHECK (n >= 0),"
    " discount int NOT NULL);"
    "INSERT INTO coupon SELECT * FROM (VALUES ('SPRING', 10, 5), ('LAST', 1, 20)) AS v"
    " WHERE NOT EXISTS (SELECT FROM coupon);"
    "COMMIT";

static const char redeem[] =
    "WITH done AS (UPDATE coupon SET n = n - 1 WHERE code = $1::json->>'code' AND n > 0"
    "  RETURNING json_build_object('discount', discount) AS result)"
    " SELECT EXISTS (SELECT FROM done), 'no coupon ' || coalesce($1::json->>'code', ''),"
    "  (SELECT result FROM done)";

static const char give_back[] =
    "WITH done AS (UPDATE coupon SET n = n + 1 WHERE code = $1::json->>'code' RETURNING 1)"
    " SELECT EXISTS (SELECT FROM done), 'no such coupon'";

int main(int argc, char **argv)
{
	struct service service = {
	    .name = "coupon",
	    .options.listen = "127.0.0.1:7483",
	    .tables = tables,
	    .path = "/coupon",
	    .ops = {{.op = "action", .sql = redeem}, {.op = "compensate", .sql = give_back}}};

	return service_main(&service, argc, argv);
}
