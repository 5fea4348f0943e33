/*
 * problem.h - every way in which a request can fail, in one table (RFC 9457).
 *
 * `code` is stable and part of the API; `title` never changes per request; what is wrong with
 * this very request goes into a struct complaint.
 */
#ifndef NODE_PROBLEM_H
#define NODE_PROBLEM_H

#include <stdbool.h>
#include <stddef.h>

#define PROBLEM_LIST(X)                                                                            \
	X(PROBLEM_MALFORMED_JSON, "malformed_json", 400, false, "The body is not JSON")            \
	X(PROBLEM_UNKNOWN_QUERY, "unknown_query", 400, false, "Unknown query parameter")           \
	X(PROBLEM_INVALID_QUERY, "invalid_query", 400, false, "Invalid query parameter")           \
	X(PROBLEM_NOT_FOUND, "not_found", 404, false, "There is nothing at this path")             \
	X(PROBLEM_UNKNOWN_TRANSACTION, "unknown_transaction", 404, false, "No such transaction")   \
	X(PROBLEM_METHOD_NOT_ALLOWED, "method_not_allowed", 405, false,                            \
	  "This path does not take this method")                                                   \
	X(PROBLEM_BODY_TOO_LARGE, "body_too_large", 413, false, "The body is too large")           \
	X(PROBLEM_UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", 415, false,                    \
	  "The body must be application/json")                                                     \
	X(PROBLEM_UNKNOWN_MEMBER, "unknown_member", 422, false, "Unknown member")                  \
	X(PROBLEM_MISSING_MEMBER, "missing_member", 422, false, "A required member is missing")    \
	X(PROBLEM_WRONG_TYPE, "wrong_type", 422, false, "A member has the wrong type")             \
	X(PROBLEM_INVALID_IDENTIFIER, "invalid_identifier", 422, false, "Invalid identifier")      \
	X(PROBLEM_OUT_OF_RANGE, "out_of_range", 422, false, "A value is out of range")             \
	X(PROBLEM_BRANCH_COUNT, "branch_count", 422, false, "Too few or too many branches")        \
	X(PROBLEM_DUPLICATE_BRANCH, "duplicate_branch", 422, false,                                \
	  "Two branches have the same id")                                                         \
	X(PROBLEM_PARTICIPANT_NOT_ALLOWED, "participant_not_allowed", 422, false,                  \
	  "The operator does not allow calls to this address")                                     \
	X(PROBLEM_INVALID_HEADER, "invalid_header", 422, false,                                    \
	  "A header cannot be passed to the participant")                                          \
	X(PROBLEM_MODE_NOT_SUPPORTED, "mode_not_supported", 422, false,                            \
	  "This commit protocol is not available")                                                 \
	X(PROBLEM_GID_CONFLICT, "gid_conflict", 422, false, "This gid was used with another body") \
	X(PROBLEM_GID_MISMATCH, "gid_mismatch", 422, false,                                        \
	  "The gid in the body is not the one in the path")                                        \
	X(PROBLEM_OVERLOADED, "overloaded", 503, true, "Too much work in flight")                  \
	X(PROBLEM_NOT_READY, "not_ready", 503, true, "This node cannot take requests now")         \
	X(PROBLEM_INTERNAL, "internal", 500, true, "Something went wrong inside")

enum problem {
	PROBLEM_NONE = 0,
#define X(id, code, status, retryable, title) id,
	PROBLEM_LIST(X)
#undef X
	PROBLEM_MAX
};

struct problem_info {
	const char *code;
	int status;
	bool retryable;
	const char *title;
};

const struct problem_info *problem_info(enum problem p);

/* What is wrong with one request; filled by whoever finds out, turned into JSON by api/. */
struct complaint {
	enum problem problem;
	char pointer[128]; /* JSON pointer into the body, "" for the whole */
	char detail[256];  /* one sentence that says what to do */
};

/* Returns the problem, so that a decoder can `return complain(...)`. Never PROBLEM_NONE. */
enum problem complain(struct complaint *c, enum problem p, const char *pointer, const char *fmt,
                      ...) __attribute__((format(printf, 4, 5)));

#endif /* NODE_PROBLEM_H */
