#include "base/log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"

/* Lines are built on the stack: a log line is most wanted when memory is out. */
#define MESSAGE_MAX 1024
#define LINE_MAX    2048

struct line {
	size_t len;
	char text[LINE_MAX + 3]; /* room for the closing quotes and the newline, come what may */
};

static enum log_level threshold = LOG_INFO;
static const char *const level_name[] = {"debug", "info", "warn", "error"};

void log_set_level(enum log_level level)
{
	threshold = level;
}

int log_level_parse(const char *s)
{
	for (int i = LOG_DEBUG; i <= LOG_ERROR; i++) {
		if (strcmp(s, level_name[i]) == 0)
			return i;
	}
	return ERR_INVALID;
}

static void put(struct line *l, const char *s, size_t len)
{
	if (l->len + len > LINE_MAX)
		return;
	memcpy(l->text + l->len, s, len);
	l->len += len;
}

static void puts_line(struct line *l, const char *s)
{
	put(l, s, strlen(s));
}

/* Everything that is not printable ASCII is escaped: a stranger's text can neither forge a line
 * nor send a terminal control sequences. */
static void put_quoted(struct line *l, const char *s)
{
	static const char hex[] = "0123456789abcdef";

	put(l, "\"", 1);
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (c == '"' || c == '\\')
			put(l, (char[]){'\\', (char)c}, 2);
		else if (c == '\n')
			put(l, "\\n", 2);
		else if (c < 0x20 || c >= 0x7f)
			put(l, (char[]){'\\', 'x', hex[c >> 4], hex[c & 15]}, 4);
		else
			put(l, s, 1);
	}
	l->text[l->len++] = '"';
}

static bool needs_quotes(const char *s)
{
	static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	                           "._:~-";

	return s[strspn(s, safe)] != '\0' || *s == '\0';
}

static void put_time(struct line *l)
{
	int64_t us = clock_wall_us();
	time_t s = (time_t)(us / 1000000);
	char date[40];
	char text[80];
	struct tm tm;

	if (!gmtime_r(&s, &tm) || strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &tm) == 0)
		return;
	(void)snprintf(text, sizeof text, "ts=%s.%06uZ", date, (unsigned)(us % 1000000));
	puts_line(l, text);
}

void log_line(enum log_level level, const char *gid, const char *fmt, ...)
{
	struct line l = {.len = 0};
	char message[MESSAGE_MAX];
	va_list ap;
	ssize_t rc;

	if (level < threshold)
		return;
	put_time(&l);
	puts_line(&l, " level=");
	puts_line(&l, level_name[level]);
	if (gid) {
		puts_line(&l, " gid=");
		if (needs_quotes(gid))
			put_quoted(&l, gid);
		else
			puts_line(&l, gid);
	}
	puts_line(&l, " msg=");
	va_start(ap, fmt);
	(void)vsnprintf(message, sizeof message, fmt, ap);
	va_end(ap);
	put_quoted(&l, message);
	l.text[l.len++] = '\n';
	/* Nobody is left to be told when the log itself cannot be written. */
	rc = write(STDERR_FILENO, l.text, l.len);
	(void)rc;
}
