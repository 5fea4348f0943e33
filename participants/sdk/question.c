/*
 * question.c - the questions of a sweep, and what counts as an answer.
 *
 * Asked together are those about all branches of a batch, ROUND_MAX at a time.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "sweep.h"

#define ADDRESS_MAX 100

static void ask_round(struct tick *t)
{
	struct round *r = &t->p->round;

	sdk_get_all(t->p->getter, r->ask, r->n, t->p->ask_ms);
	for (size_t i = 0; i < r->n; i++) {
		r->judge(r->due[i], r->whom[i], &r->ask[i]);
		sdk_get_release(&r->ask[i]);
	}
	r->n = 0;
}

static struct sdk_get *add_question(struct tick *t, struct due *due, const char *whom)
{
	struct round *r = &t->p->round;

	if (r->n == ROUND_MAX)
		ask_round(t);
	r->due[r->n] = due;
	snprintf(r->whom[r->n], sizeof(r->whom[r->n]), "%s", whom);
	return &r->ask[r->n++];
}

/* Whether it is a 200 about this gid of this cluster. */
static bool is_about(const struct sdk_get *ask, const struct assent_call *call)
{
	char cluster[sizeof(call->cluster)], gid[sizeof(call->gid)];

	if (ask->status != 200 || ask->answer.len == 0)
		return false;
	sdk_json_member(ask->answer.data, ask->answer.len, "cluster", cluster, sizeof(cluster));
	sdk_json_member(ask->answer.data, ask->answer.len, "gid", gid, sizeof(gid));
	return strcmp(cluster, call->cluster) == 0 && strcmp(gid, call->gid) == 0;
}

/* The coordinator that was asked, as an URL without the secrets that it may have. */
static int address(const struct sdk_get *ask, const char **start)
{
	const char *url = ask->url.failed ? "" : ask->url.data, *path, *at;

	path = strstr(url, "/v1/transactions/");
	if (!path)
		path = url;
	at = memrchr(url, '@', (size_t)(path - url));
	*start = at ? at + 1 : url;
	return path - *start < ADDRESS_MAX ? (int)(path - *start) : ADDRESS_MAX;
}

/* No decision, which need not be the coordinator's fault: a wrong address looks like that too. */
static void note_silence(struct due *due, const struct sdk_get *ask)
{
	char cluster[sizeof(due->call.cluster)] = "";
	/* 429 and 5xx come and go; the others stay until somebody mends them. */
	bool stays = ask->status && ask->status != 429 && ask->status < 500;
	const char *at;
	int len = address(ask, &at);

	/* Of several, what tells most. A service lists the coordinators of all clusters: that one of
	 * them knows nothing of another's transaction is no news while that other is away. */
	if (*due->silence &&
	    (ask->status == 200 || (!stays && due->refused && due->refused != 200)))
		return;
	due->refused = stays ? (int)ask->status : 0;
	if (ask->status == 200 && ask->answer.len)
		sdk_json_member(ask->answer.data, ask->answer.len, "cluster", cluster,
		                sizeof(cluster));
	if (!ask->status)
		snprintf(due->silence, sizeof(due->silence), "no decision from %.*s: %s", len, at,
		         ask->why ? ask->why : "no answer in time");
	else if (sdk_identifier(cluster, 32, "") && strcmp(cluster, due->call.cluster) != 0)
		snprintf(due->silence, sizeof(due->silence),
		         "no decision from %.*s: it is of cluster %s, not %s", len, at, cluster,
		         due->call.cluster);
	else
		snprintf(due->silence, sizeof(due->silence),
		         "no decision from %.*s: it answered %ld", len, at, ask->status);
}

static void judge_coordinator(struct due *due, const char *whom, const struct sdk_get *ask)
{
	char decision[16];

	(void)whom;
	if (!is_about(ask, &due->call)) {
		note_silence(due, ask);
		return;
	}
	if (due->coordinator > PENDING)
		return;
	sdk_json_member(ask->answer.data, ask->answer.len, "decision", decision, sizeof(decision));
	if (strcmp(decision, "commit") == 0)
		due->coordinator = COMMIT;
	else if (strcmp(decision, "abort") == 0)
		due->coordinator = ABORT;
	else if (strcmp(decision, "pending") == 0)
		due->coordinator = PENDING;
	due->is_unknown = sdk_json_is_true(ask->answer.data, ask->answer.len, "presumed");
}

