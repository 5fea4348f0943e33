/*
 * admin_alerts.c - what a person should look at, and what to look for.
 */
#include <stdlib.h>
#include <string.h>

#include "api/handlers.h"
#include "base/log.h"
#include "io/sql.h"
#include "node/alerts.h"

#define LIMIT_DEFAULT 50
#define LIMIT_MAX     200

/* Columns of SQL_ALERTS_ANY and SQL_ALERTS_OPEN. */
enum alert_column {
	ALERT_ID,
	ALERT_KIND,
	ALERT_SEVERITY,
	ALERT_PARTICIPANT,
	ALERT_ERROR,
	ALERT_GID,
	ALERT_BRANCH,
	ALERT_DETAIL,
	ALERT_COUNT,
	ALERT_OPEN,
	ALERT_FIRST,
	ALERT_LAST,
	ALERT_CLOSED,
	ALERT_MEMBERS,
};

struct listing {
	struct exchange *x;
	size_t limit;
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
	buf_putc(out, ',');
}

static void put_time(const char *name, const struct pg_result *r, size_t row, unsigned col,
                     struct buf *out)
{
	int64_t at_us = pg_null(r, row, col) ? 0 : pg_int(r, row, col) + PG_EPOCH_US;

	buf_printf(out, "\"%s\":", name);
	buf_put_json_time(out, at_us);
	buf_putc(out, ',');
}

static bool column_is(const struct pg_result *r, size_t row, unsigned col, const char *text)
{
	size_t len;
	const char *s = pg_bytes(r, row, col, &len);

	return strlen(text) == len && memcmp(s, text, len) == 0;
}

/* For a person who has never seen this kind of alert. */
static void put_sentences(const struct pg_result *r, size_t row, struct buf *out)
{
	size_t len, error_len;
	const char *peer = pg_bytes(r, row, ALERT_PARTICIPANT, &len);
	const char *error = pg_bytes(r, row, ALERT_ERROR, &error_len);
	struct buf what = BUF_INIT;
	const char *look;

	if (column_is(r, row, ALERT_KIND, "exhausted")) {
		buf_printf(
		    &what,
		    "What %.*s has to be told could not be delivered in many attempts: %.*s.",
		    (int)len, peer, (int)error_len, error);
		look = "See why the participant does not answer. The delivery goes on by itself "
		       "and the alert closes when it is through.";
	} else if (column_is(r, row, ALERT_KIND, "contract")) {
		buf_printf(&what, "%.*s answered a decision outside of the contract: %.*s.",
		           (int)len, peer, (int)error_len, error);
		look = "Look for a wrong address, a proxy in between or a defect of the "
		       "participant. The delivery is repeated, rarely, until the answer is right.";
	} else {
		buf_printf(&what, "%.*s decided alone and against the decision: %.*s.", (int)len,
		           peer, (int)error_len, error);
		look = "Participants disagree and no machine can undo it. Compare the data of "
		       "the participants, repair it by hand, and find out who decided there. "
		       "Then close this alert: README, \"Outcome mixed\".";
	}
	buf_puts(out, "\"what\":");
	buf_put_json_strn(out, what.data ? what.data : "", what.len);
	buf_puts(out, ",\"look_at\":");
	buf_put_json_str(out, look);
	out->failed |= what.failed;
	buf_release(&what);
}

static void put_alert(const struct pg_result *r, size_t row, struct buf *out)
{
	size_t len;
	const char *members = pg_bytes(r, row, ALERT_MEMBERS, &len);

	buf_printf(out, "{\"id\":\"%lld\",\"state\":\"%s\",", (long long)pg_int(r, row, ALERT_ID),
	           pg_null(r, row, ALERT_CLOSED) ? "open" : "closed");
	put_text("kind", r, row, ALERT_KIND, out);
	put_text("severity", r, row, ALERT_SEVERITY, out);
	put_text("participant", r, row, ALERT_PARTICIPANT, out);
	put_text("error", r, row, ALERT_ERROR, out);
	put_text("gid", r, row, ALERT_GID, out);
	put_text("branch", r, row, ALERT_BRANCH, out);
	put_text("detail", r, row, ALERT_DETAIL, out);
	put_time("first_at", r, row, ALERT_FIRST, out);
	put_time("last_at", r, row, ALERT_LAST, out);
	put_time("closed_at", r, row, ALERT_CLOSED, out);
	buf_printf(out, "\"count\":%lld,\"open\":%lld,", (long long)pg_int(r, row, ALERT_COUNT),
	           (long long)pg_int(r, row, ALERT_OPEN));
	put_sentences(r, row, out);
	buf_puts(out, ",\"branches\":");
	buf_append(out, members, len); /* the database made this JSON */
	buf_putc(out, '}');
}

