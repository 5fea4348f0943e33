/*
 * exchange.h - one request to a participant and what came back, and how it gets there (libcurl).
 *
 * Calling sequence: exchange_new, fill url, head and body, http_start, http_wait (others that were
 * started go on meanwhile), read the answer, exchange_free. Waiting ends early when the user
 * interrupts; then `done` is false.
 */
#ifndef API_CLI_EXCHANGE_H
#define API_CLI_EXCHANGE_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define ANSWER_MAX ((size_t)1024 * 1024) /* more is not read */

struct exchange {
	/* What is asked. */
	const char *method;
	struct buf url;
	struct buf head; /* "Name: value", each line ended by \n */
	struct buf body;
	bool hang_up; /* as soon as it is sent, without waiting for the answer */
	int limit_ms; /* for the whole exchange */
	/* What came. */
	bool done;
	int status;      /* 0: no answer, and `error` says why */
	struct buf type; /* Content-Type */
	struct buf answer;
	int64_t took_us;
	char error[256];
	/* What it was made for; the business of script.c. */
	const struct step *step;
	struct branch *branch;
	unsigned attempt;
	bool shows; /* why the rule failed */
	void *easy;
	void *list;
	int64_t began_us;
};

struct exchange *exchange_new(void); /* aborts without memory, as everything here */
void exchange_free(struct exchange *x);

struct http;

/* `ca_file`: whom to believe under https; NULL: whom the system believes. */
struct http *http_new(const char *ca_file);
void http_free(struct http *h);
void http_start(struct http *h, struct exchange *x);
void http_wait(struct http *h, struct exchange *x);
/* Lets what was started go on for that long. */
void http_pause(struct http *h, int ms);

/* Set by the first SIGINT or SIGTERM; the second ends the program at once. */
extern volatile sig_atomic_t interrupted;
void catch_interrupts(void);

#endif /* API_CLI_EXCHANGE_H */
