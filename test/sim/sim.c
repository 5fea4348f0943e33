/*
 * sim.c - usage: sim SEED N. Runs N worlds, the first from SEED; with N = 1 it tells the story.
 *
 * Where to read: sim.h for the parts, check.c for what is held true.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sim.h"

static char replay_line[160]; /* what the handler may only write out */

static void on_abort(int signo)
{
	ssize_t rc = write(STDOUT_FILENO, replay_line, strlen(replay_line));

	(void)signo, (void)rc;
	_exit(1);
}

static void name_replay(uint64_t seed)
{
	(void)snprintf(replay_line, sizeof replay_line,
	               "replay: make sim SEED=%" PRIu64 " N=1\n0 passed, 1 failed\n", seed);
}

static uint64_t number(const char *text, uint64_t otherwise)
{
	char *end;
	uint64_t n;

	if (!text)
		return otherwise;
	n = strtoull(text, &end, 10);
	if (*end || end == text) {
		fprintf(stderr, "sim: not a number: %s\n", text);
		exit(2);
	}
	return n;
}

int main(int argc, char **argv)
{
	uint64_t first = number(argc > 1 ? argv[1] : NULL, 1);
	uint64_t n = number(argc > 2 ? argv[2] : NULL, 10000);
	uint64_t outcome[MODE_MAX][OUTCOME_MAX] = {0};
	uint64_t crashes = 0, by_peers = 0, by_timeout = 0;
	struct world *w = world_new();

	(void)signal(SIGABRT, on_abort);
	for (uint64_t seed = first; seed < first + n; seed++) {
		name_replay(seed);
		world_run(w, seed, n == 1);
		if (seed % 997 == 0) { /* same seed, same world, byte for byte */
			uint64_t hash = w->hash;
			uint64_t events = w->events;

			world_run(w, seed, false);
			must(w, w->hash == hash && w->events == events);
		}
		outcome[w->mode][w->durable.outcome]++;
		crashes += w->crashes;
		by_peers += w->n_by_peers;
		by_timeout += w->n_by_timeout;
	}
	/* Worlds in which nobody ends without the coordinator would show nothing. */
	must(w, n < 10000 || (by_peers && by_timeout));
	world_free(w);
	printf("seeds %" PRIu64 ", crashes %" PRIu64 "\n", n, crashes);
	for (int mode = 1; mode < MODE_MAX; mode++)
		printf("%s: committed %" PRIu64 " aborted %" PRIu64 " mixed %" PRIu64 "\n",
		       txn_mode_str((enum txn_mode)mode), outcome[mode][OUTCOME_COMMITTED],
		       outcome[mode][OUTCOME_ABORTED], outcome[mode][OUTCOME_MIXED]);
	printf("3pc participants that ended without the coordinator: %" PRIu64
	       " by their peers, %" PRIu64 " by on_timeout\n",
	       by_peers, by_timeout);
	printf("1 passed, 0 failed\n");
	return 0;
}
