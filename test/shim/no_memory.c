/*
 * no_memory.c - LD_PRELOAD: allocations of a running program fail, now and then.
 *
 *	NO_MEMORY_IN     the name of the program it is about; its children have their memory
 *	NO_MEMORY_FILE   two numbers of 8 bytes, mapped: one in so many allocations fails, 0 for none;
 *	                 and how many did. Another process changes the first while the program runs.
 *	NO_MEMORY_SEED   which ones: a number; the same seed and the same program fail alike
 *
 * Its threads count together. When it dies of a signal, the places it was at go to stderr, the
 * innermost first.
 */
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The allocator behind us: the C library's, or that of a tool which stands in front of it. */
static void *(*real_malloc)(size_t size);
static void *(*real_calloc)(size_t n, size_t size);
static void *(*real_realloc)(void *p, size_t size);

static struct {
	_Atomic uint64_t one_in, failed;
} * note;
static _Atomic uint64_t number, seed;

static void dying(int signum)
{
	static const char head[] = "died here:\n";
	void *frame[40];

	(void)!write(2, head, sizeof head - 1);
	backtrace_symbols_fd(frame, backtrace(frame, 40), 2);
	(void)raise(signum); /* SA_RESETHAND: for good, once we are back */
}

static void watch(void)
{
	struct sigaction action = {.sa_handler = dying, .sa_flags = (int)SA_RESETHAND};
	void *frame[1];

	(void)backtrace(frame, 1); /* it loads a library the first time */
	(void)sigaction(SIGSEGV, &action, NULL);
	(void)sigaction(SIGBUS, &action, NULL);
	(void)sigaction(SIGABRT, &action, NULL);
}

__attribute__((constructor)) static void begin(void)
{
	const char *program = getenv("NO_MEMORY_IN");
	const char *path = getenv("NO_MEMORY_FILE");
	const char *text = getenv("NO_MEMORY_SEED");
	void *map;
	int fd;

	if (!program || !path || strcmp(program, program_invocation_short_name) != 0)
		return;
	(void)unsetenv("LD_PRELOAD");
	fd = open(path, O_RDWR | O_CLOEXEC);
	map = fd < 0 ? MAP_FAILED
	             : mmap(NULL, sizeof *note, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		abort();
	(void)close(fd);
	watch();
	seed = text ? strtoull(text, NULL, 10) : 1;
	note = map;
}

/* splitmix64: the n-th allocation's lot. */
static uint64_t lot(uint64_t n)
{
	uint64_t z = n * UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static bool fails_now(void)
{
	uint64_t n = note ? note->one_in : 0;

	if (n == 0 || lot(seed + number++) % n != 0)
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
