#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

struct assent_reply *assent_reply_new(void)
{
	struct assent_reply *reply = calloc(1, sizeof(*reply));

	if (reply)
		reply->status = 200;
	return reply;
}

void assent_reply_free(struct assent_reply *reply)
{
	if (!reply)
		return;
	sdk_text_release(&reply->body);
	free(reply);
}

void sdk_reply_reset(struct assent_reply *reply)
{
	reply->status = 200;
	reply->body.len = 0;
	reply->body.failed = false;
}

/* A reply that could not be built in full is none: the call is asked again. */
int assent_reply_status(const struct assent_reply *reply)
{
	return !reply || reply->body.failed ? 503 : reply->status;
}

const char *assent_reply_body(const struct assent_reply *reply, size_t *len)
{
	size_t n = !reply || reply->body.failed ? 0 : reply->body.len;

	if (len)
		*len = n;
	return n ? reply->body.data : "";
}

void assent_reply_set(struct assent_reply *reply, int status, const char *json, size_t len)
{
	if (!reply)
		return;
	sdk_reply_reset(reply);
	reply->status = status;
	if (len && json)
		sdk_text_add(&reply->body, json, len);
}

static void __attribute__((format(printf, 3, 0)))
set_reason(struct assent_reply *reply, int status, const char *format, va_list args)
{
	char text[512];

	if (!reply)
		return;
	if (format)
		vsnprintf(text, sizeof(text), format, args);
	else
		*text = '\0';
	assent_reply_set(reply, status, NULL, 0);
	sdk_text_puts(&reply->body, "{\"reason\":");
	sdk_text_json(&reply->body, text);
	sdk_text_puts(&reply->body, "}");
}

void assent_reply_reason(struct assent_reply *reply, int status, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	set_reason(reply, status, format, args);
	va_end(args);
}

enum assent_vote assent_refuse(struct assent_reply *reply, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	set_reason(reply, 409, format, args);
	va_end(args);
	return ASSENT_REFUSED;
}

void sdk_reply_outcome(struct assent_reply *reply, const char *outcome, const char *reason)
{
	assent_reply_set(reply, 409, NULL, 0);
	sdk_text_printf(&reply->body, "{\"outcome\":\"%s\",\"reason\":\"%s\"}", outcome, reason);
}

void sdk_reply_sql(struct assent_reply *reply, const PGconn *conn, const PGresult *result)
{
	struct assent_error err;

	sdk_fail_pg(&err, conn, result);
	assent_reply_reason(reply, sdk_is_transient(result) ? 503 : 500, "%s", err.text);
}

enum assent_vote assent_sql_failed(struct assent_reply *reply, const PGresult *result)
{
	const char *state = sdk_sqlstate(result);
	const char *text = result ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : NULL;

	if (!text)
		text = "the database cannot be reached";
	if (strncmp(state, "22", 2) == 0 || strncmp(state, "23", 2) == 0)
		return assent_refuse(reply, "%s", text);
	assent_reply_reason(reply, sdk_is_transient(result) ? 503 : 500, "%s", text);
	return ASSENT_FAILED;
}
