/*
 * fuzz_journal.c - a row as recovery reads it, whatever stands in it.
 *
 *	line 1     state outcome created deadline decided, as numbers
 *	line 2     the branches' states, '0' and what follows in ASCII; behind a blank the
 *	           traceparent
 *	line 3     the submission
 *	line 4...  a branch each that was enlisted; or, behind a '!', that column byte by byte
 *
 * It is an error, or a transaction whose invariants hold, which goes on with EV_RESUME, and writes
 * the same again.
 */
#include <arpa/inet.h>
#include <libpq-fe.h>
#include <stdbool.h>

#include "base/clock.h"
#include "base/log.h"
#include "fuzz.h"
#include "io/journal_rows.h"
#include "node/node.h"

/* Its functions for one row are nobody else's. */
#include "node/load.c" /* NOLINT(bugprone-suspicious-include) */

#define COLUMNS (LOAD_RESULTS + 1)

static void put(PGresult *r, enum load_column col, const struct buf *value)
{
	must(!value->failed);
	must(PQsetvalue(r, 0, (int)col, value->data ? value->data : (char[]){""}, (int)value->len));
}

static void put_null(PGresult *r, enum load_column col)
{
	must(PQsetvalue(r, 0, (int)col, NULL, -1));
}

static void put_int(PGresult *r, enum load_column col, int64_t value, unsigned bytes)
{
	struct buf b = BUF_INIT;

	if (bytes == 2)
		buf_put_u16be(&b, (uint16_t)value);
	else
		buf_put_u64be(&b, (uint64_t)value);
	put(r, col, &b);
	buf_release(&b);
}

static void put_bytes(PGresult *r, enum load_column col, const char *data, size_t len)
{
	struct buf b = BUF_INIT;

	buf_append(&b, data, len);
	put(r, col, &b);
	buf_release(&b);
}

static PGresult *row_new(void)
{
	static char name[] = "c";
	PGresAttDesc column[COLUMNS];
	PGresult *r = PQmakeEmptyPGresult(NULL, PGRES_TUPLES_OK);

	must(r);
	for (int i = 0; i < COLUMNS; i++)
		column[i] = (PGresAttDesc){.name = name, .format = 1, .typid = 17, .typlen = -1};
	must(PQsetResultAttrs(r, COLUMNS, column));
	return r;
}

/* The line at *at, and *at behind it. */
static size_t next_line(const char *data, size_t size, size_t *at, const char **line)
{
	const char *end = memchr(data + *at, '\n', size - *at);
	size_t len = end ? (size_t)(end - data) - *at : size - *at;

	*line = data + *at;
	*at += len + (end != NULL);
	return len;
}

static void put_enlisted(PGresult *r, const char *data, size_t size, size_t at)
{
	struct buf b = BUF_INIT;

	if (at == size) {
		put_null(r, LOAD_ENLISTED);
		return;
	}
	if (data[at] == '!') {
		put_bytes(r, LOAD_ENLISTED, data + at + 1, size - at - 1);
		return;
	}
	while (at < size) {
		const char *line;
		size_t len = next_line(data, size, &at, &line);

		buf_put_u32be(&b, (uint32_t)len);
		buf_append(&b, line, len);
	}
	put(r, LOAD_ENLISTED, &b);
	buf_release(&b);
}

static void put_numbers(PGresult *r, const char *line, size_t len)
{
	static const enum load_column order[] = {LOAD_STATE, LOAD_OUTCOME, LOAD_CREATED,
	                                         LOAD_DEADLINE, LOAD_DECIDED};
	char *text = fuzz_string(line, len), *s = text;

	for (size_t i = 0; i < sizeof order / sizeof order[0]; i++)
		put_int(r, order[i], strtoll(s, &s, 10), i < 2 ? 2 : 8);
	free(text);
}

