/*
 * json_scan.h - finds members in JSON text without decoding it.
 *
 * Payloads and results must survive byte for byte (19.99, 20-digit integers,
 * \u0000), which no JSON library promises. So they are cut out of the text here,
 * after a full check of the grammar (RFC 8259, valid UTF-8, depth at most
 * JSON_DEPTH_MAX), and only the rest is handed to the library.
 *
 * Pure: no allocation, no state.
 */
#ifndef BASE_JSON_SCAN_H
#define BASE_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define JSON_DEPTH_MAX 64

struct json_span {
	size_t at;  /* offset of the value's first byte */
	size_t len; /* without surrounding white space */
};

/* 0, or ERR_PARSE with *at the offset of the first wrong byte. `at` may be NULL. */
int json_scan_check(const char *text, size_t len, size_t *at) MUSTCHECK;

/* Calls `found` for the value of each member named `name` of an object that is an element of
 * the top-level member `array` ("branches" / "payload"), with that element's index, in order.
 * Checks the whole text like json_scan_check; either of the two given twice is ERR_PARSE. */
typedef void json_found_fn(void *ctx, size_t index, struct json_span value);
struct json_members {
	const char *array;
	const char *name;
	json_found_fn *found;
	void *ctx;
};
int json_scan_members(const char *text, size_t len, const struct json_members *wanted,
                      size_t *at) MUSTCHECK;

/* The top-level object's string member `name`, without its quotes, copied into `out` with a NUL
 * when it has no escapes and fits. ERR_NOTFOUND when it is absent or null, also for text that is not
 * JSON; ERR_INVALID when it is there and something else, or there twice, or when the object has no
 * end. */
int json_scan_top_str(const char *text, size_t len, const char *name, char *out,
                      size_t size) MUSTCHECK;

/* The top-level object's member `name` is there once, and true. */
bool json_scan_top_true(const char *text, size_t len, const char *name);

#endif /* BASE_JSON_SCAN_H */
