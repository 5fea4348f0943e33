/*
 * json.h - decoding JSON requests; the only user of jansson.
 *
 * A thin reader that knows where it is, so that every complaint names a JSON pointer. Values
 * cut out as raw spans (json_scan.h) appear as null in the document.
 */
#ifndef IO_JSON_H
#define IO_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json_scan.h"

struct json_doc;
struct json_value; /* borrowed from its document */

struct json_raw_rule { /* member `name` of each element of top-level array `array` stays raw */
	const char *array;
	const char *name;
};

/* ERR_PARSE: not JSON, duplicate members, too deep, not UTF-8; `why` gets one line with the
 * offset. ERR_NOMEM. `raw` may be NULL. The text must outlive the document. */
int json_parse(const char *text, size_t len, const struct json_raw_rule *raw, struct json_doc **out,
               char *why, size_t why_size) MUSTCHECK;
void json_free(struct json_doc *d);
const struct json_value *json_root(const struct json_doc *d);
/* The raw member of element `index`, as it stands in the text; len 0 when it is absent. */
struct json_span json_raw(const struct json_doc *d, size_t index);

enum json_type {
	JSON_T_NULL,
	JSON_T_BOOL,
	JSON_T_INT,
	JSON_T_REAL,
	JSON_T_STR,
	JSON_T_ARRAY,
	JSON_T_OBJECT,
};
enum json_type json_type(const struct json_value *v);
const char *json_type_str(enum json_type t); /* "a string", "an integer", ... for messages */
bool json_bool(const struct json_value *v);
int64_t json_int(const struct json_value *v);
/* Never contains a NUL: \u0000 is refused outside raw members. */
const char *json_str(const struct json_value *v, size_t *len);
size_t json_size(const struct json_value *v); /* array or object */
const struct json_value *json_at(const struct json_value *v, size_t index);
/* NULL when absent. */
const struct json_value *json_member(const struct json_value *v, const char *name);
/* Iteration over an object: start with iter NULL; false at the end. */
bool json_next(const struct json_value *object, void **iter, const char **name,
               const struct json_value **value);

#endif /* IO_JSON_H */
