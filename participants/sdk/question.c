/*
 * question.c - the questions of a sweep, and what counts as an answer.
 *
 * Asked together are those about all branches of a batch, ROUND_MAX at a time; when there are more,
 * and no time left, the rest of the branches is put off. Who has been told to stop does not wait for
 * answers any more, and takes none of it for silence.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "sweep.h"

#define ADDRESS_MAX 100
#define GREETING    "assent-hello" /* a gid: that nobody knows it is answer enough */

static void ask_round(struct tick *t)
{
	struct round *r = &t->p->round;

	sdk_get_all(t->p->getter, r->ask, r->n, t->p->ask_ms, &t->p->stopped);
	for (size_t i = 0; i < r->n; i++) {
		r->judge(&r->of[i], &r->ask[i]);
		sdk_get_release(&r->ask[i]);
	}
	r->n = 0;
	r->asked = true;
}

/* False when those about this branch do not fit any more, and there is no time for another round. */
static bool make_room(struct tick *t, struct due *due, size_t n)
{
	struct round *r = &t->p->round;

	if (r->n && r->n + n > ROUND_MAX)
		ask_round(t);
	if (r->n || !r->asked || sdk_now_us() < t->until_us)
		return true;
	sdk_put_off(t, due);
	return false;
}

static struct sdk_get *add_question(struct tick *t, const struct asked *of)
{
	struct round *r = &t->p->round;

	if (r->n == ROUND_MAX)
		ask_round(t);
	r->of[r->n] = *of;
	return &r->ask[r->n++];
}

/* Whether it is a 200 about this gid; `cluster` says of which cluster. */
static bool is_about(const struct sdk_get *ask, const struct assent_call *call, char cluster[33])
{
	char gid[sizeof(call->gid)];

	*cluster = '\0';
	if (ask->status != 200 || ask->answer.len == 0)
		return false;
	sdk_json_member(ask->answer.data, ask->answer.len, "cluster", cluster, 33);
	if (!sdk_identifier(cluster, 32, ""))
		*cluster = '\0';
	sdk_json_member(ask->answer.data, ask->answer.len, "gid", gid, sizeof(gid));
	return *cluster && strcmp(gid, call->gid) == 0;
}

/* ---- coordinators ---- */

/* The coordinator that was asked, as an URL without the secrets that it may have. */
static void address(const struct sdk_get *ask, char out[ADDRESS_MAX])
{
	const char *url = ask->url.failed ? "" : ask->url.data, *path, *at;

	path = strstr(url, "/v1/transactions/");
	if (!path)
		path = url;
	at = memrchr(url, '@', (size_t)(path - url));
	url = at ? at + 1 : url;
	snprintf(out, ADDRESS_MAX, "%.*s", (int)(path - url), url);
}

/* What came instead of a decision, for people. */
static void say(struct due *due, const char *what, const struct sdk_get *ask)
{
	long status = ask->status;
	const char *hint = status == 401 || status == 403 ? " (token_file)"
	                   : status == 404                ? " (is it a coordinator?)"
	                                                  : "";
	char at[ADDRESS_MAX];

	address(ask, at);
	if (status)
		snprintf(due->silence, sizeof(due->silence), "%.20s %s: it answered %ld%.30s", what,
		         at, status, hint);
	else
		snprintf(due->silence, sizeof(due->silence), "%.20s %s: %.60s", what, at,
		         ask->why ? ask->why : "no answer in time");
}

/* 429 and 5xx come and go; the others stay until somebody mends them. */
static bool stays(const struct sdk_get *ask)
{
	return ask->status && ask->status != 429 && ask->status < 500;
}

/* No decision, which need not be the coordinator's fault: a wrong address looks like that too. */
static void note_silence(struct due *due, const struct sdk_get *ask, const char *cluster)
{
	char at[ADDRESS_MAX];

	/* Of several, what tells most. A service lists the coordinators of all clusters: that one of
	 * them knows nothing of another's transaction is no news while that other is away. */
	if (*due->silence &&
	    (ask->status == 200 || (!stays(ask) && due->refused && due->refused != 200)))
		return;
	due->refused = stays(ask) ? (int)ask->status : 0;
	say(due, "no decision from", ask);
	if (!*cluster || strcmp(cluster, due->call.cluster) == 0)
		return;
	address(ask, at);
	snprintf(due->silence, sizeof(due->silence),
	         "no decision from %s: it is of cluster %.32s, not %.32s", at, cluster,
	         due->call.cluster);
}

