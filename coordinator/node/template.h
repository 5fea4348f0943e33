/*
 * template.h - payloads of sagas that are built from the results of earlier steps.
 *
 * Inside a JSON string of a payload, {{steps.ID.result.PATH}} stands for a value of what the step ID
 * has answered. A string that is nothing else becomes that value, byte for byte; in a longer string,
 * and in a member's name, only a string, a number, true or false can be inserted.
 */
#ifndef NODE_TEMPLATE_H
#define NODE_TEMPLATE_H

#include "base/buf.h"
#include "node/submission.h"

#define RESULT_MAX    ((size_t)16 * 1024)
#define REFERENCE_MAX 256u                  /* in one payload */
#define BUILT_MAX     ((size_t)1024 * 1024) /* as for the body of a whole submission */

struct decoder;

struct step_result {
	const char *text; /* JSON, or NULL: none yet, or none that can be used */
	size_t len;
};

/* Checks the references of all payloads, when the order is known, and marks whose results are
 * wanted and which payloads are built. */
enum problem template_check(struct decoder *d, struct submission *sub) MUSTCHECK;

/* The payload of `branch`; `result` by branch. ERR_RESULT when one has no such value, ERR_PAYLOAD
 * when it would be longer than BUILT_MAX: `why` says more. */
int template_render(const struct submission *sub, unsigned branch, const struct step_result *result,
                    struct buf *out, char *why, size_t why_size) MUSTCHECK;

/* One of these two: it cannot be built, now or later. */
bool template_failed(int err);

#endif /* NODE_TEMPLATE_H */
