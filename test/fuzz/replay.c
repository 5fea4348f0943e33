/*
 * replay.c - main() of the fuzz_*.c without libFuzzer: feeds each file that is named, and each in
 * the directories that are named, and says how many there were. One that fails aborts, after its
 * name.
 */
#include <dirent.h>
#include <limits.h>
#include <sys/stat.h>

#include "fuzz.h"

#define FILE_MAX ((size_t)2 * 1024 * 1024)

static unsigned n_file;

static void feed(const char *path)
{
	char *data = malloc(FILE_MAX);
	FILE *f = fopen(path, "rbe");
	size_t size;

	must(data && f);
	size = fread(data, 1, FILE_MAX, f);
	(void)fclose(f);
	(void)fprintf(stderr, "%s\n", path);
	(void)LLVMFuzzerTestOneInput((const uint8_t *)data, size);
	free(data);
	n_file++;
}

static void feed_all(const char *directory)
{
	struct dirent **entry;
	int n = scandir(directory, &entry, NULL, alphasort);

	must(n >= 0);
	for (int i = 0; i < n; i++) {
		char path[PATH_MAX];

		(void)snprintf(path, sizeof path, "%s/%s", directory, entry[i]->d_name);
		if (entry[i]->d_name[0] != '.')
			feed(path);
		free(entry[i]);
	}
	free((void *)entry);
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		struct stat st;

		must(stat(argv[i], &st) == 0);
		if (S_ISDIR(st.st_mode))
			feed_all(argv[i]);
		else
			feed(argv[i]);
	}
	printf("%u passed, 0 failed\n", n_file);
	return n_file ? 0 : 1;
}
