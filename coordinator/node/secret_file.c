#include "node/secret_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Checked on the open file: what was looked at is what is read. */
static const char *fault_of(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return strerror(errno);
	if (!S_ISREG(st.st_mode))
		return "it is not a regular file";
	if (st.st_uid == 0 && (st.st_mode & 037) == 0)
		return NULL;
	if (st.st_uid != geteuid())
		return "it belongs neither to this user nor to root";
	if ((st.st_mode & 077) != 0)
		return "others can read it; chmod 600";
	return NULL;
}

static size_t read_whole(int fd, char *text, size_t size)
{
	size_t len = 0;
	ssize_t n;

	while (len < size && (n = read(fd, text + len, size - len)) > 0)
		len += (size_t)n;
	return len;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static const char *take_line(const char *text, size_t len, char **out)
{
	while (len > 0 && is_blank(text[len - 1]))
		len--;
	for (; len > 0 && is_blank(*text); len--)
		text++;
	if (len < SECRET_MIN || len > SECRET_MAX)
		return "a secret is one line of 16 to 512 bytes";
	for (size_t i = 0; i < len; i++) {
		if (text[i] <= 0x20 || text[i] > 0x7e)
			return "a secret is one line of printable characters without blanks";
	}
	*out = strndup(text, len);
	return NULL;
}

int secret_file_read(const char *path, char **out, char *why, size_t size)
{
	char text[2 * SECRET_MAX];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	const char *fault = fd < 0 ? strerror(errno) : fault_of(fd);

	*out = NULL;
	if (!fault)
		fault = take_line(text, read_whole(fd, text, sizeof text), out);
	explicit_bzero(text, sizeof text);
	if (fd >= 0)
		(void)close(fd);
	if (fault) {
		(void)snprintf(why, size, "the secret in %.96s cannot be used: %s", path, fault);
		return ERR_INVALID;
	}
	return *out ? 0 : ERR_NOMEM;
}
