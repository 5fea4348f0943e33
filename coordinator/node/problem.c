#include "node/problem.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

static const struct problem_info info[PROBLEM_MAX] = {
    [PROBLEM_NONE] = {"none", 200, false, "No problem", "", ""},
#define X(id, code, status, retryable, title, meaning, remedy) \
	[id] = {code, status, retryable, title, meaning, remedy},
    PROBLEM_LIST(X)
#undef X
};

const struct problem_info *problem_info(enum problem p)
{
	assert((unsigned)p < PROBLEM_MAX);
	return &info[p];
}

enum problem complain(struct complaint *c, enum problem p, const char *pointer, const char *fmt,
                      ...)
{
	va_list ap;

	assert(p != PROBLEM_NONE);
	c->problem = p;
	(void)snprintf(c->pointer, sizeof c->pointer, "%s", pointer);
	va_start(ap, fmt);
	(void)vsnprintf(c->detail, sizeof c->detail, fmt, ap);
	va_end(ap);
	return p;
}
