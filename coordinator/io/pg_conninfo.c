/*
 * pg_conninfo.c - a connection string for people: without what is secret.
 */
#include <libpq-fe.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "io/pg.h"

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
