/*
 * list.c - transactions by what they are and what they carry, newest first, a page at a time.
 *
 * A request looks at a bounded number of transactions. When few of them match, the page is short,
 * even empty, and next_cursor goes on where the looking ended.
 */
#include <stdlib.h>
#include <string.h>

#include "api/cursor.h"
#include "api/handlers.h"
#include "api/list_query.h"
#include "api/waiting.h"
#include "base/log.h"
#include "io/digest.h"
#include "io/sql.h"
#include "node/driver.h"

#define WALK_ROWS  10000
#define LABEL_ROWS 1000

/* Columns of SQL_LIST_WALK and SQL_LIST_LABEL. */
enum list_column {
	LIST_GID,
	LIST_MODE, /* NULL: not a transaction, but how far was looked */
	LIST_STATE,
	LIST_OUTCOME,
	LIST_CREATED,
	LIST_DEADLINE,
	LIST_DECIDED,
	LIST_ENDED_AT,
	LIST_PARKED_FOR,
	LIST_PARKED_UNTIL,
	LIST_N_BRANCH,
	LIST_LABELS,
};

struct list_request {
	struct exchange *x;
	size_t limit;
	uint8_t filters[CURSOR_FILTERS_LEN];
};

static void put_time(const char *name, const struct pg_result *r, size_t row, unsigned col,
                     struct buf *out)
{
	buf_printf(out, ",\"%s\":", name);
	buf_put_json_time(out, pg_null(r, row, col) ? 0 : pg_int(r, row, col) + PG_EPOCH_US);
}

static void copy_gid(const struct pg_result *r, size_t row, char gid[GID_MAX + 1])
{
	size_t len;
	const char *s = pg_bytes(r, row, LIST_GID, &len);

	len = len > GID_MAX ? GID_MAX : len;
	memcpy(gid, s, len);
	gid[len] = '\0';
}

static void put_parked(const struct pg_result *r, size_t row, struct buf *out)
{
	unsigned since = pg_null(r, row, LIST_DECIDED) ? LIST_CREATED : LIST_DECIDED;
	struct waiting_parked p = {
	    .since_us = pg_int(r, row, since) + PG_EPOCH_US,
	    .until_us = pg_int(r, row, LIST_PARKED_UNTIL) + PG_EPOCH_US,
	};

	p.participant = pg_bytes(r, row, LIST_PARKED_FOR, &p.participant_len);
	waiting_put_json_parked(&p, out);
}

static void put_summary(const struct node *n, const struct pg_result *r, size_t row,
                        struct buf *out)
{
	const struct gtx *g = NULL;
	char gid[GID_MAX + 1];
	const char *labels;
	size_t len;

	copy_gid(r, row, gid);
	buf_puts(out, "{\"gid\":");
	buf_put_json_str(out, gid);
	buf_printf(out, ",\"mode\":\"%s\",\"state\":\"%s\",\"outcome\":\"%s\"",
	           txn_mode_str((enum txn_mode)pg_int(r, row, LIST_MODE)),
	           txn_state_str((enum txn_state)pg_int(r, row, LIST_STATE)),
	           txn_outcome_str((enum txn_outcome)pg_int(r, row, LIST_OUTCOME)));
	put_time("created_at", r, row, LIST_CREATED, out);
	put_time("deadline_at", r, row, LIST_DEADLINE, out);
	put_time("decided_at", r, row, LIST_DECIDED, out);
	put_time("ended_at", r, row, LIST_ENDED_AT, out);
	buf_puts(out, ",\"labels\":");
	if (pg_null(r, row, LIST_LABELS)) {
		buf_puts(out, "{}");
	} else {
		labels = pg_bytes(r, row, LIST_LABELS, &len); /* JSON, made by the database */
		buf_append(out, labels, len);
	}
	buf_printf(
	    out, ",\"n_branches\":%lld,\"waiting_for\":", (long long)pg_int(r, row, LIST_N_BRANCH));
	if (pg_null(r, row, LIST_ENDED_AT))
		g = driver_find(n, gid);
	if (!g && pg_null(r, row, LIST_ENDED_AT) && !pg_null(r, row, LIST_PARKED_FOR))
		put_parked(r, row, out);
	else
		waiting_put_json(g && g->entry.stored ? g : NULL, out);
	buf_putc(out, '}');
}

static void put_next(const struct list_request *lr, const struct pg_result *r, size_t row,
                     struct buf *out)
{
	const struct lists *l = &lr->x->node->lists;
	struct cursor c = {.created_us = pg_int(r, row, LIST_CREATED)};

	memcpy(c.filters, lr->filters, sizeof c.filters);
	copy_gid(r, row, c.gid);
	buf_putc(out, '"');
	cursor_put(&c, l->key, sizeof l->key, out);
	buf_putc(out, '"');
}

/* The database was asked for one row more than the page has. */
static void put_page(const struct list_request *lr, const struct pg_result *r, struct buf *out)
{
	size_t n_row = pg_rows(r), n = 0;

	buf_puts(out, "{\"transactions\":[");
	while (n < n_row && n < lr->limit && !pg_null(r, n, LIST_MODE)) {
		if (n)
			buf_putc(out, ',');
		put_summary(lr->x->node, r, n++, out);
	}
	buf_puts(out, "],\"next_cursor\":");
	if (n < n_row)
		put_next(lr, r, pg_null(r, n, LIST_MODE) ? n : n - 1, out);
	else
		buf_puts(out, "null");
	exchange_put_confirmed(lr->x, out);
	buf_putc(out, '}');
}

