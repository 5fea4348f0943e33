#include "io/journal_rows.h"

#include <string.h>

#include "io/sql.h"

#define CREATE_COLUMNS      15
#define UPDATE_COLUMNS      9 /* the first of a creation's */
#define LABEL_COLUMNS       4 /* behind a creation's, when there is any label */
#define ALERT_CLOSE_COLUMNS 5 /* the first of a raise's */

static const enum pg_type entry_type[CREATE_COLUMNS] = {
    PG_TEXT,        PG_INT2,        PG_INT8,  PG_INT2,        PG_INT2,
    PG_TIMESTAMPTZ, PG_TIMESTAMPTZ, PG_BYTEA, PG_TIMESTAMPTZ, PG_INT2,
    PG_TIMESTAMPTZ, PG_BYTEA,       PG_BYTEA, PG_BYTEA,       PG_TEXT,
};
static const enum pg_type label_type[LABEL_COLUMNS] = {
    PG_TEXT,
    PG_TEXT,
    PG_TEXT,
    PG_TIMESTAMPTZ,
};
static const enum pg_type park_type[] = {
    PG_TEXT, PG_INT2, PG_INT8, PG_TEXT, PG_TIMESTAMPTZ, PG_BYTEA, PG_BYTEA,
};
static const enum pg_type branch_type[] = {PG_TEXT, PG_INT2, PG_INT8, PG_INT2, PG_BYTEA, PG_BYTEA};
static const enum pg_type result_type[] = {PG_TEXT, PG_INT2, PG_INT8, PG_INT2, PG_BYTEA};
static const enum pg_type attempt_type[] = {
    PG_TEXT,        PG_INT2,        PG_INT8, PG_TEXT, PG_INT2, PG_INT4,
    PG_TIMESTAMPTZ, PG_TIMESTAMPTZ, PG_INT2, PG_INT2, PG_TEXT,
};
static const enum pg_type alert_type[] = {
    PG_TEXT, PG_INT2, PG_INT8, PG_TEXT, PG_TIMESTAMPTZ, PG_TEXT,
    PG_TEXT, PG_TEXT, PG_TEXT, PG_TEXT, PG_INT2,
};

static const struct {
	enum sql_write statement;
	const enum pg_type *type;
	unsigned n;
} shape[] = {
    [COLUMNS_CREATE] = {SQL_CREATE, entry_type, CREATE_COLUMNS},
    [COLUMNS_UPDATE] = {SQL_UPDATE, entry_type, UPDATE_COLUMNS},
    [COLUMNS_PARK] = {SQL_PARK, park_type, sizeof park_type / sizeof park_type[0]},
    [COLUMNS_BRANCH] = {SQL_ENLIST, branch_type, sizeof branch_type / sizeof branch_type[0]},
    [COLUMNS_RESULT] = {SQL_RESULT, result_type, sizeof result_type / sizeof result_type[0]},
    [COLUMNS_HISTORY] = {SQL_HISTORY, attempt_type, sizeof attempt_type / sizeof attempt_type[0]},
    [COLUMNS_ALERT_RAISE] = {SQL_ALERT_RAISE, alert_type, sizeof alert_type / sizeof alert_type[0]},
    [COLUMNS_ALERT_CLOSE] = {SQL_ALERT_CLOSE, alert_type, ALERT_CLOSE_COLUMNS},
};

_Static_assert(sizeof attempt_type / sizeof attempt_type[0] <= COLUMNS_MAX, "columns fit");
_Static_assert(CREATE_COLUMNS + LABEL_COLUMNS <= COLUMNS_MAX, "columns fit");

void columns_add_time(struct buf *b, int64_t us)
{
	if (us == 0)
		pg_array_add_null(b);
	else
		pg_array_add_int8(b, us - PG_EPOCH_US);
}

void columns_add_text(struct buf *b, const char *s)
{
	if (s)
		pg_array_add_bytes(b, s, strlen(s));
	else
		pg_array_add_null(b);
}

void columns_reset(struct columns *c, enum columns_kind kind)
{
	c->kind = kind;
	for (unsigned i = 0; i < shape[kind].n; i++) {
		buf_reset(&c->column[i]);
		pg_array_begin(&c->column[i], shape[kind].type[i]);
	}
	c->n_row = 0;
	c->n_label = 0;
	c->n_byte = 0;
}

void columns_release(struct columns *c)
{
	for (unsigned i = 0; i < COLUMNS_MAX; i++)
		buf_release(&c->column[i]);
}

static void add_labels(struct columns *c, const struct journal_entry *e)
{
	struct buf *col = &c->column[CREATE_COLUMNS];

	for (unsigned i = 0; i < LABEL_COLUMNS && c->n_label == 0; i++) {
		buf_reset(&col[i]);
		pg_array_begin(&col[i], label_type[i]);
	}
	for (size_t i = 0; i < e->n_label; i++) {
		pg_array_add_bytes(&col[0], e->gid, e->gid_len);
		columns_add_text(&col[1], e->label[i].name);
		columns_add_text(&col[2], e->label[i].value);
		columns_add_time(&col[3], e->created_us);
	}
	c->n_label += e->n_label;
}

