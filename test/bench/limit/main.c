#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "test/bench/limit/limit.h"

#define EVENTS            256
#define CONNECTION_MEMORY ((size_t)16 * 1024) /* as assentd has it */

struct limit limit;

static struct MHD_Daemon *mhd;
static int mhd_fd;
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

void txn_answer(struct txn *t)
{
	MHD_resume_connection(t->connection);
	limit.mhd_run = true;
	if (limit.mode->second)
		flush_enqueue(t, PHASE_END);
}

void txn_free(struct txn *t)
{
	limit.in_flight--;
	free(t);
}

static enum MHD_Result answer(const struct txn *t)
{
	char body[640];
	int n = snprintf(body, sizeof body,
	                 "{\"gid\":\"%s\",\"outcome\":\"committed\",\"filler\":\"%0480d\"}", t->gid,
	                 0);
	struct MHD_Response *r = MHD_create_response_from_buffer((size_t)n, body,
	                                                         MHD_RESPMEM_MUST_COPY);
	enum MHD_Result rc;

	MHD_add_response_header(r, "Content-Type", "application/json");
	MHD_add_response_header(r, "X-Request-Id", t->gid);
	rc = MHD_queue_response(t->connection, 200, r);
	MHD_destroy_response(r);
	return rc;
}

/* NOLINTNEXTLINE(readability-function-size): MHD_AccessHandlerCallback */
static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *len, void **own)
{
	static unsigned long n_txn;
	struct txn *t = *own;

	(void)cls, (void)url, (void)method, (void)version;
	if (!t) {
		*own = t = calloc(1, sizeof *t);
		if (!t)
			die("out of memory");
		t->connection = connection;
		(void)snprintf(t->gid, sizeof t->gid, "limit-%d-%lu", (int)getpid(), n_txn++);
		return MHD_YES;
	}
	if (*len > 0) {
		if (t->len + *len > sizeof t->body)
			die("a body is too long");
		memcpy(t->body + t->len, data, *len);
		t->len += *len;
		*len = 0;
		return MHD_YES;
	}
	if (t->seen) {
		enum MHD_Result rc = answer(t);

		/* The others wait for the record of their end. */
		if (!limit.mode->second)
			txn_free(t);
		return rc;
	}
	t->seen = true;
	limit.in_flight++;
	flush_enqueue(t, PHASE_CREATE);
	MHD_suspend_connection(connection);
	return MHD_YES;
}

static void serve(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
	                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	mhd = MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_request,
	                       NULL, MHD_OPTION_SOCK_ADDR, &address, MHD_OPTION_CONNECTION_LIMIT,
	                       1024u, MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_MEMORY,
	                       MHD_OPTION_END);
	if (!mhd)
		die("libmicrohttpd does not start");
	mhd_fd = MHD_get_daemon_info(mhd, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
	watch(mhd_fd, EPOLL_CTL_ADD, EPOLLIN);
	(void)printf("ready http://127.0.0.1:%u\n",
	             (unsigned)MHD_get_daemon_info(mhd, MHD_DAEMON_INFO_BIND_PORT)->port);
	(void)fflush(stdout);
}

static int wait_ms(void)
{
	int64_t due_us = flush_due_us(), now_us = clock_mono_us();
	MHD_UNSIGNED_LONG_LONG mhd_ms;

	if (calls_due_us() < due_us)
		due_us = calls_due_us();
	limit.mhd_run = MHD_get_timeout(mhd, &mhd_ms) == MHD_YES && mhd_ms == 0;
	if (limit.mhd_run)
		return 0;
	if (due_us == INT64_MAX)
		return 100;
	return due_us <= now_us ? 0 : (int)((due_us - now_us + 999) / 1000);
}

static void turn(void)
{
	struct epoll_event event[EVENTS];
	int n = epoll_wait(limit.epoll, event, EVENTS, wait_ms());

	limit.mhd_run |= n < 1;
	for (int i = 0; i < n; i++) {
		if (event[i].data.fd == mhd_fd)
			limit.mhd_run = true;
		else if (event[i].data.fd == flush_fd())
			flush_ready();
		else
			calls_ready(event[i].data.fd, event[i].events);
	}
	calls_collect();
	if (limit.mhd_run)
		MHD_run(mhd);
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
	    {"2pc", "prepare", "commit", NULL},
	    {"3pc", "can_commit", "do_commit", "pre_commit"},
	    {"tcc", "try", "confirm", NULL},
	    {"saga", "action", NULL, NULL},
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
	serve();
	while (!stopping)
		turn();
	MHD_stop_daemon(mhd);
	return EXIT_SUCCESS;
}
