#include "api/list_query.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/txn.h"
#include "io/digest.h"

#define LABEL_PREFIX    "label."
#define PARTICIPANT_MAX 1024
#define STUCK_MAX_MS    INT64_C(3153600000000) /* a hundred years */

typedef bool read_fn(struct list_query *q, const char *value);

static bool read_number(const char *text, int64_t min, int64_t max, int64_t *out)
{
	size_t len = strlen(text);

	if (len == 0 || len > 15 || strspn(text, "0123456789") != len)
		return false;
	*out = strtoll(text, NULL, 10);
	return *out >= min && *out <= max;
}

/* Digits of fixed width; -1 when they are none. */
static int digits(const char **at, unsigned n, char end)
{
	int v = 0;

	for (; n > 0; n--, ++*at) {
		if (**at < '0' || **at > '9')
			return -1;
		v = 10 * v + (**at - '0');
	}
	if (end && *(*at)++ != end)
		return -1;
	return v;
}

/* Z, or hours and minutes that the written time is ahead of it. */
static bool read_zone(const char *at, int64_t *ahead_s)
{
	int sign = *at == '-' ? -1 : 1, h, m;

	*ahead_s = 0;
	if (strcmp(at, "Z") == 0 || strcmp(at, "z") == 0)
		return true;
	if (!*at || !strchr("+- ", *at++))
		return false;
	h = digits(&at, 2, ':');
	m = h < 0 ? -1 : digits(&at, 2, '\0');
	*ahead_s = sign * (h * INT64_C(3600) + m * INT64_C(60));
	return m >= 0 && *at == '\0' && h < 24 && m < 60;
}

/* One part after the other, none when one before it was none. */
static bool read_parts(const char **at, int part[6])
{
	static const struct {
		unsigned n;
		char end;
	} shape[6] = {{4, '-'}, {2, '-'}, {2, 'T'}, {2, ':'}, {2, ':'}, {2, '\0'}};

	for (unsigned i = 0; i < 6; i++) {
		part[i] = digits(at, shape[i].n, shape[i].end);
		if (part[i] < 0)
			return false;
	}
	return part[0] >= 1970 && part[1] >= 1 && part[1] <= 12 && part[2] >= 1 && part[2] <= 31 &&
	       part[3] < 24 && part[4] < 60 && part[5] <= 60;
}

bool list_time_parse(const char *text, int64_t *us)
{
	const char *at = text;
	int64_t fraction = 0, scale = 100000, ahead_s;
	int part[6];
	struct tm tm = {0};

	if (!read_parts(&at, part))
		return false;
	if (*at == '.') {
		if (*++at < '0' || *at > '9')
			return false;
		for (; *at >= '0' && *at <= '9'; at++, scale /= 10)
			fraction += scale * (*at - '0');
	}
	if (!read_zone(at, &ahead_s))
		return false;
	tm.tm_year = part[0] - 1900;
	tm.tm_mon = part[1] - 1;
	tm.tm_mday = part[2];
	tm.tm_hour = part[3];
	tm.tm_min = part[4];
	tm.tm_sec = part[5];
	*us = ((int64_t)timegm(&tm) - ahead_s) * 1000000 + fraction;
	return tm.tm_mday == part[2]; /* no 31st of February */
}

static bool read_mode(struct list_query *q, const char *value)
{
	q->mode = (int)txn_mode_parse(value);
	return q->mode != 0;
}

static bool read_state(struct list_query *q, const char *value)
{
	for (q->state = TXN_ACTIVE; q->state < TXN_STATE_MAX; q->state++) {
		if (strcmp(txn_state_str((enum txn_state)q->state), value) == 0)
			return true;
	}
	return false;
}

static bool read_outcome(struct list_query *q, const char *value)
{
	for (q->outcome = OUTCOME_PENDING; q->outcome < OUTCOME_MAX; q->outcome++) {
		if (strcmp(txn_outcome_str((enum txn_outcome)q->outcome), value) == 0)
			return true;
	}
	return false;
}

static bool read_participant(struct list_query *q, const char *value)
{
	q->participant = value;
	return *value && strlen(value) <= PARTICIPANT_MAX;
}

static bool read_after(struct list_query *q, const char *value)
{
	return list_time_parse(value, &q->created_after_us);
}

static bool read_before(struct list_query *q, const char *value)
{
	return list_time_parse(value, &q->created_before_us);
}

static bool read_stuck(struct list_query *q, const char *value)
{
	return read_number(value, 0, STUCK_MAX_MS, &q->stuck_for_ms);
}

static bool read_limit(struct list_query *q, const char *value)
{
	return read_number(value, 1, LIST_LIMIT_MAX, &q->limit);
}

static bool read_cursor(struct list_query *q, const char *value)
{
	q->cursor = value;
	return true;
}

