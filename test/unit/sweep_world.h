/*
 * sweep_world.h - what the tests of the sweep share. Branch b is swept. Its peer p has its facts in
 * the same database, and a server of libassent answers for it; the same server answers what the test
 * says in the place of the coordinator, by gid.
 */
#ifndef TEST_SWEEP_WORLD_H
#define TEST_SWEEP_WORLD_H

#include "sdk_fixture.h"

#define SWEEP_NOWHERE "http://127.0.0.1:1"

/* What the coordinator answers about a gid: each word once, the last for ever. */
struct sweep_script {
	char gid[16];
	char path[64];
	const char *words[3]; /* a decision, "silent" (503), or a body */
	unsigned n_asked;
};

extern PGconn *sweep_conn;
extern char sweep_body[256];                   /* of the last reply */
extern struct assent_participant *sweep_asker; /* whose tick it is */
extern struct assent_tick_report sweep_report;
extern char sweep_peers[600]; /* p, where it answers */
/* The second asks for signatures, with the secret of that file. */
extern struct assent_server *sweep_server, *sweep_locked;
extern char sweep_secret[];
extern struct sweep_script sweep_decoy; /* answers at /decoy/status of the first server */
/* ... about the gid "rival", as a coordinator at the server's address, and below /other there. */
extern struct sweep_script sweep_rivals[2];

int sweep_setup(void **state);
int sweep_teardown(void **state);

/* A gid of its own for each case, because paths are given before the server starts. */
struct sweep_script *sweep_script(const char *first, const char *second);
struct assent_participant *sweep_participant(const char *coordinators, const char *secret);
/* Everything that is in doubt is due; the second: but not p, which has nobody who ticks for it. */
void sweep_tick(void);
void sweep_tick_b(void);

int sweep_do(const char *gid, const char *branch, const char *op);
/* b has said yes to pre_commit, and knows these peers. */
struct sweep_script *sweep_pre_committed(const char *first, const char *second,
                                         const char *peer_list, const char *on_timeout);
/* For both, and nothing is left. */
void sweep_end(const char *gid, const char *op);

void sweep_assert_says(const char *text);
/* What has become of b, found without asking it; "" is nothing yet. */
void sweep_assert_decision(const char *gid, const char *decision, bool heuristic);
int sweep_n_vouched(const char *gid);
enum assent_vote sweep_never(const struct assent_call *call, PGconn *c, struct assent_reply *reply,
                             void *ctx);

#endif /* TEST_SWEEP_WORLD_H */
