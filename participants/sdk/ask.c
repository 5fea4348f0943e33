/*
 * ask.c - asking a coordinator that has several addresses, over a network that loses answers.
 *
 * Everything asked is idempotent: a gid is one transaction for ever. So what was not answered is
 * asked again, at the next address, until there is an answer or the time is over:
 *	(1) only an answer of the coordinator's ends it: 2xx about this gid, or 4xx with a code, but
 *	    429. 429 and 503 "overloaded" say that nothing was done; everything else (no answer, 500,
 *	    503 "not_ready", and whatever a proxy says, a 404 included) leaves open whether it was.
 *	(2) a submission in doubt is looked up before it is sent again. When it is found, it is sent
 *	    again all the same, since only that tells whether it is the caller's or another one with
 *	    its gid. If nobody takes it (one may be drained, or overloaded, and yet tell what it
 *	    knows), what was read counts.
 *	(3) when the time is over, what is in doubt is called that (ASSENT_E_UNREACHABLE).
 */
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "client.h"

#define WAIT_MAX_MS  60000
#define PAUSE_MS     100 /* doubled after each round of the addresses */
#define PAUSE_MAX_MS 2000

/* One wish on its way. */
struct hunt {
	struct assent_client *client;
	const struct sdk_ask *ask;
	unsigned n_try;
	unsigned address;     /* asked last */
	long status;          /* of the last answer that came at all; 0: none did */
	unsigned answered_by; /* which address */
	int64_t wait_until_us, until_us;
	bool in_doubt; /* something was sent whose answer is not known */
	bool found;    /* a reading said what is in `read` */
	struct assent_result read;
	struct sdk_exchange x;
};

int sdk_jitter_ms(int ms)
{
	unsigned random = 0;

	/* Without entropy there is no jitter, and nothing else is worse for it. */
	(void)!getrandom(&random, sizeof(random), GRND_NONBLOCK);
	return ms / 2 + (int)(random % ((unsigned)(ms - ms / 2) + 1));
}

void sdk_pause(int ms)
{
	struct timespec pause = {ms / 1000, ms % 1000 * 1000000L};

	nanosleep(&pause, NULL);
}

int sdk_ms_until(int64_t until_us)
{
	int64_t left_us = until_us - sdk_now_us();

	return left_us > 0 ? (int)((left_us + 999) / 1000) : 0;
}

/* One try takes a part of the time, so that a network which swallows answers leaves some of it. */
static void send_once(struct hunt *h, const char *method, const char *action,
                      const struct sdk_text *body, int wait_ms)
{
	struct assent_client *client = h->client;
	char prefer[40];
	const char *header[4] = {NULL};
	struct sdk_text url = {0};
	int n = 0, left_ms = sdk_ms_until(h->until_us), part_ms = client->patience_ms / 3 + 1;

	if (client->authorization)
		header[n++] = client->authorization;
	if (body)
		header[n++] = "Content-Type: application/json";
	if (wait_ms > 0) {
		snprintf(prefer, sizeof(prefer), "Prefer: wait=%d", (wait_ms + 999) / 1000);
		header[n++] = prefer;
	}
	h->address = (atomic_load(&client->current) + h->n_try) % client->n_address;
	sdk_text_printf(&url, "%s/v1/transactions/%s%s", client->address[h->address], h->ask->gid,
	                action);
	h->x.method = method;
	h->x.url = url.data;
	h->x.header = header;
	h->x.body = body;
	h->x.timeout_ms = wait_ms + part_ms < left_ms ? wait_ms + part_ms : left_ms;
	h->x.connect_ms = part_ms;
	if (url.failed || !sdk_curl_do(client->curl, &h->x))
		h->x.status = 0;
	if (h->x.status) {
		h->status = h->x.status;
		h->answered_by = h->address;
	}
	h->x.url = NULL;
	h->x.header = NULL;
	sdk_text_release(&url);
}

static void member(const struct hunt *h, const char *name, char *out, size_t size)
{
	sdk_json_member(h->x.answer.len ? h->x.answer.data : "", h->x.answer.len, name, out, size);
}