static void on_page(void *ctx, const struct pg_outcome *outcome)
{
	struct list_request *lr = ctx;
	struct exchange *x = lr->x;
	struct buf body = BUF_INIT;

	x->node->lists.n_waiting--;
	if (outcome->err && strcmp(outcome->sqlstate, "57014") == 0) {
		exchange_fail(x, PROBLEM_OVERLOADED, "this list takes too long now; try again");
	} else if (outcome->err || !x->node->lists.has_key) {
		log_warn(NULL, "a list failed: %s", outcome->err ? outcome->message : "no key");
		exchange_fail(x, PROBLEM_NOT_READY, "the database cannot be asked now; try again");
	} else {
		put_page(lr, outcome->result[0], &body);
		exchange_json(x, 200, &body, NULL);
	}
	free(lr);
}

/* Scalars lie one after the other in `value`; a parameter that is not there stays NULL. */
struct params {
	struct pg_param param[13];
	struct buf value[13];
};

static void set_int(struct params *p, unsigned i, int64_t v, unsigned width)
{
	if (width == 1)
		buf_putc(&p->value[i], (char)v);
	else if (width == 2)
		pg_put_int2(&p->value[i], (int16_t)v);
	else
		pg_put_int8(&p->value[i], v);
}

static void set_labels(struct params *p, const struct list_query *q)
{
	for (unsigned k = 0; k < 2; k++) {
		struct buf *b = &p->value[11 + k];

		pg_array_begin(b, PG_TEXT);
		for (size_t i = 0; i < q->n_label; i++) {
			const char *s = k ? q->label[i].value : q->label[i].name;

			pg_array_add_bytes(b, s, strlen(s));
		}
		pg_array_end(b);
	}
}

static int64_t to_pg(int64_t us)
{
	return us == INT64_MIN || us == INT64_MAX ? us : us - PG_EPOCH_US;
}

/* In the order of LIST_PARAMS in io/sql_list.c. `from` is in PostgreSQL's time already. */
static bool fill(struct params *p, const struct list_query *q, const struct cursor *from)
{
	enum list_half half = list_query_half(q);
	uint8_t sha[DIGEST_LEN];
	bool failed = false;

	set_int(p, 0, from->created_us, 8);
	buf_puts(&p->value[1], from->gid);
	set_int(p, 2, to_pg(q->created_after_us), 8);
	set_int(p, 3, q->n_label ? LABEL_ROWS : WALK_ROWS, 8);
	set_int(p, 4, q->limit + 1, 8);
	if (half != LIST_ANY)
		set_int(p, 5, half == LIST_UNFINISHED, 1);
	if (q->mode >= 0)
		set_int(p, 6, q->mode, 2);
	if (q->state >= 0)
		set_int(p, 7, q->state, 2);
	if (q->outcome >= 0)
		set_int(p, 8, q->outcome, 2);
	if (q->participant) {
		digest_sha256(q->participant, strlen(q->participant), sha);
		buf_append(&p->value[9], sha, JOURNAL_PARTICIPANT_LEN);
	}
	if (q->stuck_for_ms >= 0)
		set_int(p, 10, q->stuck_for_ms, 8);
	if (q->n_label)
		set_labels(p, q);
	for (unsigned i = 0; i < 13; i++) {
		p->param[i] = (struct pg_param){p->value[i].data, p->value[i].len};
		failed |= p->value[i].failed;
	}
	p->param[1].data = from->gid; /* "" is a value, too */
	return !failed;
}

static bool send(struct list_request *lr, const struct list_query *q, const struct cursor *from)
{
	struct pg_batch *batch = pg_batch_begin(lr->x->node->lists.pg);
	struct params p = {0};
	bool ok = batch && fill(&p, q, from);

	/* A batch that was begun is sent: its statement is refused when a parameter is missing. */
	if (batch) {
		pg_batch_add(batch, q->n_label ? SQL_LIST_LABEL : SQL_LIST_WALK, p.param);
		pg_batch_send(batch, on_page, lr);
		lr->x->node->lists.n_waiting++;
	}
	for (unsigned i = 0; i < 13; i++)
		buf_release(&p.value[i]);
	return ok || batch;
}

static bool find_start(const struct exchange *x, const struct list_query *q, struct cursor *from)
{
	const struct lists *l = &x->node->lists;

	*from = (struct cursor){.created_us = to_pg(q->created_before_us)};
	if (!q->cursor)
		return true;
	return cursor_parse(q->cursor, l->key, sizeof l->key, from) == 0 &&
	       memcmp(from->filters, q->filters, sizeof q->filters) == 0;
}

void handle_list(struct exchange *x)
{
	struct lists *l = &x->node->lists;
	struct list_request *lr;
	struct list_query q;
	struct cursor from;
	struct complaint c;

	if (list_query_read(x->rq, &q, &c)) {
		exchange_problem(x, &c);
		return;
	}
	if (!l->has_key) {
		exchange_fail(x, PROBLEM_NOT_READY, "the database cannot be asked now; try again");
		return;
	}
	if (!find_start(x, &q, &from)) {
		exchange_fail(x, PROBLEM_INVALID_CURSOR,
		              "use next_cursor as it came, with the filters of the page before");
		return;
	}
	lr = l->n_waiting < LISTS_MAX ? calloc(1, sizeof *lr) : NULL;
	if (!lr) {
		exchange_fail(x, PROBLEM_OVERLOADED, "too many lists at a time; try again");
		return;
	}
	lr->x = x;
	lr->limit = (size_t)q.limit;
	memcpy(lr->filters, q.filters, sizeof q.filters);
	if (!send(lr, &q, &from)) {
		free(lr);
		exchange_fail(x, PROBLEM_NOT_READY, "the database cannot be asked now; try again");
	}
}
