#include "io/notify.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct sockaddr_un to;
static socklen_t to_len; /* 0: nobody waits */

void notify_open(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	size_t len = path ? strlen(path) : 0;

	if (len < 2 || len >= sizeof to.sun_path || (*path != '/' && *path != '@'))
		return;
	to.sun_family = AF_UNIX;
	memcpy(to.sun_path, path, len);
	/* An abstract socket: its name begins with a NUL and ends where the address does. */
	if (*path == '@')
		to.sun_path[0] = '\0';
	to_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
	(void)unsetenv("NOTIFY_SOCKET");
}

void notify_send(const char *state)
{
	int fd = to_len > 0 ? socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0) : -1;
	ssize_t rc;

	if (fd < 0)
		return;
	/* There is nobody else to tell when the service manager does not listen. */
	rc = sendto(fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT,
	            (const struct sockaddr *)&to, to_len);
	(void)rc;
	(void)close(fd);
}