static void judge_peer(struct due *due, const char *whom, const struct sdk_get *ask)
{
	char branch[33] = "", state[16] = "";

	if (is_about(ask, &due->call)) {
		sdk_json_member(ask->answer.data, ask->answer.len, "branch", branch,
		                sizeof(branch));
		sdk_json_member(ask->answer.data, ask->answer.len, "state", state, sizeof(state));
	}
	if (strcmp(branch, whom) != 0 ||
	    (strcmp(state, "committed") != 0 && strcmp(state, "aborted") != 0 &&
	     strcmp(state, "pre_committed") != 0)) {
		sdk_text_printf(&due->why, ", %s not reached", whom);
		return;
	}
	due->n_answer++;
	due->n_committed += strcmp(state, "committed") == 0;
	due->n_aborted += strcmp(state, "aborted") == 0;
	sdk_text_printf(&due->why, ", %s %s", whom, state);
}

void sdk_ask_coordinators(struct tick *t, struct due *dues, size_t n)
{
	const struct assent_participant *p = t->p;

	t->p->round.judge = judge_coordinator;
	for (size_t i = 0; i < n; i++) {
		for (size_t j = 0; dues[i].open && j < p->n_coordinator; j++) {
			struct sdk_get *ask = add_question(t, &dues[i], "");

			sdk_text_printf(&ask->url, "%s/v1/transactions/%s/decision",
			                p->coordinator[j], dues[i].call.gid);
			if (p->authorization)
				sdk_text_printf(&ask->headers, "%s\n", p->authorization);
		}
	}
	ask_round(t);
}

static void sign_question(const struct assent_participant *p, const struct assent_call *of,
                          struct sdk_get *ask)
{
	struct sdk_text id = {0}, signatures = {0};
	char now[24];

	if (!p->verifier)
		return;
	snprintf(now, sizeof(now), "%lld", (long long)time(NULL));
	sdk_signed_id(of, &id);
	if (id.failed || !sdk_sign(p->verifier, id.data, now, NULL, &signatures))
		ask->headers.failed = true;
	else
		sdk_text_printf(&ask->headers,
		                "webhook-id: %s\nwebhook-timestamp: %s\nwebhook-signature: %s\n",
		                id.data, now, signatures.data);
	sdk_text_release(&id);
	sdk_text_release(&signatures);
}

static void ask_peer(struct tick *t, struct due *due, const char *branch, const char *url,
                     size_t url_len)
{
	struct sdk_get *ask = add_question(t, due, branch);
	struct assent_call of = due->call;

	snprintf(of.branch, sizeof(of.branch), "%s", branch);
	snprintf(of.op, sizeof(of.op), "status");
	of.attempt = 0;
	sdk_text_printf(&ask->url, "%.*s%ccluster=%s&namespace=%s&gid=%s&branch=%s", (int)url_len,
	                url, memchr(url, '?', url_len) ? '&' : '?', of.cluster, of.space, of.gid,
	                branch);
	sign_question(t->p, &of, ask);
	due->n_peer++;
}

/* `peers` was checked when it came with pre_commit. */
static void ask_all_peers(struct tick *t, struct due *due)
{
	const char *peers = due->call.peers;

	if (!peers) {
		due->n_peer++;
		sdk_text_puts(&due->why, ", its peers are not known");
		return;
	}
	while (*peers) {
		size_t id_len = strcspn(peers, "="), url_len;
		char id[33];

		memcpy(id, peers, id_len < sizeof(id) ? id_len : 0);
		id[id_len < sizeof(id) ? id_len : 0] = '\0';
		peers += id_len + (peers[id_len] == '=');
		url_len = strcspn(peers, ",");
		if (strcmp(id, due->call.branch) != 0)
			ask_peer(t, due, id, peers, url_len);
		peers += url_len + (peers[url_len] == ',');
	}
}

void sdk_ask_peers(struct tick *t, struct due *dues, size_t n)
{
	t->p->round.judge = judge_peer;
	for (size_t i = 0; i < n; i++) {
		if (dues[i].open && !dues[i].two_phase)
			ask_all_peers(t, &dues[i]);
	}
	ask_round(t);
}
