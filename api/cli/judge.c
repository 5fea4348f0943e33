/*
 * judge.c - by the status and by the members vote and outcome, as the coordinator does.
 */
#include <jansson.h>
#include <string.h>

#include "api/cli/check.h"

static json_t *parse(const struct exchange *x)
{
	return x->answer.len ? json_loadb(x->answer.data, x->answer.len, JSON_DECODE_ANY, NULL)
	                     : NULL;
}

static bool is_success(int status)
{
	return status >= 200 && status <= 299 && status != 202;
}

bool is_again(const struct exchange *x)
{
	return x->status == 202 || x->status == 425 || x->status == 429 || x->status == 503;
}

static bool member_is(const struct exchange *x, const char *name, const char *value)
{
	json_t *answer = parse(x);
	const char *text = json_string_value(json_object_get(answer, name));
	bool same = text && strcmp(text, value) == 0;

	json_decref(answer);
	return same;
}

bool has_outcome(const struct exchange *x, const char *outcome)
{
	return x->status == 409 && member_is(x, "outcome", outcome);
}

/* Half a JSON object is no yes, and neither is a vote that is something else. */
static const char *no_yes(const struct exchange *x)
{
	json_t *answer = parse(x), *vote = json_object_get(answer, "vote");
	const char *text = json_string_value(vote);
	const char *why = NULL;

	if (text && strcmp(text, "read_only") == 0)
		why = "a read-only vote: say a --payload that has something to do";
	else if (vote && !json_is_null(vote) && (!text || strcmp(text, "yes") != 0))
		why = "a vote that is neither yes nor read_only";
	else if (!answer && x->answer.len && x->answer.data[0] == '{')
		why = "half a JSON object";
	json_decref(answer);
	return why;
}

static bool same_answer(const struct exchange *a, const struct exchange *b)
{
	json_t *one = parse(a), *two = parse(b);
	bool same = a->status == b->status;

	if (one && two)
		same = same && json_equal(one, two);
	else
		same = same && a->answer.len == b->answer.len &&
		       (a->answer.len == 0 ||
		        memcmp(a->answer.data, b->answer.data, a->answer.len) == 0);
	json_decref(one);
	json_decref(two);
	return same;
}

const char *expect_str(enum expect expect)
{
	static const char *const text[] = {
	    [EXPECT_ANY] = "any answer",
	    [EXPECT_YES] = "yes",
	    [EXPECT_SAME] = "the same answer as before",
	    [EXPECT_DONE] = "200",
	    [EXPECT_NO] = "409 without {\"outcome\":\"committed\"}",
	    [EXPECT_ABORTED] = "409 {\"outcome\":\"aborted\"}",
	    [EXPECT_COMMITTED] = "409 {\"outcome\":\"committed\"}",
	    [EXPECT_VOUCHED] = "409 {\"outcome\":\"pre_committed\"}",
	    [EXPECT_MISTAKE] = "4xx, and neither 409 nor one that is asked again",
	    [EXPECT_STRANGER] = "401",
	    [EXPECT_IS_ABORTED] = "200 {\"state\":\"aborted\"}",
	    [EXPECT_IS_PRE_COMMITTED] = "200 {\"state\":\"pre_committed\"}",
	    [EXPECT_IS_COMMITTED] = "200 {\"state\":\"committed\"}",
	};

	return text[expect];
}

static bool is_mistake(int status)
{
	return status >= 400 && status <= 499 && status != 408 && status != 409 && status != 425 &&
	       status != 429;
}

static bool has_state(const struct exchange *x, const char *state)
{
	return x->status == 200 && member_is(x, "state", state) &&
	       member_is(x, "gid", x->branch->gid) && member_is(x, "branch", x->branch->id) &&
	       member_is(x, "cluster", x->branch->cluster);
}

static bool is_as_expected(const struct exchange *x, const struct exchange *first)
{
	switch (x->step->expect) {
	case EXPECT_ANY:
		return true;
	case EXPECT_SAME:
		if (first && is_success(first->status))
			return same_answer(x, first);
		return is_success(x->status) && !no_yes(x);
	case EXPECT_YES:
		return is_success(x->status) && !no_yes(x);
	case EXPECT_DONE:
		return is_success(x->status);
	case EXPECT_NO:
		return x->status == 409 && !has_outcome(x, "committed");
	case EXPECT_ABORTED:
		return has_outcome(x, "aborted");
	case EXPECT_COMMITTED:
		return has_outcome(x, "committed");
	case EXPECT_VOUCHED:
		return has_outcome(x, "pre_committed");
	case EXPECT_MISTAKE:
		return is_mistake(x->status);
	case EXPECT_STRANGER:
		return x->status == 401;
	case EXPECT_IS_ABORTED:
		return has_state(x, "aborted");
	case EXPECT_IS_PRE_COMMITTED:
		return has_state(x, "pre_committed");
	case EXPECT_IS_COMMITTED:
		return has_state(x, "committed");
	}
	return false;
}

bool judge(const struct exchange *x, const struct exchange *first, struct buf *why)
{
	const char *more = is_success(x->status) ? no_yes(x) : NULL;

	if (x->hang_up)
		return true;
	if (x->status && is_as_expected(x, first))
		return true;
	buf_printf(why, "%s was expected, and ", expect_str(x->step->expect));
	if (!x->status)
		buf_printf(why, "there was none: %s", x->error);
	else
		buf_printf(why, "%d came%s%s", x->status, more ? ", " : "", more ? more : "");
	return false;
}

bool is_ended(const struct exchange *x)
{
	enum role role = x->step->role;

	if (role == ROLE_UNDO)
		return is_success(x->status) || has_outcome(x, "committed");
	return role == ROLE_FINISH && is_success(x->status);
}

static bool counts(const struct exchange *x)
{
	return x->status == 409 || is_success(x->status);
}

const struct exchange *find_not_json(const struct run *run)
{
	for (size_t i = 0; i < run->n_exchange; i++) {
		const struct exchange *x = run->exchange[i];
		json_t *answer = parse(x);
		bool wrong = counts(x) && x->answer.len && !answer;

		json_decref(answer);
		if (wrong)
			return x;
	}
	return NULL;
}

const struct exchange *find_too_long(const struct run *run)
{
	for (size_t i = 0; i < run->n_exchange; i++) {
		if (counts(run->exchange[i]) && run->exchange[i]->answer.len > RESULT_MAX)
			return run->exchange[i];
	}
	return NULL;
}
