/*
 * problem.h - every way in which a request can fail, in one table (RFC 9457).
 *
 * `code` is stable and part of the API; `title` never changes per request; what is wrong with
 * this very request goes into a struct complaint. `meaning` and `remedy` are for the reference
 * page that the daemon serves at /problems/<code>. The list in api/openapi.yaml is made from
 * this table by `make contract`.
 */
#ifndef NODE_PROBLEM_H
#define NODE_PROBLEM_H

#include <stdbool.h>
#include <stddef.h>

#define PROBLEM_LIST(X)                                                                            \
	X(PROBLEM_MALFORMED_JSON, "malformed_json", 400, false, "The body is not JSON",            \
	  "The body could not be read as one JSON value in UTF-8: a syntax error, a member given " \
	  "twice, bytes that are not UTF-8, or nesting deeper than 64.",                           \
	  "Correct the body; the detail names the offset of the first wrong byte. Nothing was "    \
	  "stored.")                                                                               \
	X(PROBLEM_INVALID_IDEMPOTENCY_KEY, "invalid_idempotency_key", 400, false,                  \
	  "Invalid Idempotency-Key",                                                               \
	  "The Idempotency-Key header is not 1 to 128 printable ASCII characters, bare or in "     \
	  "double quotes.",                                                                        \
	  "Send a key such as a UUID. Within quotes, write a double quote or a backslash with a "  \
	  "backslash before it.")                                                                  \
	X(PROBLEM_UNKNOWN_QUERY, "unknown_query", 400, false, "Unknown query parameter",           \
	  "The address has a query parameter that this path does not take.",                       \
	  "Remove or correct it. The detail names it, and the nearest one that exists.")           \
	X(PROBLEM_INVALID_QUERY, "invalid_query", 400, false, "Invalid query parameter",           \
	  "A query parameter has a value outside what it takes.",                                  \
	  "Correct the value; the detail says which values are taken.")                            \
	X(PROBLEM_UNAUTHORIZED, "unauthorized", 401, false, "A token is needed",                   \
	  "The request has no token, or one that the coordinator does not know.",                  \
	  "Send the header Authorization: Bearer and a token whose hash stands in token_file.")    \
	X(PROBLEM_FORBIDDEN, "forbidden", 403, false, "This token may not do this",                \
	  "The token is known, and has none of the roles that this takes, or is for another "      \
	  "namespace.",                                                                            \
	  "Use a token with one of the roles that the detail names, or have it added to this "     \
	  "one.")                                                                                  \
	X(PROBLEM_NOT_FOUND, "not_found", 404, false, "There is nothing at this path",             \
	  "No resource of this API has this path.", "Check the path against /openapi.json.")       \
	X(PROBLEM_UNKNOWN_TRANSACTION, "unknown_transaction", 404, false, "No such transaction",   \
	  "No transaction with this gid is stored: it was never submitted, or its submission was " \
	  "never answered and did not get through.",                                               \
	  "Check the gid. A client that is not sure whether its submission arrived repeats the "   \
	  "submission rather than asking.")                                                        \
	X(PROBLEM_METHOD_NOT_ALLOWED, "method_not_allowed", 405, false,                            \
	  "This path does not take this method", "The path exists, but not with this method.",     \
	  "Use a method that the Allow header of the reply lists.")                                \
	X(PROBLEM_BODY_TOO_LARGE, "body_too_large", 413, false, "The body is too large",           \
	  "The body is larger than 1 MiB.",                                                        \
	  "Pass large data by reference: store it elsewhere and submit its address.")              \
	X(PROBLEM_UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", 415, false,                    \
	  "The body must be application/json",                                                     \
	  "The request has no Content-Type, or another one than application/json.",                \
	  "Send Content-Type: application/json.")                                                  \
	X(PROBLEM_UNKNOWN_MEMBER, "unknown_member", 422, false, "Unknown member",                  \
	  "The body has a member that is not known at its place. It is refused rather than "       \
	  "ignored, because a mistyped timeout that is ignored costs more than an error.",         \
	  "Correct or remove the member that the pointer names; the detail has the nearest name "  \
	  "that exists.")                                                                          \
	X(PROBLEM_MISSING_MEMBER, "missing_member", 422, false, "A required member is missing",    \
	  "The body lacks a member that must be there.", "Add the member that the pointer names.") \
	X(PROBLEM_WRONG_TYPE, "wrong_type", 422, false, "A member has the wrong type",             \
	  "A member has a value of another JSON type than it takes, such as a string where an "    \
	  "integer is wanted.",                                                                    \
	  "Correct the value that the pointer names; the detail says which type is wanted.")       \
	X(PROBLEM_INVALID_IDENTIFIER, "invalid_identifier", 422, false, "Invalid identifier",      \
	  "A gid or a branch id has characters or a length that identifiers do not have.",         \
	  "A gid is 1 to 128 letters, digits and '.', '_', ':', '~', '-'; a branch id 1 to 32 of " \
	  "the same without ':'.")                                                                 \
	X(PROBLEM_OUT_OF_RANGE, "out_of_range", 422, false, "A value is out of range",             \
	  "A value has the right type and is outside its limits.",                                 \
	  "Correct the value that the pointer names; the detail has the limits.")                  \
	X(PROBLEM_BRANCH_COUNT, "branch_count", 422, false, "Too few or too many branches",        \
	  "A transaction has 1 to 64 branches.",                                                   \
	  "Split a larger piece of work into several transactions, or let one branch stand for "   \
	  "several changes.")                                                                      \
	X(PROBLEM_DUPLICATE_BRANCH, "duplicate_branch", 422, false,                                \
	  "Two branches have the same id", "The id of a branch is unique within its transaction.", \
	  "Give each branch an id of its own.")                                                    \
	X(PROBLEM_INVALID_ORDER, "invalid_order", 422, false, "No such order of branches",         \
	  "A branch comes after itself, directly or by way of others, or after one that is not "   \
	  "there; or its payload needs the result of a step that does not run before.",            \
	  "Correct what the pointer names: after lists ids of other branches of the same "         \
	  "submission, and a payload of a saga refers to steps before its own.")                   \
	X(PROBLEM_PARTICIPANT_NOT_ALLOWED, "participant_not_allowed", 422, false,                  \
	  "The operator does not allow calls to this address",                                     \
	  "The coordinator calls only participants that its configuration names, and addresses "   \
	  "that its option participant_allow admits. This is neither.",                            \
	  "Check the address. If it is right, ask the operator to admit it.")                      \
	X(PROBLEM_PARTICIPANT_UNKNOWN, "participant_unknown", 422, false,                          \
	  "The configuration names no such participant",                                           \
	  "A branch names a participant that the coordinator's configuration does not have. What " \
	  "contains :// is taken for an address, everything else for a name.",                     \
	  "Correct the name; the detail has the nearest one that exists. If it is right, ask the " \
	  "operator to add participant.NAME to the configuration.")                                \
	X(PROBLEM_INVALID_HEADER, "invalid_header", 422, false,                                    \
	  "A header cannot be passed to the participant",                                          \
	  "A header of a branch is not a valid header, or one that the coordinator sets itself.",  \
	  "Rename or remove the header that the pointer names.")                                   \
	X(PROBLEM_INVALID_CURSOR, "invalid_cursor", 400, false, "Not a cursor of this list",       \
	  "The parameter cursor is not what a page of this list said, or the filters are other "   \
	  "ones than that page had.",                                                              \
	  "Use next_cursor as it came, with the same filters; without a cursor the list starts "   \
	  "anew.")                                                                                 \
	X(PROBLEM_MODE_NOT_SUPPORTED, "mode_not_supported", 422, false,                            \
	  "This commit protocol is not available",                                                 \
	  "The member mode names a commit protocol that this version does not have.",              \
	  "Use one that the detail lists.")                                                        \
	X(PROBLEM_GID_CONFLICT, "gid_conflict", 422, false, "This gid was used with another body", \
	  "A transaction with this gid, or with this Idempotency-Key, was submitted before with "  \
	  "another body. The first one stands; this one was not stored.",                          \
	  "Repeat a request byte for byte, and use a new gid or key for a new transaction. The "   \
	  "errors point at what differs. A body with the same values but other white space or "    \
	  "order is another body.")                                                                \
	X(PROBLEM_BRANCH_CONFLICT, "branch_conflict", 422, false,                                  \
	  "This branch id was enlisted with another body",                                         \
	  "The interactive transaction has a branch with this id, and its body was another.",      \
	  "Use a branch id once, and repeat an enlist request byte for byte.")                     \
	X(PROBLEM_WRONG_STATE, "wrong_state", 409, false,                                          \
	  "The transaction's state does not allow this",                                           \
	  "The transaction is decided or closed, or it was submitted whole and takes no word "     \
	  "from its initiator.",                                                                   \
	  "Read the transaction: the detail names its state and outcome. The first word, commit "  \
	  "or rollback, counts.")                                                                  \
	X(PROBLEM_GID_MISMATCH, "gid_mismatch", 422, false,                                        \
	  "The gid in the body is not the one in the path",                                        \
	  "The path names one gid and the body another.",                                          \
	  "Leave the member gid out of the body, or make both the same.")                          \
	X(PROBLEM_OVERLOADED, "overloaded", 503, true, "Too much work in flight",                  \
	  "The node has as much work as it takes on, or no memory. Nothing was taken on.",         \
	  "Try again after the seconds that Retry-After says; a repetition is safe.")              \
	X(PROBLEM_NOT_READY, "not_ready", 503, true, "This node cannot take requests now",         \
	  "The node is starting, stopping, without its database, or not the one that serves. For " \
	  "a submission this promises nothing: it may have been stored.",                          \
	  "Repeat the same request after the seconds that Retry-After says, with the same gid.")   \
	X(PROBLEM_INTERNAL, "internal", 500, true, "Something went wrong inside",                  \
	  "The coordinator could not do its work, through no fault of the request.",               \
	  "Repeat the request. When it goes on, give the operator the request id: the log has a "  \
	  "line with it.")

enum problem {
	PROBLEM_NONE = 0,
#define X(id, code, status, retryable, title, meaning, remedy) id,
	PROBLEM_LIST(X)
#undef X
	PROBLEM_MAX
};

struct problem_info {
	const char *code;
	int status;
	bool retryable;
	const char *title;
	const char *meaning; /* what happened, for the reference page */
	const char *remedy;  /* what to do about it */
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
