/*
 * pg_conninfo.c - connection strings: for people, without what is secret; and their hosts.
 */
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "io/pg_private.h"

/* As libpq reads it back. */
static void put_value(struct buf *out, const char *value)
{
	bool plain = *value && !strpbrk(value, " \t\r\n'\\");

	if (!plain)
		buf_putc(out, '\'');
	for (; *value; value++) {
		if (*value == '\'' || *value == '\\')
			buf_putc(out, '\\');
		buf_putc(out, *value);
	}
	if (!plain)
		buf_putc(out, '\'');
}

char *pg_conninfo_masked(const char *conninfo)
{
	PQconninfoOption *option = PQconninfoParse(conninfo, NULL);
	struct buf out = BUF_INIT;

	if (!option)
		return strdup("***");
	for (const PQconninfoOption *o = option; o->keyword; o++) {
		if (!o->val)
			continue;
		if (out.len > 0)
			buf_putc(&out, ' ');
		buf_puts(&out, o->keyword);
		buf_putc(&out, '=');
		/* libpq marks what a dialogue would not show; a name can hold a whole conninfo. */
		if (strchr(o->dispchar, '*') || strstr(o->keyword, "password") ||
		    (strcmp(o->keyword, "dbname") == 0 && strpbrk(o->val, "=:")))
			buf_puts(&out, "***");
		else
			put_value(&out, o->val);
	}
	PQconninfoFree(option);
	return out.len == 0 && !out.failed ? strdup("") : buf_detach(&out, NULL);
}

/* Other messages quote what could not be read, which may be the second half of a password. */
static bool message_is_harmless(const char *message)
{
	return strncmp(message, "invalid connection option", 25) == 0 ||
	       strncmp(message, "invalid URI query parameter", 27) == 0;
}

int pg_conninfo_check(const char *conninfo, char *why, size_t size)
{
	char *message = NULL;
	PQconninfoOption *option = PQconninfoParse(conninfo, &message);
	int rc = option ? 0 : ERR_INVALID;

	if (!option && (!message || strncmp(message, "out of memory", 13) == 0)) {
		(void)snprintf(why, size, "out of memory");
		rc = ERR_NOMEM;
	} else if (!option && message_is_harmless(message)) {
		message[strcspn(message, "\n")] = '\0';
		(void)snprintf(why, size, "%s", message);
	} else if (!option) {
		(void)snprintf(why, size,
		               "it is neither key=value pairs, with values that have blanks in "
		               "single quotes, nor a postgresql:// address");
	}
	PQfreemem(message);
	PQconninfoFree(option);
	return rc;
}

/* "a,b,c" from place 1 is "b,c,a". A list of one, or none, is for every host: NULL. */
static int rotate(const char *list, unsigned first, char **out)
{
	struct buf turned = BUF_INIT;
	const char *at = list;
	unsigned n = 1;

	for (const char *c = list; c && *c; c++)
		n += *c == ',';
	if (n == 1)
		return 0;
	for (first %= n; first > 0; first--)
		at += strcspn(at, ",") + 1;
	buf_puts(&turned, at);
	if (at > list) {
		buf_putc(&turned, ',');
		buf_append(&turned, list, (size_t)(at - list) - 1);
	}
	*out = buf_detach(&turned, NULL);
	return *out ? 0 : ERR_NOMEM;
}

int pg_hosts_from(const char *conninfo, unsigned first, struct pg_hosts *out)
{
	PQconninfoOption *option = PQconninfoParse(conninfo, NULL);
	int rc = option ? 0 : ERR_NOMEM;

	memset(out, 0, sizeof *out);
	for (const PQconninfoOption *o = option; o && o->keyword && rc == 0; o++) {
		if (strcmp(o->keyword, "host") == 0)
			rc = rotate(o->val, first, &out->host);
		else if (strcmp(o->keyword, "hostaddr") == 0)
			rc = rotate(o->val, first, &out->hostaddr);
		else if (strcmp(o->keyword, "port") == 0)
			rc = rotate(o->val, first, &out->port);
	}
	PQconninfoFree(option);
	if (rc < 0)
		pg_hosts_release(out);
	return rc;
}

void pg_hosts_release(struct pg_hosts *h)
{
	free(h->host);
	free(h->hostaddr);
	free(h->port);
}
