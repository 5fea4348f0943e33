#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "test/bench/limit/limit.h"

#define EVENTS 256

struct limit limit;

static int requests_fd;
static volatile sig_atomic_t stopping;

void die(const char *what)
{
	(void)fprintf(stderr, "limit: %s\n", what);
	exit(EXIT_FAILURE);
}

void watch(int fd, int op, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.fd = fd};

	if (epoll_ctl(limit.epoll, op, fd, &ev) < 0 && op != EPOLL_CTL_DEL)
		die(strerror(errno));
}

static int wait_ms(void)
{
	int64_t due_us = flush_due_us(), now_us = clock_mono_us();

	if (calls_due_us() < due_us)
		due_us = calls_due_us();
	if (requests_pending())
		return 0;
	if (due_us == INT64_MAX)
		return 100;
	return due_us <= now_us ? 0 : (int)((due_us - now_us + 999) / 1000);
}

static void turn(void)
{
	struct epoll_event event[EVENTS];
	int n = epoll_wait(limit.epoll, event, EVENTS, wait_ms());
	bool run = n < 1;

	for (int i = 0; i < n; i++) {
		if (event[i].data.fd == requests_fd)
			run = true;
		else if (event[i].data.fd == flush_fd())
			flush_ready();
		else
			calls_ready(event[i].data.fd, event[i].events);
	}
	calls_collect();
	if (run || requests_pending())
		requests_run();
	if (flush_due_us() <= clock_mono_us())
		flush_send();
}

static void on_signal(int number)
{
	(void)number;
	stopping = 1;
}

static const struct mode *find_mode(const char *name)
{
	static const struct mode mode[] = {
	    {"2pc", "prepare", "commit", NULL}, {"3pc", "can_commit", "do_commit", "pre_commit"},
	    {"tcc", "try", "confirm", NULL},    {"saga", "action", NULL, NULL},
	    {"submit", NULL, NULL, NULL},
	};

	for (size_t i = 0; i < sizeof mode / sizeof mode[0]; i++) {
		if (strcmp(mode[i].name, name) == 0)
			return &mode[i];
	}
	die("there is no such mode");
}

int main(int argc, char **argv)
{
	if (argc < 4 || argc > 3 + BRANCH_MAX)
		die("usage: limit MODE CONNINFO PARTICIPANT...");
	limit.mode = find_mode(argv[1]);
	limit.participant = argv + 3;
	limit.n_participant = (unsigned)argc - 3;
	limit.epoll = epoll_create1(EPOLL_CLOEXEC);
	calls_init();
	flush_init(argv[2]);
	(void)signal(SIGTERM, on_signal);
	requests_fd = requests_serve();
	watch(requests_fd, EPOLL_CTL_ADD, EPOLLIN);
	while (!stopping)
		turn();
	requests_stop();
	return EXIT_SUCCESS;
}