/* A 2xx that is this transaction's. */
static bool read_result(const struct hunt *h, struct assent_result *result)
{
	*result = (struct assent_result){0};
	if (h->x.status != 200 && h->x.status != 202)
		return false;
	member(h, "gid", result->gid, sizeof(result->gid));
	member(h, "state", result->state, sizeof(result->state));
	member(h, "outcome", result->outcome, sizeof(result->outcome));
	if (*result->outcome && strcmp(result->gid, h->ask->gid) == 0)
		return true;
	*result = (struct assent_result){0};
	return false;
}

bool sdk_is_ended(const struct assent_result *result)
{
	return strcmp(result->state, "committed") == 0 || strcmp(result->state, "aborted") == 0 ||
	       strcmp(result->state, "mixed") == 0;
}

/* Whether the last exchange ends the hunt; if not, whether something may have been done by it. */
static bool is_answered(struct hunt *h)
{
	long status = h->x.status;
	char code[32], gid[129];

	member(h, "code", code, sizeof(code));
	member(h, "gid", gid, sizeof(gid));
	if (status >= 200 && status < 300 && strcmp(gid, h->ask->gid) == 0)
		return true;
	if (status >= 400 && status < 500 && status != 429 && *code)
		return true;
	if (status == 0 ? h->x.sent : status != 429 && strcmp(code, "overloaded") != 0)
		h->in_doubt = true;
	return false;
}

/* On to the next address; after a whole round, or when told so, not at once. False when the time
 * is over. */
static bool next_try(struct hunt *h)
{
	unsigned n = h->client->n_address, round = ++h->n_try / n;
	/* The last try has time for an answer. */
	int spare_ms = sdk_ms_until(h->until_us) - h->client->patience_ms / 10;
	int pause_ms;

	if (h->n_try % n == 0) {
		pause_ms = round < 6 ? PAUSE_MS << (round - 1) : PAUSE_MAX_MS;
		pause_ms = pause_ms < PAUSE_MAX_MS ? pause_ms : PAUSE_MAX_MS;
		/* Retry-After comes in whole seconds: never earlier than it says, if at all. */
		pause_ms = sdk_jitter_ms(pause_ms) +
		           (h->x.retry_after_ms > pause_ms ? h->x.retry_after_ms : 0);
		if (pause_ms > spare_ms)
			pause_ms = spare_ms;
		if (pause_ms > 0)
			sdk_pause(pause_ms);
	}
	return spare_ms > 0;
}

/* Rule (2). */
static void look_up(struct hunt *h)
{
	struct assent_result result;

	send_once(h, "GET", "", NULL, 0);
	if (read_result(h, &result)) {
		h->found = true;
		h->read = result;
	}
}

/* True when the answer is in h->x. */
static bool hunt(struct hunt *h)
{
	const struct sdk_ask *ask = h->ask;

	do {
		int wait_ms = ask->wait_ms ? sdk_ms_until(h->wait_until_us) : 0;

		if (h->in_doubt && strcmp(ask->method, "PUT") == 0)
			look_up(h);
		send_once(h, ask->method, ask->action, ask->body, wait_ms);
		if (is_answered(h)) {
			atomic_store(&h->client->current, h->address);
			return true;
		}
		if (h->found && (sdk_is_ended(&h->read) || !sdk_ms_until(h->wait_until_us)))
			return false;
	} while (next_try(h));
	return false;
}

/* ---- what it means ---- */

static int refused(const struct hunt *h, struct assent_error *err)
{
	char code[64], detail[200];
	int rc = ASSENT_E_REFUSED;

	member(h, "code", code, sizeof(code));
	member(h, "detail", detail, sizeof(detail));
	if (h->x.status < 400)
		snprintf(detail, sizeof(detail),
		         "without the transaction: is %.100s a coordinator?",
		         h->client->address[h->address]);
	if (strcmp(code, "gid_conflict") == 0 || strcmp(code, "branch_conflict") == 0)
		rc = ASSENT_E_CONFLICT;
	sdk_fail(err, rc, "the coordinator answered %ld%s%.180s%s", h->x.status,
	         *detail ? ": " : "", detail,
	         h->x.status == 401 ? " (assent_client_load_token)" : "");
	if (err)
		err->http_status = (int)h->x.status;
	return rc;
}

