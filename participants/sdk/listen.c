#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "internal.h"

/* Splits "host:port" or "[v6]:port". */
static bool split(const char *address, char *host, size_t size, const char **port)
{
	const char *colon = strrchr(address, ':');
	size_t len = colon ? (size_t)(colon - address) : 0;

	if (len == 0 || !colon[1])
		return false;
	if (*address == '[' && colon[-1] == ']') {
		address++;
		len -= 2;
	}
	if (len == 0 || len >= size)
		return false;
	memcpy(host, address, len);
	host[len] = '\0';
	*port = colon + 1;
	return true;
}

static int bind_to(const struct addrinfo *info)
{
	int on = 1;
	int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -1;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
	    bind(fd, info->ai_addr, info->ai_addrlen) || listen(fd, 512)) {
		int saved = errno;

		close(fd);
		errno = saved;
		return -1;
	}
	return fd;
}

/* The socket's own address, because port 0 was filled in by the system. */
static void name_socket(int fd, const char *host, char *url, size_t size)
{
	struct sockaddr_storage name;
	socklen_t len = sizeof(name);
	char port[NI_MAXSERV] = "0";

	if (getsockname(fd, (struct sockaddr *)&name, &len) == 0)
		getnameinfo((struct sockaddr *)&name, len, NULL, 0, port, sizeof(port),
		            NI_NUMERICSERV);
	snprintf(url, size, strchr(host, ':') ? "http://[%s]:%s" : "http://%s:%s", host, port);
}

int sdk_listen(const char *address, char *url, size_t size, struct assent_error *err)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
	struct addrinfo *info;
	char host[256];
	const char *port;
	int rc, fd;

	if (!split(address, host, sizeof(host), &port))
		return sdk_fail(err, ASSENT_E_INVALID, "%s is not an address like 127.0.0.1:7481",
		                address);
	rc = getaddrinfo(host, port, &hints, &info);
	if (rc)
		return sdk_fail(err, ASSENT_E_SYSTEM, "%s: %s", address, gai_strerror(rc));
	fd = bind_to(info);
	freeaddrinfo(info);
	if (fd < 0)
		return sdk_fail(err, ASSENT_E_SYSTEM, "%s: %s", address, strerror(errno));
	name_socket(fd, host, url, size);
	return fd;
}
