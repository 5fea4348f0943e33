#include "base/log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/utf8.h"

/* Lines are built on the stack: a log line is most wanted when memory is out. */
#define MESSAGE_MAX 1024
#define LINE_MAX    2048
#define OBJECT_ROOM 32 /* of a line: what stands around the strings of an object */

struct line {
	size_t len;
	char text[LINE_MAX + 4]; /* room for what closes the line, come what may */
};

static enum log_level threshold = LOG_INFO;
static enum log_format chosen = LOG_LOGFMT;
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

void log_set_format(enum log_format format)
{
	chosen = format;
}

enum log_format log_get_format(void)
{
	return chosen;
}

int log_format_parse(const char *s)
{
	if (strcmp(s, "logfmt") == 0)
		return LOG_LOGFMT;
	return strcmp(s, "json") == 0 ? LOG_JSON : ERR_INVALID;
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

/* U+0080 to U+009F are control sequences to some terminals. */
static bool json_plain(const unsigned char *s, size_t n)
{
	return n > 0 && *s >= 0x20 && *s != 0x7f && *s != '"' && *s != '\\' &&
	       !(n == 2 && s[0] == 0xc2 && s[1] < 0xa0);
}

static void put_json(struct line *l, const char *text)
{
	const unsigned char *s = (const unsigned char *)text;
	size_t left = strlen(text), n;

	put(l, "\"", 1);
	for (; left > 0 && l->len + 8 + OBJECT_ROOM < LINE_MAX; s += n, left -= n) {
		char escaped[8];

		n = utf8_len(s, left);
		if (json_plain(s, n)) {
			put(l, (const char *)s, n);
			continue;
		}
		(void)snprintf(escaped, sizeof escaped, "\\u%04x",
		               n == 1   ? *s
		               : n == 2 ? s[1]
		                        : 0xfffdu);
		puts_line(l, escaped);
		n = n ? n : 1;
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
	(void)snprintf(text, sizeof text, "%s.%06uZ", date, (unsigned)(us % 1000000));
	puts_line(l, text);
}

static void put_logfmt(struct line *l, enum log_level level, const char *gid, const char *message)
{
	puts_line(l, "ts=");
	put_time(l);
	puts_line(l, " level=");
	puts_line(l, level_name[level]);
	if (gid) {
		puts_line(l, " gid=");
		if (needs_quotes(gid))
			put_quoted(l, gid);
		else
			puts_line(l, gid);
	}
	puts_line(l, " msg=");
	put_quoted(l, message);
}

static void put_object(struct line *l, enum log_level level, const char *gid, const char *message)
{
	puts_line(l, "{\"ts\":\"");
	put_time(l);
	puts_line(l, "\",\"level\":\"");
	puts_line(l, level_name[level]);
	puts_line(l, "\"");
	if (gid) {
		puts_line(l, ",\"gid\":");
		put_json(l, gid);
	}
	puts_line(l, ",\"msg\":");
	put_json(l, message);
	l->text[l->len++] = '}';
}

void log_line(enum log_level level, const char *gid, const char *fmt, ...)
{
	struct line l = {.len = 0};
	char message[MESSAGE_MAX];
	va_list ap;
	ssize_t rc;

	if (level < threshold)
		return;
	va_start(ap, fmt);
	(void)vsnprintf(message, sizeof message, fmt, ap);
	va_end(ap);
	if (chosen == LOG_JSON)
		put_object(&l, level, gid, message);
	else
		put_logfmt(&l, level, gid, message);
	l.text[l.len++] = '\n';
	/* Nobody is left to be told when the log itself cannot be written. */
	rc = write(STDERR_FILENO, l.text, l.len);
	(void)rc;
}
