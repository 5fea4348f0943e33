/*
 * listen.c - a listening TCP socket.
 */
#include "io/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 1024

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

static int address_parse(const char *host, uint16_t port, union address *a, socklen_t *len)
{
	char text[INET6_ADDRSTRLEN];
	size_t n = strlen(host);

	if (n >= 2 && host[0] == '[' && host[n - 1] == ']') {
		host++;
		n -= 2;
	}
	if (n >= sizeof(text))
		return ERR_INVALID;
	memcpy(text, host, n);
	text[n] = '\0';
	memset(a, 0, sizeof(*a));
	if (inet_pton(AF_INET, text, &a->v4.sin_addr) == 1) {
		a->v4.sin_family = AF_INET;
		a->v4.sin_port = htons(port);
		*len = sizeof(a->v4);
		return 0;
	}
	if (inet_pton(AF_INET6, text, &a->v6.sin6_addr) == 1) {
		a->v6.sin6_family = AF_INET6;
		a->v6.sin6_port = htons(port);
		*len = sizeof(a->v6);
		return 0;
	}
	return ERR_INVALID;
}

/* SO_REUSEADDR lets a restart bind
 * while connections of its dead predecessor linger; a listener that lives is still an error.
 * Accepted connections inherit TCP_NODELAY. */
static int socket_open(union address *a, socklen_t len, int *out)
{
	int on = 1;
	int err = ERR_IO;
	int fd = socket(a->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return ERR_IO;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (a->any.sa_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	if (bind(fd, &a->any, len) != 0 || listen(fd, BACKLOG) != 0) {
		if (errno == EADDRINUSE)
			err = ERR_EXISTS;
		goto out;
	}
	if (getsockname(fd, &a->any, &len) != 0)
		goto out;
	*out = fd;
	return 0;
out:
	close(fd);
	return err;
}

int listen_open(const char *host, uint16_t port, int *fd, uint16_t *bound, bool *ipv6)
{
	union address a;
	socklen_t len;
	int err = address_parse(host, port, &a, &len);

	if (err == 0)
		err = socket_open(&a, len, fd);
	if (err != 0)
		return err;
	*ipv6 = a.any.sa_family == AF_INET6;
	*bound = ntohs(*ipv6 ? a.v6.sin6_port : a.v4.sin_port);
	return 0;
}