/* `hint` says what a value looks like. Those that are not filters stand last. */
static const struct parameter {
	const char *name;
	read_fn *read;
	const char *hint;
} parameter[] = {
    {"mode", read_mode, "the name of a commit protocol"},
    {"state", read_state,
     "one of active, preparing, one_phase, arbitrating, committing, aborting, trying, confirming, "
     "cancelling, running, compensating, committed, aborted and mixed"},
    {"outcome", read_outcome, "one of pending, committed, aborted and mixed"},
    {"participant", read_participant, "an address as it was submitted"},
    {"created_after", read_after, "a time like 2026-01-02T03:04:05Z"},
    {"created_before", read_before, "a time like 2026-01-02T03:04:05Z"},
    {"stuck_for_ms", read_stuck, "a number of milliseconds"},
    {"limit", read_limit, "a number from 1 to 200"},
    {"cursor", read_cursor, "the next_cursor of the page before"},
};

#define N_PARAMETER (sizeof parameter / sizeof parameter[0])
#define N_FILTER    (N_PARAMETER - 2)

struct reading {
	struct list_query *q;
	struct complaint *complaint;
	enum problem problem;
	const char *value[N_PARAMETER];
};

static bool refuse(struct reading *r, const char *name, const char *what)
{
	r->problem = complain(r->complaint, PROBLEM_INVALID_QUERY, "", "%.80s %s", name, what);
	return false;
}

static bool read_label(struct reading *r, const char *name, const char *value)
{
	struct list_query *q = r->q;

	for (size_t i = 0; i < q->n_label; i++) {
		if (strcmp(q->label[i].name, name + strlen(LABEL_PREFIX)) == 0)
			return refuse(r, name, "stands there twice");
	}
	if (!name[strlen(LABEL_PREFIX)] || q->n_label == LABEL_MAX)
		return refuse(r, name, "is not label.NAME=VALUE, or there are more than 16");
	q->label[q->n_label++] = (struct submission_pair){name + strlen(LABEL_PREFIX), value};
	return true;
}

static bool take(void *ctx, const char *name, const char *value)
{
	struct reading *r = ctx;
	char hint[160];

	if (strncmp(name, LABEL_PREFIX, strlen(LABEL_PREFIX)) == 0)
		return read_label(r, name, value);
	for (size_t i = 0; i < N_PARAMETER; i++) {
		if (strcmp(parameter[i].name, name) != 0)
			continue;
		if (r->value[i])
			return refuse(r, name, "stands there twice");
		r->value[i] = value;
		(void)snprintf(hint, sizeof hint, "is %s", parameter[i].hint);
		return parameter[i].read(r->q, value) || refuse(r, name, hint);
	}
	return true; /* routes.c refuses what is unknown */
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct submission_pair *)a)->name,
	              ((const struct submission_pair *)b)->name);
}

/* The order in which a client writes its filters does not matter. */
static bool hash_filters(struct reading *r)
{
	struct list_query *q = r->q;
	struct buf text = BUF_INIT;
	uint8_t sha[DIGEST_LEN];
	bool ok;

	qsort(q->label, q->n_label, sizeof q->label[0], by_name);
	for (size_t i = 0; i < N_FILTER; i++)
		buf_put_json_str(&text, r->value[i]);
	for (size_t i = 0; i < q->n_label; i++) {
		buf_put_json_str(&text, q->label[i].name);
		buf_put_json_str(&text, q->label[i].value);
	}
	ok = !text.failed;
	digest_sha256(text.data ? text.data : "", text.len, sha);
	memcpy(q->filters, sha, sizeof q->filters);
	buf_release(&text);
	return ok;
}

enum problem list_query_read(const struct http_request *rq, struct list_query *q,
                             struct complaint *complaint)
{
	struct reading r = {.q = q, .complaint = complaint};

	*q = (struct list_query){
	    .mode = -1,
	    .state = -1,
	    .outcome = -1,
	    .created_after_us = INT64_MIN,
	    .created_before_us = INT64_MAX,
	    .stuck_for_ms = -1,
	    .limit = LIST_LIMIT_DEFAULT,
	};
	http_request_each_query(rq, take, &r);
	if (r.problem == PROBLEM_NONE && !hash_filters(&r))
		return complain(complaint, PROBLEM_OVERLOADED, "", "out of memory; try again");
	return r.problem;
}

enum list_half list_query_half(const struct list_query *q)
{
	if (q->stuck_for_ms >= 0 || q->outcome == OUTCOME_PENDING)
		return LIST_UNFINISHED;
	if (q->state < 0)
		return LIST_ANY;
	return txn_ended((enum txn_state)q->state) ? LIST_ENDED : LIST_UNFINISHED;
}
