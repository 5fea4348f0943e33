/*
 * no_memory.c - LD_PRELOAD: one allocation of a running program fails.
 *
 *	NO_MEMORY_IN    the name of the program it is about; its children have their memory
 *	NO_MEMORY_FILE  `struct note`, mapped. Another process may change it while the program runs.
 *
 * It stands in front of the C library's allocator, and behind the program's own if there is one.
 */
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define DEPTH 8

struct note {
	_Atomic uint64_t left; /* the how-many-th from now fails; 0: none */
	_Atomic uint64_t failed;
	char whose[48]; /* only those that a file with this in its name asked for; "": all */
};

static void *(*real_malloc)(size_t size);
static void *(*real_calloc)(size_t n, size_t size);
static void *(*real_realloc)(void *p, size_t size);

static struct note *note;

__attribute__((constructor)) static void begin(void)
{
	const char *program = getenv("NO_MEMORY_IN");
	const char *path = getenv("NO_MEMORY_FILE");
	void *frame[1], *map;
	int fd;

	if (!program || !path || strcmp(program, program_invocation_short_name) != 0)
		return;
	(void)unsetenv("LD_PRELOAD");
	(void)backtrace(frame, 1); /* it loads a library the first time */
	fd = open(path, O_RDWR | O_CLOEXEC);
	map = fd < 0 ? MAP_FAILED
	             : mmap(NULL, sizeof *note, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		abort();
	(void)close(fd);
	note = map;
}

/* Functions that allocate for somebody else. */
static bool is_allocator(const Dl_info *at)
{
	static const char *const name[] = {"malloc", "calloc", "realloc"};

	if (strstr(at->dli_fname, "/libc.so") || strstr(at->dli_fname, "/no_memory.so"))
		return true;
	for (size_t i = 0; at->dli_sname && i < sizeof name / sizeof name[0]; i++)
		if (strcmp(at->dli_sname, name[i]) == 0)
			return true;
	return false;
}

static bool is_asked_by(const char *whose)
{
	void *frame[DEPTH];
	int n = backtrace(frame, DEPTH);
	Dl_info at;

	for (int i = 0; i < n; i++)
		if (dladdr(frame[i], &at) && !is_allocator(&at))
			return strstr(at.dli_fname, whose) != NULL;
	return false;
}

static bool fails_now(void)
{
	uint64_t left = note ? note->left : 0;

	if (left == 0 || (note->whose[0] && !is_asked_by(note->whose)))
		return false;
	if (note->left-- != 1)
		return false;
	note->failed++;
	errno = ENOMEM;
	return true;
}

static void find(void)
{
	real_malloc = __extension__(void *(*)(size_t)) dlsym(RTLD_NEXT, "malloc");
	real_calloc = __extension__(void *(*)(size_t, size_t)) dlsym(RTLD_NEXT, "calloc");
	real_realloc = __extension__(void *(*)(void *, size_t)) dlsym(RTLD_NEXT, "realloc");
}

/* The headers name their parameters with reserved names only. */
/* NOLINTBEGIN(readability-inconsistent-declaration-parameter-name) */
void *malloc(size_t size)
{
	if (!real_realloc)
		find();
	return fails_now() ? NULL : real_malloc(size);
}

void *calloc(size_t n, size_t size)
{
	if (!real_realloc)
		find();
	return fails_now() ? NULL : real_calloc(n, size);
}

void *realloc(void *p, size_t size)
{
	if (!real_realloc)
		find();
	return fails_now() ? NULL : real_realloc(p, size);
}
/* NOLINTEND(readability-inconsistent-declaration-parameter-name) */