static int not_answered(const struct hunt *h, struct assent_error *err)
{
	bool reads = strcmp(h->ask->method, "GET") == 0;
	const char *doubt = reads ? ""
	                    : h->in_doubt
	                        ? "; it may or may not have been done: ask again with the same gid"
	                        : "; nothing was done";

	if (h->x.status && !h->in_doubt && !reads)
		return refused(h, err);
	if (h->status)
		sdk_fail(err, ASSENT_E_UNREACHABLE, "%.100s answered %ld%s%s",
		         h->client->address[h->answered_by], h->status,
		         h->status < 500 && h->status != 429 ? " (is it a coordinator?)" : "",
		         doubt);
	else
		sdk_fail(err, ASSENT_E_UNREACHABLE, "%.100s: %.80s%s",
		         h->client->address[h->address], h->x.error, doubt);
	if (err)
		err->http_status = (int)h->status;
	return ASSENT_E_UNREACHABLE;
}

static int start_hunt(struct hunt *h, struct assent_error *err)
{
	const struct sdk_ask *ask = h->ask;

	if (!h->client || !ask->gid)
		return sdk_fail(err, ASSENT_E_INVALID, "client or gid is NULL");
	if (!sdk_identifier(ask->gid, sizeof(h->read.gid) - 1, "._:~-"))
		return sdk_fail(err, ASSENT_E_INVALID, "gid is not valid");
	if (ask->wait_ms < 0 || ask->wait_ms > WAIT_MAX_MS)
		return sdk_fail(err, ASSENT_E_INVALID, "wait_ms is 0 to %d", WAIT_MAX_MS);
	if (ask->body && ask->body->failed)
		return sdk_fail(err, ASSENT_E_NOMEM, "out of memory");
	h->wait_until_us = sdk_now_us() + (int64_t)ask->wait_ms * 1000;
	h->until_us = h->wait_until_us + (int64_t)h->client->patience_ms * 1000;
	return 0;
}

int sdk_client_ask(struct assent_client *client, const struct sdk_ask *ask,
                   struct assent_result *result, struct assent_error *err)
{
	struct hunt h = {.client = client, .ask = ask};
	struct assent_result found = {0};
	int rc = start_hunt(&h, err);

	if (rc == 0 && hunt(&h))
		rc = read_result(&h, &found) ? 0 : refused(&h, err);
	else if (rc == 0 && h.found)
		found = h.read;
	else if (rc == 0)
		rc = not_answered(&h, err);
	/* Too late for this word: how it stands instead is what the caller wants to know. */
	if (rc == ASSENT_E_REFUSED && h.x.status == 409) {
		look_up(&h);
		found = h.read;
	}
	if (result)
		*result = found;
	sdk_text_release(&h.x.answer);
	return rc;
}

int sdk_client_decision(struct assent_client *client, const char *gid,
                        struct sdk_decision *decision, struct assent_error *err)
{
	struct sdk_ask ask = {.gid = gid, .action = "/decision", .method = "GET"};
	struct hunt h = {.client = client, .ask = &ask};
	char answered[129] = "";
	int rc = start_hunt(&h, err);

	*decision = (struct sdk_decision){0};
	if (rc)
		return rc;
	if (!hunt(&h)) {
		rc = not_answered(&h, err);
	} else {
		member(&h, "gid", answered, sizeof(answered));
		member(&h, "cluster", decision->cluster, sizeof(decision->cluster));
		member(&h, "decision", decision->decision, sizeof(decision->decision));
		if (h.x.status != 200 || strcmp(answered, gid) != 0 || !*decision->cluster ||
		    !*decision->decision) {
			*decision = (struct sdk_decision){0};
			rc = refused(&h, err);
		}
	}
	sdk_text_release(&h.x.answer);
	return rc;
}

int sdk_client_cluster(struct assent_client *client, const char *gid, char cluster[33],
                       struct assent_error *err)
{
	struct sdk_decision now;
	int rc;

	pthread_mutex_lock(&client->lock);
	memcpy(cluster, client->cluster, sizeof(client->cluster));
	pthread_mutex_unlock(&client->lock);
	if (*cluster)
		return 0;
	rc = sdk_client_decision(client, gid, &now, err);
	if (rc)
		return rc;
	memcpy(cluster, now.cluster, sizeof(now.cluster));
	pthread_mutex_lock(&client->lock);
	memcpy(client->cluster, now.cluster, sizeof(now.cluster));
	pthread_mutex_unlock(&client->lock);
	return 0;
}
