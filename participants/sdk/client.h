/*
 * client.h - what the files of the initiator's side share: curl.c (one exchange), client.c (the
 * coordinator's addresses), ask.c (asking until there is an answer), txn.c (a submission's JSON) and
 * interactive.c (transactions that grow).
 */
#ifndef SDK_CLIENT_H
#define SDK_CLIENT_H

#include <pthread.h>
#include <stdatomic.h>

#include "internal.h"

/* ---- curl.c ---- */

struct sdk_curl; /* connections that are kept open; thread-safe */

struct sdk_curl *sdk_curl_new(void); /* NULL: out of memory */
void sdk_curl_free(struct sdk_curl *pool);

struct sdk_exchange {
	const char *method;
	const char *url;
	const char *const *header;   /* "Name: value", NULL behind the last; or NULL */
	const struct sdk_text *body; /* or NULL */
	int timeout_ms;              /* for all of it */
	int connect_ms;
	/* What came of it. */
	long status; /* 0: no whole answer, and `error` says why */
	bool sent;   /* something went out: without an answer, it may have been carried out */
	int retry_after_ms;
	struct sdk_text answer; /* the caller's to release */
	char error[256];
};

/* False when there was no memory to try. */
bool sdk_curl_do(struct sdk_curl *pool, struct sdk_exchange *x);

/* ---- txn.c ---- */

struct assent_txn {
	char gid[129];
	char mode[8];
	unsigned n_branch;
	unsigned n_after;     /* of the last branch */
	struct sdk_text json; /* up to the last member of the last branch */
	size_t head_len;      /* up to the first branch */
	/* The last branch, as it stands in `json`. */
	size_t branch_at;
	size_t payload_at, payload_len;
	char branch[33];
	char *participant;
};

/* What is missing at the end of the last branch. */
const char *sdk_txn_close_branch(const struct assent_txn *txn);

/* ---- client.c ---- */

#define SDK_ADDRESS_MAX 16

struct assent_client {
	char *address[SDK_ADDRESS_MAX]; /* without a slash at their ends */
	unsigned n_address;
	atomic_uint current;            /* the address that answered last */
	char *authorization;            /* a header line, or NULL */
	struct assent_verifier *signer; /* of calls to branches; or NULL */
	int patience_ms;
	struct sdk_curl *curl;
	pthread_mutex_t lock;
	char cluster[33]; /* under the lock; "" until a coordinator has told it */
};

/* ---- ask.c ---- */

/* One wish of a user's: asked over the addresses until there is an answer or the time is over. */
struct sdk_ask {
	const char *gid;
	const char *action; /* behind the gid: "", "/commit", ... */
	const char *method;
	const struct sdk_text *body; /* or NULL */
	int wait_ms;                 /* for the end of the transaction; 0..60000 */
};

/* `result` may be NULL. The checks of `wait_ms` and gid are made here. */
int sdk_client_ask(struct assent_client *client, const struct sdk_ask *ask,
                   struct assent_result *result, struct assent_error *err);

/* GET .../decision: 0 only when a coordinator has answered with this very gid. Empty strings
 * otherwise. */
struct sdk_decision {
	char cluster[33];
	char decision[16]; /* "commit", "abort", "pending" */
};
int sdk_client_decision(struct assent_client *client, const char *gid,
                        struct sdk_decision *decision, struct assent_error *err);

/* The cluster that the coordinator belongs to, which is made once and for ever; asked for once. */
int sdk_client_cluster(struct assent_client *client, const char *gid, char cluster[33],
                       struct assent_error *err);

/* Whether nothing is left to be done, its branches included. */
bool sdk_is_ended(const struct assent_result *result);
/* 0 when it is over. */
int sdk_ms_until(int64_t until_us);
void sdk_pause(int ms);

#endif /* SDK_CLIENT_H */
