/*
 * list_query.h - what a list of transactions is asked for: query parameters to a struct, with a
 * complaint that names the parameter.
 */
#ifndef API_LIST_QUERY_H
#define API_LIST_QUERY_H

#include <stdbool.h>
#include <stdint.h>

#include "api/cursor.h"
#include "io/http_server.h"
#include "node/problem.h"
#include "node/submission.h"

#define LIST_LIMIT_DEFAULT 50
#define LIST_LIMIT_MAX     200

/* Texts are borrowed from the request. */
struct list_query {
	int mode, state, outcome; /* -1: any */
	const char *participant;  /* NULL: any */
	int64_t created_after_us;
	int64_t created_before_us;
	int64_t stuck_for_ms; /* -1: not asked */
	int64_t limit;
	const char *cursor; /* NULL: from the start */
	struct submission_pair label[LABEL_MAX];
	size_t n_label;
	uint8_t filters[CURSOR_FILTERS_LEN]; /* hash of all but limit and cursor */
};

enum list_half {
	LIST_ANY,
	LIST_UNFINISHED,
	LIST_ENDED,
};

enum problem list_query_read(const struct http_request *rq, struct list_query *q,
                             struct complaint *complaint) MUSTCHECK;

/* What the filters leave to look at. */
enum list_half list_query_half(const struct list_query *q);

/* RFC 3339 to microseconds since 1970; a blank stands for the + that a URL turns into one. */
bool list_time_parse(const char *text, int64_t *us);

#endif /* API_LIST_QUERY_H */
