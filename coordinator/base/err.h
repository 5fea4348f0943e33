/*
 * err.h - one error vocabulary for the whole coordinator.
 *
 * Functions that can fail return 0 or a negative enum err. A reader never has
 * to guess which of errno, CURLcode or PGresult a value came from: the io/
 * wrappers translate at the boundary and nothing above them sees the originals.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#define ERR_LIST(X)                                               \
	X(ERR_NOMEM, -1, "out of memory")                         \
	X(ERR_INVALID, -2, "invalid argument")                    \
	X(ERR_STATE, -3, "not allowed in this state")             \
	X(ERR_LIMIT, -4, "limit exceeded")                        \
	X(ERR_IO, -5, "input/output error")                       \
	X(ERR_TIMEOUT, -6, "timed out")                           \
	X(ERR_EXISTS, -7, "already exists")                       \
	X(ERR_NOTFOUND, -8, "not found")                          \
	X(ERR_PARSE, -9, "cannot be parsed")                      \
	X(ERR_LOST, -10, "connection lost, result unknown")       \
	X(ERR_DATA, -11, "refused by the database as data")       \
	X(ERR_REFUSED, -12, "connection refused")                 \
	X(ERR_RESOLVE, -13, "host name not resolved")             \
	X(ERR_RESET, -14, "connection reset")                     \
	X(ERR_DENIED, -15, "not allowed by the operator")         \
	X(ERR_CANCELLED, -16, "cancelled")                        \
	X(ERR_RESULT, -17, "an earlier step gave no such result") \
	X(ERR_PAYLOAD, -18, "results of earlier steps make it too long")

enum err {
#define X(name, value, text) name = (value),
	ERR_LIST(X)
#undef X
};

#define MUSTCHECK __attribute__((warn_unused_result))

/* Static text for an error code; never NULL, never freed. */
const char *err_str(int err);

#endif /* BASE_ERR_H */
