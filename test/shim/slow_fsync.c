/*
 * slow_fsync.c - a slow disk: LD_PRELOAD it into PostgreSQL, SLOW_FSYNC_MS is how slow.
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int slowly(const char *name, int fd)
{
	const char *ms = getenv("SLOW_FSYNC_MS");
	long us = 1000 * (ms ? strtol(ms, NULL, 10) : 0);
	struct timespec pause = {us / 1000000, us % 1000000 * 1000};
	void *symbol = dlsym(RTLD_NEXT, name);
	int (*real)(int);

	(void)nanosleep(&pause, NULL);
	memcpy((void *)&real, (const void *)&symbol, sizeof real);
	return real(fd);
}

/* The headers' names are reserved. */
int fsync(int fd) /* NOLINT(readability-inconsistent-declaration-parameter-name) */
{
	return slowly("fsync", fd);
}

int fdatasync(int fd) /* NOLINT(readability-inconsistent-declaration-parameter-name) */
{
	return slowly("fdatasync", fd);
}