void columns_add_entry(struct columns *c, const struct journal_entry *e)
{
	struct buf *col = c->column;
	const struct journal_state *s = &e->flying;

	pg_array_add_bytes(&col[0], e->gid, e->gid_len);
	pg_array_add_int2(&col[1], e->shard);
	pg_array_add_int8(&col[2], e->epoch);
	pg_array_add_int2(&col[3], s->state);
	pg_array_add_int2(&col[4], s->outcome);
	columns_add_time(&col[5], s->decided_us);
	columns_add_time(&col[6], s->ended_us);
	pg_array_add_bytes(&col[7], s->branch, e->n_branch);
	columns_add_time(&col[8], s->deadline_us);
	c->n_row++;
	if (c->kind == COLUMNS_UPDATE)
		return;
	pg_array_add_int2(&col[9], e->mode);
	columns_add_time(&col[10], e->created_us);
	pg_array_add_bytes(&col[11], e->body_sha256, 32);
	pg_array_add_bytes(&col[12], e->submission, e->submission_len);
	pg_array_add_bytes(&col[13], e->participants, e->participants_len);
	columns_add_text(&col[14], e->traceparent);
	if (e->n_label)
		add_labels(c, e);
	c->n_byte += e->submission_len;
}

void columns_add_park(struct columns *c, const struct journal_entry *e)
{
	struct buf *col = c->column;

	pg_array_add_bytes(&col[0], e->gid, e->gid_len);
	pg_array_add_int2(&col[1], e->shard);
	pg_array_add_int8(&col[2], e->epoch);
	columns_add_text(&col[3], e->park->whom);
	columns_add_time(&col[4], e->park->until_us);
	pg_array_add_bytes(&col[5], e->park->calls, e->park->n_calls);
	pg_array_add_bytes(&col[6], e->flying.branch, e->n_branch);
	c->n_row++;
}

void columns_add_branches(struct columns *c, const struct journal_entry *e)
{
	struct buf *col = c->column;

	for (unsigned i = e->n_enlisted_stored; i < e->n_enlisted_flying; i++) {
		pg_array_add_bytes(&col[0], e->gid, e->gid_len);
		pg_array_add_int2(&col[1], e->shard);
		pg_array_add_int8(&col[2], e->epoch);
		pg_array_add_int2(&col[3], (int16_t)i);
		pg_array_add_bytes(&col[4], e->enlisted[i].text, e->enlisted[i].len);
		pg_array_add_bytes(&col[5], e->enlisted[i].participant, JOURNAL_PARTICIPANT_LEN);
		c->n_byte += e->enlisted[i].len;
		c->n_row++;
	}
}

void columns_add_results(struct columns *c, const struct journal_entry *e)
{
	struct buf *col = c->column;

	for (unsigned i = e->n_result_stored; i < e->n_result_flying; i++) {
		pg_array_add_bytes(&col[0], e->gid, e->gid_len);
		pg_array_add_int2(&col[1], e->shard);
		pg_array_add_int8(&col[2], e->epoch);
		pg_array_add_int2(&col[3], e->result[i].branch);
		pg_array_add_bytes(&col[4], e->result[i].text, e->result[i].len);
		c->n_byte += e->result[i].len;
		c->n_row++;
	}
}

void columns_add_attempt(struct columns *c, const struct journal_attempt *a)
{
	struct buf *col = c->column;

	columns_add_text(&col[0], a->gid);
	pg_array_add_int2(&col[1], a->shard);
	pg_array_add_int8(&col[2], a->epoch);
	columns_add_text(&col[3], a->branch);
	pg_array_add_int2(&col[4], a->op);
	pg_array_add_int4(&col[5], a->attempt);
	columns_add_time(&col[6], a->started_us);
	columns_add_time(&col[7], a->ended_us);
	if (a->status)
		pg_array_add_int2(&col[8], a->status);
	else
		pg_array_add_null(&col[8]);
	pg_array_add_int2(&col[9], a->verdict);
	columns_add_text(&col[10], a->error);
	c->n_row++;
}

int columns_send(struct columns *c, struct pg_batch *batch, const char *extra)
{
	struct pg_param param[PG_PARAM_MAX];
	enum sql_write statement = c->n_label ? SQL_CREATE_LABELED : shape[c->kind].statement;
	unsigned n = shape[c->kind].n + (c->n_label ? LABEL_COLUMNS : 0);

	for (unsigned i = 0; i < n; i++) {
		pg_array_end(&c->column[i]);
		if (c->column[i].failed)
			return ERR_NOMEM;
		param[i] = (struct pg_param){.data = c->column[i].data, .len = c->column[i].len};
	}
	if (extra)
		param[n] = (struct pg_param){.data = extra, .len = strlen(extra)};
	pg_batch_add(batch, (size_t)statement, param);
	return 0;
}

int columns_mark(const struct columns *c, bool *came_back, const struct pg_result *rows)
{
	memset(came_back, 0, c->n_row * sizeof *came_back);
	for (size_t row = 0; row < pg_rows(rows); row++) {
		int64_t n = pg_int(rows, row, 0);

		if (n < 1 || (uint64_t)n > c->n_row || came_back[n - 1])
			return ERR_LOST;
		came_back[n - 1] = true;
	}
	return 0;
}

bool columns_row_is(const struct pg_result *rows, size_t row, const struct journal_entry *e)
{
	const char *gid;
	size_t len;

	if (row >= pg_rows(rows))
		return false;
	gid = pg_bytes(rows, row, 0, &len);
	return len == e->gid_len && memcmp(gid, e->gid, len) == 0;
}
