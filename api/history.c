/*
 * history.c - every call that was made for a transaction, oldest first.
 */
#include <stdlib.h>
#include <string.h>

#include "api/handlers.h"
#include "base/log.h"
#include "core/verdict.h"
#include "io/sql.h"
#include "node/driver.h"

#define LIMIT_DEFAULT 200
#define LIMIT_MAX     1000

/* Columns of SQL_ATTEMPTS. */
enum attempt_column {
	ATT_BRANCH,
	ATT_OP,
	ATT_ATTEMPT,
	ATT_STARTED,
	ATT_ENDED,
	ATT_STATUS,
	ATT_VERDICT,
	ATT_ERROR,
	ATT_NODE,
};

struct history {
	struct journal_waiter flushed;
	struct exchange *x;
	int64_t limit;
};

static void put_text(const char *name, const struct pg_result *r, size_t row, unsigned col,
                     struct buf *out)
{
	size_t len = 0;
	const char *s = pg_null(r, row, col) ? NULL : pg_bytes(r, row, col, &len);

	buf_printf(out, "\"%s\":", name);
	if (s)
		buf_put_json_strn(out, s, len);
	else
		buf_puts(out, "null");
}

static void put_attempt(const struct pg_result *r, size_t row, struct buf *out)
{
	buf_putc(out, '{');
	put_text("branch", r, row, ATT_BRANCH, out);
	buf_printf(out, ",\"op\":\"%s\",\"attempt\":%lld,\"started_at\":",
	           txn_op_str((enum txn_op)pg_int(r, row, ATT_OP)),
	           (long long)pg_int(r, row, ATT_ATTEMPT));
	buf_put_json_time(out, pg_int(r, row, ATT_STARTED) + PG_EPOCH_US);
	buf_puts(out, ",\"ended_at\":");
	buf_put_json_time(out, pg_int(r, row, ATT_ENDED) + PG_EPOCH_US);
	buf_puts(out, ",\"status\":");
	if (pg_null(r, row, ATT_STATUS))
		buf_puts(out, "null");
	else
		buf_printf(out, "%lld", (long long)pg_int(r, row, ATT_STATUS));
	buf_printf(out, ",\"verdict\":\"%s\",",
	           verdict_str((enum event_type)pg_int(r, row, ATT_VERDICT)));
	put_text("error", r, row, ATT_ERROR, out);
	buf_putc(out, ',');
	put_text("node", r, row, ATT_NODE, out);
	buf_putc(out, '}');
}

/* One statement tells whether there is such a transaction, the other has one row more than asked
 * for, if there are more. */
static void on_rows(void *ctx, const struct pg_outcome *outcome)
{
	struct history *h = ctx;
	struct exchange *x = h->x;
	struct buf body = BUF_INIT;
	const struct pg_result *r;
	size_t n, limit = (size_t)h->limit;

	free(h);
	if (outcome->err || (pg_rows(outcome->result[0]) == 0 && !node_ready(x->node))) {
		exchange_fail(x, PROBLEM_NOT_READY, "the database cannot be asked now; try again");
		return;
	}
	if (pg_rows(outcome->result[0]) == 0) {
		exchange_fail(x, PROBLEM_UNKNOWN_TRANSACTION, "there is no such transaction");
		return;
	}
	r = outcome->result[1];
	n = pg_rows(r) > limit ? limit : pg_rows(r);
	buf_puts(&body, "{\"gid\":");
	buf_put_json_str(&body, x->gid);
	buf_puts(&body, ",\"attempts\":[");
	for (size_t i = 0; i < n; i++) {
		if (i)
			buf_putc(&body, ',');
		put_attempt(r, i, &body);
	}
	buf_printf(&body, "],\"truncated\":%s", pg_rows(r) > limit ? "true" : "false");
	exchange_put_confirmed(x, &body);
	buf_putc(&body, '}');
	exchange_json(x, 200, &body, NULL);
}

static void read_rows(struct history *h)
{
	struct pg_batch *batch = pg_batch_begin(h->x->node->reader);
	struct pg_param param[2] = {{.data = h->x->gid, .len = strlen(h->x->gid)}};
	struct buf limit = BUF_INIT;

	if (!batch) {
		exchange_fail(h->x, PROBLEM_NOT_READY,
		              "the database cannot be asked now; try again");
		free(h);
		return;
	}
	pg_put_int8(&limit, h->limit + 1);
	param[1] = (struct pg_param){.data = limit.data, .len = limit.len};
	pg_batch_add(batch, SQL_EXISTS, param);
	pg_batch_add(batch, SQL_ATTEMPTS, param);
	pg_batch_send(batch, on_rows, h);
	buf_release(&limit);
}

static void on_flushed(void *ctx, int err)
{
	(void)err; /* what was lost with the session is not in the database either */
	read_rows(ctx);
}

static bool read_limit(const struct exchange *x, int64_t *limit)
{
	const char *text = http_request_query(x->rq, "limit");
	char *end;

	*limit = LIMIT_DEFAULT;
	if (!text)
		return true;
	*limit = strtol(text, &end, 10);
	return *text && !*end && *limit >= 1 && *limit <= LIMIT_MAX;
}

void handle_history(struct exchange *x)
{
	struct history *h;
	int64_t limit;

	if (!read_limit(x, &limit)) {
		exchange_fail(x, PROBLEM_INVALID_QUERY, "limit is a number from 1 to 1000");
		return;
	}
	h = calloc(1, sizeof *h);
	if (!h) {
		exchange_fail(x, PROBLEM_OVERLOADED, "out of memory; try again");
		return;
	}
	h->x = x;
	h->limit = limit;
	h->flushed.fn = on_flushed;
	h->flushed.ctx = h;
	/* Attempts are written lazily: what has happened should be there when somebody looks. */
	if (node_ready(x->node))
		journal_sync(x->node->journal, &h->flushed);
	else
		read_rows(h);
}
