/*
 * golden.c - usage: golden [--rewrite] [FILE ...]. Runs test/golden/ *.txt by default.
 *
 * A file is a row of blocks: lines of commands (machine.c), a line `----`, the lines that they
 * print, an empty line. Lines that begin with # are for readers. --rewrite accepts what is
 * printed now; read the difference before you commit it.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"

#define DIRECTORY "test/golden"

struct run {
	struct machine *machine;
	bool rewrite;
	unsigned n_passed, n_failed;
};

static _Noreturn void die(const char *path)
{
	perror(path);
	exit(2);
}

static void read_file(const char *path, struct buf *text)
{
	FILE *f = fopen(path, "r");
	char chunk[4096];
	size_t n;

	if (!f)
		die(path);
	while ((n = fread(chunk, 1, sizeof chunk, f)) > 0)
		buf_append(text, chunk, n);
	if (ferror(f) || text->failed)
		die(path);
	(void)fclose(f);
}

static void write_file(const char *path, const struct buf *text)
{
	FILE *f = fopen(path, "w");

	if (!f || fwrite(text->data, 1, text->len, f) != text->len || fclose(f) != 0)
		die(path);
}

/* The next line without its end, or NULL; *at moves behind it. */
static char *next_line(char **at)
{
	char *line = *at;
	char *end;

	if (!line || !*line)
		return NULL;
	end = strchr(line, '\n');
	*at = end ? end + 1 : line + strlen(line);
	if (end)
		*end = '\0';
	return line;
}

static void put_prefixed(const char *prefix, const char *text)
{
	while (*text) {
		size_t len = strcspn(text, "\n");

		printf("%s%.*s\n", prefix, (int)len, text);
		text += len + (text[len] == '\n');
	}
}

static void judge(struct run *r, const char *path, unsigned line, const struct buf *expected,
                  const struct buf *got)
{
	const char *want = expected->data ? expected->data : "";
	const char *have = got->data ? got->data : "";

	if (r->rewrite || strcmp(want, have) == 0) {
		r->n_passed++;
		return;
	}
	r->n_failed++;
	printf("%s:%u\n", path, line);
	put_prefixed("  -", want);
	put_prefixed("  +", have);
}

/* Runs one block; `kept` gets it as it would be rewritten. False at the end of the file. */
static bool run_block(struct run *r, const char *path, char **at, unsigned *n_line,
                      struct buf *kept)
{
	struct buf expected = BUF_INIT;
	struct buf got = BUF_INIT;
	unsigned first = 0;
	char *line;

	while ((line = next_line(at)) && strcmp(line, "----") != 0) {
		++*n_line;
		buf_printf(kept, "%s\n", line);
		if (*line == '#' || *line == '\0')
			continue;
		first = first ? first : *n_line;
		machine_run(r->machine, line, &got);
	}
	if (!line && first) {
		fprintf(stderr, "golden: %s:%u: commands without ----\n", path, first);
		exit(2);
	}
	if (!line)
		return false;
	++*n_line;
	while ((line = next_line(at)) && *line) {
		++*n_line;
		buf_printf(&expected, "%s\n", line);
	}
	++*n_line;
	judge(r, path, first, &expected, &got);
	buf_printf(kept, "----\n%s%s", got.data ? got.data : "", line ? "\n" : "");
	buf_release(&expected);
	buf_release(&got);
	return line != NULL;
}

static void run_file(struct run *r, const char *path)
{
	struct buf text = BUF_INIT;
	struct buf kept = BUF_INIT;
	unsigned n_line = 0;
	char *at;

	read_file(path, &text);
	at = text.data;
	while (run_block(r, path, &at, &n_line, &kept))
		;
	if (r->rewrite)
		write_file(path, &kept);
	buf_release(&text);
	buf_release(&kept);
}

static int is_golden(const struct dirent *e)
{
	size_t len = strlen(e->d_name);

	return len > 4 && strcmp(e->d_name + len - 4, ".txt") == 0;
}

static void run_directory(struct run *r)
{
	struct buf uncovered = BUF_INIT;
	struct dirent **entry;
	int n = scandir(DIRECTORY, &entry, is_golden, alphasort);

	if (n < 0)
		die(DIRECTORY);
	for (int i = 0; i < n; i++) {
		char path[512];

		(void)snprintf(path, sizeof path, "%s/%s", DIRECTORY, entry[i]->d_name);
		run_file(r, path);
		free(entry[i]);
	}
	free(entry);
	machine_uncovered(r->machine, &uncovered);
	if (uncovered.len) {
		fputs(uncovered.data, stdout);
		r->n_failed++;
	} else {
		r->n_passed++;
	}
	buf_release(&uncovered);
}

int main(int argc, char **argv)
{
	struct run r = {.machine = machine_new()};
	int i = 1;

	if (i < argc && strcmp(argv[i], "--rewrite") == 0) {
		r.rewrite = true;
		i++;
	}
	if (i == argc)
		run_directory(&r);
	for (; i < argc; i++)
		run_file(&r, argv[i]);
	machine_free(r.machine);
	printf("%u passed, %u failed\n", r.n_passed, r.n_failed);
	return r.n_failed ? 1 : 0;
}