static PGresult *row_of(const char *data, size_t size)
{
	PGresult *r = row_new();
	size_t at = 0, len, n;
	const char *line;
	char states[TXN_BRANCH_MAX + 8];

	put_bytes(r, LOAD_GID, "order-1", 7);
	put_int(r, LOAD_SHARD, 3, 2);
	put_int(r, LOAD_MODE, MODE_TWO_PHASE, 2);
	put_bytes(r, LOAD_BODY_SHA256, "12345678123456781234567812345678", DIGEST_LEN);
	len = next_line(data, size, &at, &line);
	put_numbers(r, line, len);
	len = next_line(data, size, &at, &line);
	for (n = 0; n < len && n < sizeof states && line[n] != ' '; n++)
		states[n] = (char)(line[n] - '0');
	put_bytes(r, LOAD_BRANCH_STATE, states, n);
	if (n < len)
		put_bytes(r, LOAD_TRACEPARENT, line + n + 1, len - n - 1);
	else
		put_null(r, LOAD_TRACEPARENT);
	put_null(r, LOAD_PARKED_UNTIL);
	put_null(r, LOAD_PARKED_CALLS);
	put_null(r, LOAD_RESULTS);
	len = next_line(data, size, &at, &line);
	put_bytes(r, LOAD_SUBMISSION, line, len);
	put_enlisted(r, data, size, at);
	return r;
}

/* --- what came of it --- */

/* A bit for each state in which such a call is made. */
static unsigned called_in(const struct action *a)
{
	static const unsigned states[OP_MAX] = {
	    [OP_PREPARE] = 1u << TXN_PREPARING,
	    [OP_COMMIT] = 1u << TXN_COMMITTING,
	    [OP_ROLLBACK] = 1u << TXN_ABORTING | 1u << TXN_ARBITRATING,
	    [OP_TRY] = 1u << TXN_TRYING,
	    [OP_CONFIRM] = 1u << TXN_CONFIRMING,
	    [OP_CANCEL] = 1u << TXN_CANCELLING,
	    [OP_ACTION] = 1u << TXN_RUNNING,
	    [OP_COMPENSATE] = 1u << TXN_COMPENSATING,
	    [OP_CAN_COMMIT] = 1u << TXN_ASKING,
	    [OP_PRE_COMMIT] = 1u << TXN_PRE_COMMITTING,
	    [OP_DO_COMMIT] = 1u << TXN_COMMITTING,
	    [OP_ABORT] = 1u << TXN_ABORTING,
	    [OP_PRE_ABORT] = 1u << TXN_PRE_ABORTING,
	};

	return a->one_phase ? 1u << TXN_ONE_PHASE : states[a->op];
}

static void check_calls(const struct gtx *g, const struct effects *fx)
{
	for (size_t i = 0; i < fx->n_act; i++) {
		const struct action *a = &fx->act[i];

		if (a->type != ACT_CALL)
			continue;
		must(a->branch < g->spec.n_branch && a->timeout_us > 0);
		must(called_in(a) >> g->txn.state & 1);
	}
}

static void check_restored(struct gtx *g)
{
	static struct effects fx;
	struct columns columns = {0};
	enum txn_outcome before = txn_decision(&g->txn);

	must(g->spec.n_branch == g->txn.n_branch && g->txn.n_branch <= TXN_BRANCH_MAX);
	must(g->entry.n_branch == g->txn.n_branch && g->entry.stored);
	must(strlen(g->traceparent) < sizeof g->traceparent);
	must(g->entry.durable.state == (int16_t)g->txn.state);
	for (unsigned i = 0; i < g->txn.n_branch; i++) {
		must(g->entry.durable.branch[i] == (uint8_t)g->txn.branch[i].state);
		must(g->txn.branch[i].timeout_us > 0 && g->spec.branch[i].id);
		must((g->spec.branch[i].enlisted != NULL) <= g->spec.interactive);
	}
	txn_check(&g->txn);
	must(txn_step(&g->txn, &(struct event){.type = EV_RESUME, .now_us = clock_mono_us()},
	              &fx) == 0);
	must(before == OUTCOME_PENDING || txn_decision(&g->txn) == before);
	check_calls(g, &fx);
	columns_reset(&columns, COLUMNS_UPDATE);
	g->entry.flying = g->entry.durable;
	columns_add_entry(&columns, &g->entry);
	must(columns.n_row == 1);
	columns_release(&columns);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct node node;
	PGresult *r = row_of((const char *)data, size);
	const struct pg_result *row = (const struct pg_result *)(const void *)r;
	size_t len;
	const char *body = pg_bytes(row, 0, LOAD_SUBMISSION, &len);
	struct gtx *g;
	int rc;

	log_set_level((enum log_level)(LOG_ERROR + 1));
	g = gtx_new(&node, body, len);
	must(g);
	rc = restore(g, row, 0);
	must(rc == 0 || rc == ERR_INVALID);
	if (rc == 0)
		check_restored(g);
	gtx_free(g);
	PQclear(r);
	return 0;
}
