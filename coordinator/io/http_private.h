/*
 * http_private.h - what http_server.c (connections) and http_request.c (the handler's view of a
 * request) share.
 */
#ifndef IO_HTTP_PRIVATE_H
#define IO_HTTP_PRIVATE_H

#include <microhttpd.h>

#include "base/buf.h"
#include "io/http_server.h"

struct http_request {
	struct http_server *server;
	struct MHD_Connection *connection; /* NULL: gone before its reply */
	const char *method;
	const char *path;
	struct buf body;
	uint64_t dropped;
	bool too_large;
	bool no_room;   /* its body was dropped */
	bool seen;      /* the handler had it */
	bool suspended; /* the connection waits for the reply */
	bool replied;
	int status;
	struct MHD_Response *response; /* NULL after `replied`: out of memory */
	int64_t started_us;
	void *data;
	char text[]; /* method and path */
};

#endif /* IO_HTTP_PRIVATE_H */
