/*
 * phase_decode.c - what only a submission of mode 3pc has: the times and the peers of its
 * participants.
 */
#include <stdio.h>
#include <string.h>

#include "node/decoder.h"
#include "node/peer_list.h"

#define MS_US       INT64_C(1000)
#define HOLD_MAX_MS INT64_C(86400000)

enum problem phase_decode(struct decoder *d, const struct json_value *root, struct submission *out)
{
	static const char *const own[] = {"phase_timeout_ms", "hold_ms"};
	int64_t phase_ms = 5000, hold_ms;
	enum problem p;

	for (size_t i = 0; out->mode != MODE_THREE_PHASE && i < sizeof own / sizeof own[0]; i++) {
		if (json_member(root, own[i]))
			return decoder_reject(d, PROBLEM_UNKNOWN_MEMBER, own[i],
			                      "only mode \"3pc\" has it");
	}
	p = decoder_read_int(d, root, own[0], (int64_t[]){1, 600000}, &phase_ms);
	if (p)
		return p;
	hold_ms = 4 * phase_ms;
	p = decoder_read_int(d, root, own[1], (int64_t[]){1, HOLD_MAX_MS}, &hold_ms);
	if (p == PROBLEM_NONE && hold_ms < 2 * phase_ms)
		return decoder_reject(
		    d, PROBLEM_OUT_OF_RANGE, own[1],
		    "%lld is less than twice phase_timeout_ms (%lld): participants "
		    "would be left to themselves while they are being asked",
		    (long long)hold_ms, (long long)phase_ms);
	out->phase_timeout_us = phase_ms * MS_US;
	out->hold_us = hold_ms * MS_US;
	return p;
}

enum problem phase_decode_branch(struct decoder *d, const struct json_value *v, enum txn_mode mode,
                                 struct branch_spec *out)
{
	static const char *const on_timeout[] = {"commit", "wait"};
	const struct json_value *ops = json_member(v, "ops");

	if (mode && mode != MODE_THREE_PHASE) {
		if (!json_member(v, "on_timeout"))
			return PROBLEM_NONE;
		return decoder_reject(d, PROBLEM_UNKNOWN_MEMBER, "on_timeout",
		                      "only in mode \"3pc\" a participant ends by itself");
	}
	if (mode && json_member(v, "after"))
		return decoder_reject(d, PROBLEM_UNKNOWN_MEMBER, "after",
		                      "in mode \"3pc\" all branches are called at once");
	if (mode && ops && json_size(ops) && !out->status_url)
		return decoder_reject(d, PROBLEM_MISSING_MEMBER, "ops",
		                      "its peers need an address for \"status\", too");
	return decoder_read_option(d, v, "on_timeout", on_timeout, &out->waits);
}

enum problem submission_check_peers(const struct submission *sub, const struct branch_spec *more,
                                    const struct registry *registry, struct complaint *complaint)
{
	size_t len = 0;

	if (sub->mode == MODE_THREE_PHASE)
		len = peer_list_longest(sub, more, registry);
	if (len <= PEER_LIST_MAX)
		return PROBLEM_NONE;
	return complain(complaint, PROBLEM_OUT_OF_RANGE, more ? "" : "/branches",
	                "a branch would be told %zu bytes of its peers' addresses; there is room "
	                "for %zu",
	                len, PEER_LIST_MAX);
}