static void on_rows(void *ctx, const struct pg_outcome *outcome)
{
	struct listing *l = ctx;
	struct exchange *x = l->x;
	size_t n, limit = l->limit;
	const struct pg_result *r;
	struct buf body = BUF_INIT;

	free(l);
	if (outcome->err) {
		exchange_fail(x, PROBLEM_NOT_READY, "the database cannot be asked now; try again");
		return;
	}
	r = outcome->result[0];
	n = pg_rows(r) > limit ? limit : pg_rows(r);
	buf_puts(&body, "{\"alerts\":[");
	for (size_t i = 0; i < n; i++) {
		if (i)
			buf_putc(&body, ',');
		put_alert(r, i, &body);
	}
	buf_puts(&body, "],\"next_cursor\":");
	if (pg_rows(r) > limit)
		buf_printf(&body, "\"%lld\"", (long long)pg_int(r, n - 1, ALERT_ID));
	else
		buf_puts(&body, "null");
	exchange_put_confirmed(x, &body);
	buf_putc(&body, '}');
	exchange_json(x, 200, &body, NULL);
}

struct filter {
	const char *state;
	const char *kind;
	const char *severity;
	const char *participant;
	int64_t limit;
	int64_t before; /* 0: from the newest on */
};

static bool read_number(const struct exchange *x, const char *name, int64_t max, int64_t *value)
{
	const char *text = http_request_query(x->rq, name);
	char *end;

	if (!text)
		return true;
	*value = strtol(text, &end, 10);
	return *text && !*end && *value >= 1 && *value <= max;
}

/* NULL, or what is wrong. */
static const char *read_filter(const struct exchange *x, struct filter *f)
{
	*f = (struct filter){
	    .state = http_request_query(x->rq, "state"),
	    .kind = http_request_query(x->rq, "kind"),
	    .severity = http_request_query(x->rq, "severity"),
	    .participant = http_request_query(x->rq, "participant"),
	    .limit = LIMIT_DEFAULT,
	};
	if (f->state && strcmp(f->state, "open") != 0 && strcmp(f->state, "closed") != 0)
		return "state is open or closed";
	if (f->kind && !alert_kind_known(f->kind))
		return "kind is exhausted, contract or heuristic";
	if (f->severity && !alert_severity_known(f->severity))
		return "severity is warning, error or critical";
	if (!read_number(x, "limit", LIMIT_MAX, &f->limit))
		return "limit is a number from 1 to 200";
	if (!read_number(x, "cursor", INT64_MAX, &f->before))
		return "cursor is what next_cursor said";
	return NULL;
}

static struct pg_param text_param(const char *s)
{
	return (struct pg_param){.data = s, .len = s ? strlen(s) : 0};
}

static void read_rows(struct listing *l, struct pg_batch *batch, const struct filter *f)
{
	bool open = f->state && strcmp(f->state, "open") == 0;
	struct buf limit = BUF_INIT, before = BUF_INIT;
	struct pg_param param[6] = {text_param(f->state), text_param(f->kind),
	                            text_param(f->severity), text_param(f->participant)};

	pg_put_int8(&before, f->before);
	pg_put_int8(&limit, f->limit + 1);
	if (f->before)
		param[4] = (struct pg_param){.data = before.data, .len = before.len};
	param[5] = (struct pg_param){.data = limit.data, .len = limit.len};
	pg_batch_add(batch, open ? SQL_ALERTS_OPEN : SQL_ALERTS_ANY, param);
	pg_batch_send(batch, on_rows, l);
	buf_release(&before);
	buf_release(&limit);
}

void handle_alerts(struct exchange *x)
{
	struct filter f;
	const char *wrong = read_filter(x, &f);
	struct pg_batch *batch;
	struct listing *l;

	if (wrong) {
		exchange_fail(x, PROBLEM_INVALID_QUERY, wrong);
		return;
	}
	l = calloc(1, sizeof *l);
	batch = l ? pg_batch_begin(x->node->reader) : NULL;
	if (!batch) {
		free(l);
		exchange_fail(x, PROBLEM_NOT_READY, "the database cannot be asked now; try again");
		return;
	}
	l->x = x;
	l->limit = (size_t)f.limit;
	read_rows(l, batch, &f);
}
