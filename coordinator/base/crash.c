#include "base/crash.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/near.h"

enum crash_point crash_armed = CRASH_NONE;

static unsigned long passes_left;

/* near_match wants the NULL at the end. */
static const char *const names[] = {
#define CRASH_NAME(symbol, name, what) name,
    CRASH_POINTS(CRASH_NAME)
#undef CRASH_NAME
        NULL};

static const char *const whats[] = {
#define CRASH_WHAT(symbol, name, what) what,
    CRASH_POINTS(CRASH_WHAT)
#undef CRASH_WHAT
};

void crash_pass(void)
{
	if (--passes_left > 0)
		return;
	(void)kill(getpid(), SIGKILL);
	/* The signal need not have been delivered when kill returns. */
	for (;;)
		(void)pause();
}

static int read_nth(const char *text, unsigned long *nth)
{
	char *end;

	*nth = strtoul(text, &end, 10);
	return *text >= '1' && *text <= '9' && !*end ? 0 : ERR_INVALID;
}

static int complain_unknown(const char *name, char *why, size_t size)
{
	const char *near = near_match(name, names);

	if (near)
		(void)snprintf(why, size, "there is no crash point \"%.64s\"; did you mean \"%s\"?",
		               name, near);
	else
		(void)snprintf(why, size,
		               "there is no crash point \"%.64s\"; see --list-crash-points", name);
	return ERR_INVALID;
}

int crash_arm(const char *spec, char *why, size_t size)
{
	size_t len = strcspn(spec, ":");
	unsigned long nth = 1;
	char name[65] = "";

	if (spec[len] && read_nth(spec + len + 1, &nth) < 0) {
		(void)snprintf(why, size, "a crash point is `name` or `name:nth`, not \"%.64s\"",
		               spec);
		return ERR_INVALID;
	}
	memcpy(name, spec, len < sizeof name ? len : sizeof name - 1);
	for (int p = CRASH_NONE + 1; p < CRASH_MAX; p++) {
		if (strcmp(names[p - 1], name) == 0) {
			passes_left = nth;
			crash_armed = (enum crash_point)p;
			return 0;
		}
	}
	return complain_unknown(name, why, size);
}

const char *crash_name(enum crash_point p)
{
	return names[p - 1];
}

const char *crash_what(enum crash_point p)
{
	return whats[p - 1];
}
