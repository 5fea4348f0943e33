/*
 * compose.c - a call as the coordinator makes it, or as a step wants it to be wrong.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/cli/check.h"
#include "base/clock.h"
#include "node/secret.h"

#define OLD_S   360
#define HOLD_MS 600000

static const char unknown_op[] = "assent_check_unknown";

static const char *op_of(const struct branch *branch, const struct step *step)
{
	return step->role == ROLE_UNKNOWN ? unknown_op : branch->mode->op[step->role];
}

/* An intent is signed as an operation of its own: without its header it would be a decision. */
static const char *signed_op_of(const struct step *step, const char *op)
{
	return step->how & (HOW_INTENT | HOW_CAPTURED) ? "pre_abort" : op;
}

void put_payload(struct buf *out, const char *payload, const struct branch *branch)
{
	static const char unique[] = "{{unique}}";
	const char *at;

	while ((at = strstr(payload, unique))) {
		buf_append(out, payload, (size_t)(at - payload));
		buf_printf(out, "%s-%s", branch->gid, branch->id);
		payload = at + strlen(unique);
	}
	buf_puts(out, payload);
}

static int timeout_ms(const struct run *run, const struct step *step)
{
	if (step->how & HOW_LATE)
		return 0;
	return step->how & HOW_BRIEF ? BRIEF_MS : run->options->timeout_ms;
}

static void put_times(const struct run *run, const struct step *step, struct exchange *x)
{
	int ms = timeout_ms(run, step);

	buf_printf(&x->head, "Assent-Timeout-Ms: %d\nAssent-Deadline: ", ms);
	buf_put_time(&x->head, clock_wall_us() + (int64_t)ms * 1000);
	buf_puts(&x->head, "\n");
	if (x->branch->mode->bit != MODE_3PC)
		return;
	/* Far enough away that the participant's own protocol does not begin in the middle. */
	buf_printf(&x->head, "Assent-Hold-Ms: %d\nAssent-On-Timeout: wait\n", HOLD_MS);
	if (step->role == ROLE_FIRST)
		buf_puts(&x->head, "Assent-Peers: peer=http://127.0.0.1:9/assent-check/status\n");
}

static void put_identity(const struct step *step, const char *op, struct exchange *x)
{
	const struct branch *b = x->branch;

	buf_printf(&x->head, "Assent-Namespace: %s\n", b->space);
	if (!(step->how & HOW_NO_CLUSTER))
		buf_printf(&x->head, "Assent-Cluster: %s\n", b->cluster);
	if (!(step->how & HOW_NO_GID))
		buf_printf(&x->head, "Assent-Gid: %s\n", b->gid);
	if (!(step->how & HOW_NO_BRANCH))
		buf_printf(&x->head, "Assent-Branch: %s\n", b->id);
	buf_printf(&x->head, "Assent-Op: %s\nAssent-Mode: %s\nAssent-Attempt: %u\n", op,
	           b->mode->name, x->attempt);
	buf_printf(&x->head, "Idempotency-Key: \"%s/%s/%s/%s\"\n", b->cluster, b->gid, b->id,
	           signed_op_of(step, op));
	if (step->how & HOW_ONE_PHASE)
		buf_puts(&x->head, "Assent-One-Phase: true\n");
	if (step->how & HOW_MAY_BE_CONFIRMED)
		buf_puts(&x->head, "Assent-May-Be-Confirmed: true\n");
	if (step->how & HOW_INTENT)
		buf_puts(&x->head, "Assent-Intent: true\n");
}

/* Another letter in the middle of the base64: still well-formed, and the mac of nothing. */
static void spoil(char *signature)
{
	for (char *s = signature; (s = strstr(s, "v1,")); s += 3)
		s[8] = s[8] == 'A' ? 'B' : 'A';
}

static void put_signature(const struct run *run, const struct step *step, const char *op,
                          struct exchange *x)
{
	const struct branch *b = x->branch;
	bool usual = strcmp(b->space, "default") == 0;
	struct buf id = BUF_INIT, signature = BUF_INIT, body = BUF_INIT;
	long long at = (long long)(clock_wall_us() / 1000000);
	char timestamp[32];

	op = step->how & HOW_OTHER_OPERATION ? b->mode->op[ROLE_UNDO] : signed_op_of(step, op);
	at += step->how & HOW_FUTURE ? OLD_S : step->how & HOW_OLD ? -OLD_S : 0;
	(void)snprintf(timestamp, sizeof timestamp, "%lld", at);
	buf_printf(&id, "%s/%s%s%s/%s/%s", b->cluster, usual ? "" : b->space, usual ? "" : "/",
	           b->gid, b->id, op);
	/* A peer that asks for the status makes no attempts. */
	if (step->role != ROLE_STATUS)
		buf_printf(&id, "/%u", x->attempt);
	buf_append(&body, x->body.data, x->body.len);
	if (step->how & HOW_OTHER_BODY)
		buf_puts(&body, " ");
	secret_sign(run->keys, id.data, timestamp, body.len ? body.data : "", body.len, &signature);
	if (step->how & HOW_WRONG_SECRET)
		spoil(signature.data);
	buf_printf(&x->head, "webhook-id: %s\nwebhook-timestamp: %s\nwebhook-signature: %s\n",
	           id.data, timestamp, signature.data);
	buf_release(&id);
	buf_release(&signature);
	buf_release(&body);
}

static void put_status_url(struct exchange *x)
{
	const struct branch *b = x->branch;

	x->method = "GET";
	buf_printf(&x->url, "?cluster=%s&namespace=%s&gid=%s&branch=%s", b->cluster, b->space,
	           b->gid, b->id);
}

static void keep(struct run *run, struct exchange *x)
{
	size_t n = run->n_exchange;

	/* Grows when the number reaches a power of two. */
	if ((n & (n - 1)) == 0) {
		run->exchange = realloc(run->exchange, (n ? 2 * n : 1) * sizeof(struct exchange *));
		if (!run->exchange)
			abort();
	}
	run->exchange[run->n_exchange++] = x;
}

struct exchange *compose(struct run *run, struct branch *branch, const struct step *step)
{
	const struct options *o = run->options;
	const char *op = op_of(branch, step);
	struct exchange *x = exchange_new();

	x->step = step;
	x->branch = branch;
	x->attempt = ++branch->attempt[step->role];
	x->method = "POST";
	x->hang_up = step->how & HOW_HANG_UP;
	x->limit_ms = (step->how & HOW_BRIEF ? BRIEF_MS : o->timeout_ms) + GRACE_MS;
	if (step->how & HOW_PROMPT)
		x->limit_ms = o->timeout_ms / 2;
	buf_printf(&x->url, "%s/%s", o->address,
	           step->how & HOW_OTHER_PATH ? branch->mode->op[ROLE_UNDO] : op);
	branch->refused |= (step->how & HOW_REFUSED) != 0;
	if (step->role == ROLE_STATUS)
		put_status_url(x);
	else
		put_payload(&x->body, branch->refused ? o->refused_payload : o->payload, branch);
	if (!(step->how & HOW_NO_HEADERS)) {
		if (step->role != ROLE_STATUS) {
			put_identity(step, op, x);
			put_times(run, step, x);
		}
		if (run->keys && !(step->how & HOW_UNSIGNED))
			put_signature(run, step, op, x);
	}
	keep(run, x);
	return x;
}
