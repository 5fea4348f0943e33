/*
 * stock - takes goods out of stock, in every mode: the same work, held open in four ways.
 *
 *	2pc	prepare takes the goods in a transaction that stays open; libassent commits it, or
 *		rolls it back. The row is locked meanwhile.
 *	3pc	pre_commit does just that. can_commit looks beforehand whether there are enough, and
 *		locks nothing. When the coordinator does not come back to say how it ends, libassent
 *		asks for it there, then at the other branches, and commits when it may.
 *	tcc	try reserves them, confirm takes what is reserved, cancel gives it free. Nothing is
 *		locked, and nobody else can have them.
 *	saga	action takes them, compensate puts them back. Everybody sees them gone meanwhile.
 *
 * A branch's payload is {"sku": "tea", "n": 2}. libassent answers calls that come twice, late or out
 * of order: each statement here runs once, and only when there is something for it to do.
 *
 *	stock --listen 127.0.0.1:7481 --database CONNINFO
 */
#include "participants/samples/service.h"

/* Several of these may start at once on the same database. ON CONFLICT would wait for a row that a
 * prepared transaction has changed, and the service that is to commit it would never start. */
static const char tables[] =
    "BEGIN;"
    "SET LOCAL client_min_messages = warning;"
    "SELECT pg_advisory_xact_lock(7481);"
    "CREATE TABLE IF NOT EXISTS stock (sku text PRIMARY KEY, n int NOT NULL,"
    " reserved int NOT NULL DEFAULT 0, CHECK (reserved >= 0 AND n >= reserved));"
    /* Of a table that was made before there was Try-Confirm-Cancel. */
    "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'stock'::regclass"
    " AND attname = 'reserved') THEN ALTER TABLE stock ADD reserved int NOT NULL DEFAULT 0"
    " CHECK (reserved >= 0 AND n >= reserved); END IF; END $$;"
    "INSERT INTO stock (sku, n) SELECT * FROM (VALUES ('tea', 100), ('coffee', 50)) AS v"
    " WHERE NOT EXISTS (SELECT FROM stock);"
    "COMMIT";

#define WANT "WITH want AS (SELECT $1::json->>'sku' AS sku, ($1::json->>'n')::int AS n),"
/* Goods that nobody has reserved; nothing is done unless all of them are there. */
#define THERE       "stock.sku = want.sku AND want.n > 0 AND stock.n - reserved >= want.n"
#define IF_THERE    " FROM want WHERE " THERE " RETURNING 1)"
#define IN_ANY_CASE " FROM want WHERE stock.sku = want.sku RETURNING 1)"
#define ANSWER                                                                                     \
	" SELECT EXISTS (SELECT FROM done), 'not enough ' || coalesce(sku, 'goods without a sku')" \
	" FROM want"

static const char look[] = WANT "done AS (SELECT FROM stock, want WHERE " THERE ")" ANSWER;
static const char take[] = WANT "done AS (UPDATE stock SET n = stock.n - want.n" IF_THERE ANSWER;
static const char put_back[] = WANT
    "done AS (UPDATE stock SET n = stock.n + want.n" IN_ANY_CASE ANSWER;
static const char reserve[] = WANT
    "done AS (UPDATE stock SET reserved = reserved + want.n" IF_THERE ANSWER;
static const char take_reserved[] = WANT
    "done AS (UPDATE stock SET n = stock.n - want.n, reserved = reserved - want.n" IN_ANY_CASE
        ANSWER;
static const char let_go[] = WANT
    "done AS (UPDATE stock SET reserved = reserved - want.n" IN_ANY_CASE ANSWER;

int main(int argc, char **argv)
{
	struct service service = {
	    .name = "stock",
	    .options = {.listen = "127.0.0.1:7481", .coordinators = "http://127.0.0.1:7470"},
	    .tables = tables,
	    .path = "/stock",
	    .ops = {{.op = "prepare", .sql = take},
	            {.op = "can_commit", .sql = look},
	            {.op = "pre_commit", .sql = take},
	            {.op = "try", .sql = reserve},
	            {.op = "confirm", .sql = take_reserved},
	            {.op = "cancel", .sql = let_go, .undo_confirmed = put_back},
	            {.op = "action", .sql = take},
	            {.op = "compensate", .sql = put_back}}};

	return service_main(&service, argc, argv);
}