static void judge_coordinator(const struct asked *of, const struct sdk_get *ask)
{
	struct due *due = of->due;
	char cluster[33], decision[16];
	bool about = is_about(ask, &due->call, cluster), presumed;
	enum word word;

	if (about)
		memcpy(of->coordinator->cluster, cluster, sizeof(cluster));
	if (!about || strcmp(cluster, due->call.cluster) != 0) {
		note_silence(due, ask, cluster);
		return;
	}
	sdk_json_member(ask->answer.data, ask->answer.len, "decision", decision, sizeof(decision));
	presumed = sdk_json_is_true(ask->answer.data, ask->answer.len, "presumed");
	word = strcmp(decision, "commit") == 0    ? COMMIT
	       : strcmp(decision, "pending") == 0 ? PENDING
	       : strcmp(decision, "abort") != 0   ? SILENT
	       : presumed                         ? PRESUMED
	                                          : ABORT;
	/* Nobody takes a decision back: a second one is not believed. */
	if (due->coordinator < COMMIT && word > due->coordinator)
		due->coordinator = word;
}

/* What a question about nothing tells: whether one with a branch behind it would be answered. */
static void judge_greeting(const struct asked *of, const struct sdk_get *ask)
{
	struct due *hello = of->due;
	char cluster[33];

	if (is_about(ask, &hello->call, cluster)) {
		memcpy(of->coordinator->cluster, cluster, sizeof(cluster));
		return;
	}
	if (*hello->silence && (hello->refused || !stays(ask)))
		return;
	hello->refused = stays(ask) ? (int)ask->status : 0;
	say(hello, "no coordinator at", ask);
}

static void judge_peer(const struct asked *of, const struct sdk_get *ask)
{
	struct due *due = of->due;
	const char *whom = of->peer;
	char cluster[33], branch[33] = "", state[16] = "";

	if (is_about(ask, &due->call, cluster) && strcmp(cluster, due->call.cluster) == 0) {
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

static void ask_all_addresses(struct tick *t, struct due *due)
{
	struct assent_participant *p = t->p;

	for (size_t i = 0; i < p->n_coordinator; i++) {
		const struct asked of = {.due = due, .coordinator = &p->coordinator[i]};
		struct sdk_get *ask = add_question(t, &of);

		sdk_text_printf(&ask->url, "%s/v1/transactions/%s/decision", of.coordinator->url,
		                due->call.gid);
		if (p->authorization)
			sdk_text_printf(&ask->headers, "%s\n", p->authorization);
	}
}

void sdk_greet_coordinators(struct tick *t, struct due *hello)
{
	snprintf(hello->call.gid, sizeof(hello->call.gid), "%s", GREETING);
	t->p->round.judge = judge_greeting;
	ask_all_addresses(t, hello);
	ask_round(t);
}

void sdk_ask_coordinators(struct tick *t, struct due *dues, size_t n)
{
	t->p->round.judge = judge_coordinator;
	t->p->round.asked = false;
	for (size_t i = 0; i < n; i++) {
		if (dues[i].open && make_room(t, &dues[i], t->p->n_coordinator))
			ask_all_addresses(t, &dues[i]);
	}
	ask_round(t);
}

/* ---- peers ---- */

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

static void ask_peer(struct tick *t, struct due *due, const struct sdk_peer *peer)
{
	struct asked of = {.due = due};
	struct assent_call call = due->call;
	struct sdk_get *ask;

	memcpy(of.peer, peer->id, sizeof(of.peer));
	memcpy(call.branch, peer->id, sizeof(call.branch));
	snprintf(call.op, sizeof(call.op), "status");
	call.attempt = 0;
	ask = add_question(t, &of);
	sdk_text_printf(&ask->url, "%.*s%ccluster=%s&namespace=%s&gid=%s&branch=%s",
	                (int)peer->url_len, peer->url,
	                memchr(peer->url, '?', peer->url_len) ? '&' : '?', call.cluster, call.space,
	                call.gid, call.branch);
	sign_question(t->p, &call, ask);
}

/* `peers` was checked when it came with pre_commit; the operator may have changed his mind. */
static void ask_all_peers(struct tick *t, struct due *due)
{
	const char *peers = due->call.peers;
	struct sdk_peer peer;

	if (!peers) {
		due->n_peer++;
		sdk_text_puts(&due->why, ", its peers are not known");
		return;
	}
	while (sdk_peer_next(&peers, &peer)) {
		if (strcmp(peer.id, due->call.branch) == 0)
			continue;
		due->n_peer++;
		if (sdk_peer_is_allowed(t->p->allowed, &peer))
			ask_peer(t, due, &peer);
		else
			sdk_text_printf(&due->why, ", %s may not be asked", peer.id);
	}
}

static size_t count_peers(const char *peers)
{
	struct sdk_peer peer;
	size_t n = 0;

	while (peers && sdk_peer_next(&peers, &peer))
		n++;
	return n;
}

void sdk_ask_peers(struct tick *t, struct due *dues, size_t n)
{
	t->p->round.judge = judge_peer;
	t->p->round.asked = false;
	for (size_t i = 0; i < n; i++) {
		if (dues[i].open && !dues[i].two_phase &&
		    make_room(t, &dues[i], count_peers(dues[i].call.peers)))
			ask_all_peers(t, &dues[i]);
	}
	ask_round(t);
}
