/*
 * order_decode.c - which branches of a submission come after which.
 */
#include <stdio.h>
#include <string.h>

#include "core/order.h"
#include "node/decoder.h"
#include "node/template.h"

static enum problem read_reference(struct decoder *d, const struct json_value *v, size_t at,
                                   const struct submission *sub, unsigned branch, uint64_t *after)
{
	char place[24];
	enum problem p;
	const char *id;
	size_t len;

	(void)snprintf(place, sizeof place, "%zu", at);
	p = decoder_expect_type(d, v, JSON_T_STR, place);
	if (p)
		return p;
	id = json_str(v, &len);
	for (unsigned i = 0; i < sub->n_branch; i++) {
		if (strlen(sub->branch[i].id) != len || memcmp(sub->branch[i].id, id, len) != 0)
			continue;
		if (i == branch)
			return decoder_reject(d, PROBLEM_INVALID_ORDER, place,
			                      "a branch cannot come after itself");
		*after |= (uint64_t)1 << i;
		return PROBLEM_NONE;
	}
	return decoder_reject(d, PROBLEM_INVALID_ORDER, place, "there is no branch \"%.64s\"", id);
}

static enum problem read_after(struct decoder *d, const struct json_value *branches,
                               const struct submission *sub, unsigned branch, uint64_t *after)
{
	const struct json_value *v = json_member(json_at(branches, branch), "after");
	enum problem p;

	if (!v)
		return PROBLEM_NONE;
	(void)snprintf(d->path, sizeof d->path, "/branches/%u", branch);
	p = decoder_expect_type(d, v, JSON_T_ARRAY, "after");
	(void)snprintf(d->path, sizeof d->path, "/branches/%u/after", branch);
	for (size_t i = 0; p == PROBLEM_NONE && i < json_size(v); i++)
		p = read_reference(d, json_at(v, i), i, sub, branch, after);
	return p;
}

enum problem order_decode(struct decoder *d, const struct json_value *branches,
                          struct submission *sub)
{
	uint64_t after[TXN_BRANCH_MAX] = {0};
	unsigned n = sub->n_branch;
	enum problem p = PROBLEM_NONE;
	bool any = false;

	for (unsigned i = 0; i < n && p == PROBLEM_NONE; i++) {
		p = read_after(d, branches, sub, i, &after[i]);
		any |= json_member(json_at(branches, i), "after") != NULL;
	}
	for (unsigned i = 1; i < n && sub->mode == MODE_SAGA && !any; i++)
		after[i] = (uint64_t)1 << (i - 1); /* a row, as they stand there */
	if (p == PROBLEM_NONE && order_close(after, n) < 0) {
		unsigned i = 0;

		while (!(after[i] >> i & 1))
			i++;
		(void)snprintf(d->path, sizeof d->path, "/branches/%u", i);
		return decoder_reject(d, PROBLEM_INVALID_ORDER, "after",
		                      "%s would come after itself: the order has a cycle",
		                      sub->branch[i].id);
	}
	for (unsigned i = 0; i < n; i++)
		sub->branch[i].after = after[i];
	if (p == PROBLEM_NONE && sub->mode == MODE_SAGA)
		p = template_check(d, sub);
	if (p == PROBLEM_NONE)
		d->path[0] = '\0';
	return p;
}
