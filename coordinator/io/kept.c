#include "io/kept.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define ENDS_MAX 128

struct kept_socket {
	struct list fresh;
	struct map_node node; /* in named, when it has ends */
	int fd;
	char ends[ENDS_MAX];
};

int kept_init(struct kept *k)
{
	*k = (struct kept){0};
	list_init(&k->fresh);
	return map_init(&k->named, 64);
}

void kept_release(struct kept *k)
{
	for (size_t fd = 0; fd < k->n_fd; fd++)
		kept_close(k, (int)fd);
	map_release(&k->named);
	free(k->by_fd);
}

static int reserve(struct kept *k, size_t fd)
{
	size_t n = 2 * fd + 16;
	struct kept_socket **more;

	if (fd < k->n_fd)
		return 0;
	more = realloc(k->by_fd, n * sizeof(struct kept_socket *));
	if (more == NULL)
		return ERR_NOMEM;
	for (size_t i = k->n_fd; i < n; i++)
		more[i] = NULL;
	k->by_fd = more;
	k->n_fd = n;
	return 0;
}

int kept_open(struct kept *k, int fd)
{
	struct kept_socket *s = calloc(1, sizeof *s);

	if (s == NULL || reserve(k, (size_t)fd) < 0) {
		free(s);
		return ERR_NOMEM;
	}
	kept_close(k, fd);
	s->fd = fd;
	k->by_fd[fd] = s;
	list_push(&k->fresh, &s->fresh);
	return 0;
}

void kept_close(struct kept *k, int fd)
{
	struct kept_socket *s = (size_t)fd < k->n_fd ? k->by_fd[fd] : NULL;

	if (s == NULL)
		return;
	k->by_fd[fd] = NULL;
	list_remove(&s->fresh);
	if (s->ends[0] != '\0')
		map_remove(&k->named, &s->node);
	free(s);
}

static size_t put_ends(const struct kept_ends *e, char *text)
{
	int n = snprintf(text, ENDS_MAX, "%s %d %s %d", e->from, e->from_port, e->to, e->to_port);

	return n < ENDS_MAX ? (size_t)n : ENDS_MAX - 1;
}

static int port_of(int fd, int (*ask)(int, struct sockaddr *, socklen_t *))
{
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} a;
	socklen_t len = sizeof a;

	memset(&a, 0, sizeof a);
	if (ask(fd, &a.any, &len) < 0)
		return -1;
	return ntohs(a.any.sa_family == AF_INET6 ? a.v6.sin6_port : a.v4.sin_port);
}

static bool has_ports(int fd, int from_port, int to_port)
{
	return port_of(fd, getsockname) == from_port && port_of(fd, getpeername) == to_port;
}

int kept_name(struct kept *k, const struct kept_ends *ends)
{
	LIST_FOR_EACH (link, &k->fresh) {
		struct kept_socket *s = container_of(link, struct kept_socket, fresh);
		size_t len;

		if (!has_ports(s->fd, ends->from_port, ends->to_port))
			continue;
		list_remove(&s->fresh);
		len = put_ends(ends, s->ends);
		if (map_put(&k->named, &s->node, s->ends, len) < 0)
			s->ends[0] = '\0';
		return s->fd;
	}
	return -1;
}

bool kept_speaks(const struct kept *k, const struct kept_ends *ends)
{
	char text[ENDS_MAX], byte;
	struct map_node *n = map_get(&k->named, text, put_ends(ends, text));

	return n == NULL || recv(container_of(n, struct kept_socket, node)->fd, &byte, 1,
	                         MSG_PEEK | MSG_DONTWAIT) >= 0;
}
