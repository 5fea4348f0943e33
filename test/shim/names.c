/*
 * names.c - LD_PRELOAD: a name server that a test has in hand.
 *
 *	NAMES_FILE   what it does now, for names that end in .test: "hang", "fail" or "serve",
 *	             which makes 127.0.0.1 of all of them; other names are looked up as ever
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef int lookup_fn(const char *, const char *, const struct addrinfo *, struct addrinfo **);

static char mode(void)
{
	const char *path = getenv("NAMES_FILE");
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	char first = 's';

	if (fd >= 0 && read(fd, &first, 1) != 1)
		first = 'h'; /* it is being written */
	if (fd >= 0)
		(void)close(fd);
	return first;
}

static bool is_ours(const char *name)
{
	size_t len = name ? strlen(name) : 0;

	return len > 5 && strcmp(name + len - 5, ".test") == 0;
}

/* The header's names are reserved. */
/* NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name) */
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **out)
{
	static const struct timespec pause = {0, 5000000};
	void *symbol = dlsym(RTLD_NEXT, "getaddrinfo");
	lookup_fn *real;

	memcpy((void *)&real, (const void *)&symbol, sizeof real);
	if (!is_ours(name))
		return real(name, service, hints, out);
	while (mode() == 'h')
		(void)nanosleep(&pause, NULL);
	return mode() == 'f' ? EAI_AGAIN : real("127.0.0.1", service, hints, out);
}
