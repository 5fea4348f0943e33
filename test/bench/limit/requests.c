#include <arpa/inet.h>
#include <jansson.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test/bench/limit/limit.h"

#define CONNECTION_MEMORY ((size_t)16 * 1024) /* as assentd has it */

static struct MHD_Daemon *mhd;
static bool resumed;

void txn_answer(struct txn *t)
{
	MHD_resume_connection(t->connection);
	resumed = true;
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
	char body[768];
	bool accepted = !limit.mode->first;
	int n = snprintf(body, sizeof body,
	                 "{\"gid\":\"%s\",\"outcome\":\"%s\",\"filler\":\"%0*d\"}", t->gid,
	                 accepted ? "pending" : "committed", accepted ? 590 : 480, 0);
	struct MHD_Response *r = MHD_create_response_from_buffer((size_t)n, body,
	                                                         MHD_RESPMEM_MUST_COPY);
	enum MHD_Result rc;

	MHD_add_response_header(r, "Content-Type", "application/json");
	MHD_add_response_header(r, "X-Request-Id", t->gid);
	if (accepted)
		MHD_add_response_header(r, "Location", t->gid);
	rc = MHD_queue_response(t->connection, accepted ? 202 : 200, r);
	MHD_destroy_response(r);
	return rc;
}

/* The gid is the client's here. */
static void read_submission(struct txn *t)
{
	json_t *root = json_loadb(t->body, t->len, JSON_REJECT_DUPLICATES, NULL);
	const char *gid = json_string_value(json_object_get(root, "gid"));

	if (!gid || strlen(gid) >= sizeof t->gid)
		die("a submission without a gid that fits");
	memcpy(t->gid, gid, strlen(gid) + 1);
	json_decref(root);
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
	if (!limit.mode->first)
		read_submission(t);
	flush_enqueue(t, PHASE_CREATE);
	MHD_suspend_connection(connection);
	return MHD_YES;
}

int requests_serve(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
	                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	mhd = MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_request,
	                       NULL, MHD_OPTION_SOCK_ADDR, &address, MHD_OPTION_CONNECTION_LIMIT,
	                       1024u, MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_MEMORY,
	                       MHD_OPTION_END);
	if (!mhd)
		die("libmicrohttpd does not start");
	(void)printf("ready http://127.0.0.1:%u\n",
	             (unsigned)MHD_get_daemon_info(mhd, MHD_DAEMON_INFO_BIND_PORT)->port);
	(void)fflush(stdout);
	return MHD_get_daemon_info(mhd, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
}

bool requests_pending(void)
{
	MHD_UNSIGNED_LONG_LONG ms;

	return resumed || (MHD_get_timeout(mhd, &ms) == MHD_YES && ms == 0);
}

void requests_run(void)
{
	resumed = false;
	MHD_run(mhd);
}

void requests_stop(void)
{
	MHD_stop_daemon(mhd);
}
