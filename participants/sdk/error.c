#include <stdio.h>
#include <string.h>

#include "internal.h"

const char *assent_err_str(int code)
{
	switch (code) {
	case 0:
		return "ok";
	case ASSENT_E_NOMEM:
		return "out of memory";
	case ASSENT_E_INVALID:
		return "invalid";
	case ASSENT_E_DATABASE:
		return "refused by the database";
	case ASSENT_E_UNREACHABLE:
		return "not reached, result unknown";
	case ASSENT_E_CONFLICT:
		return "the gid is taken";
	case ASSENT_E_REFUSED:
		return "refused by the coordinator";
	case ASSENT_E_SYSTEM:
		return "refused by the system";
	default:
		return "unknown error";
	}
}

int sdk_fail(struct assent_error *err, int code, const char *format, ...)
{
	va_list args;

	if (!err)
		return code;
	*err = (struct assent_error){.code = code};
	va_start(args, format);
	vsnprintf(err->text, sizeof(err->text), format, args);
	va_end(args);
	return code;
}

int sdk_fail_pg(struct assent_error *err, const PGconn *conn, const PGresult *result)
{
	const char *state = sdk_sqlstate(result);
	const char *text = result ? PQresultErrorMessage(result) : "";
	int code = *state ? ASSENT_E_DATABASE : ASSENT_E_UNREACHABLE;

	if (!*text)
		text = PQerrorMessage(conn);
	sdk_fail(err, code, "%.*s", (int)strcspn(text, "\n"), text);
	if (err)
		snprintf(err->sqlstate, sizeof(err->sqlstate), "%s", state);
	return code;
}

/* Members are added where a struct ended, and never in its padding, which may hold anything. */
int sdk_take_struct(void *to, size_t known, const void *from, size_t size, struct assent_error *err)
{
	const unsigned char *bytes = from;

	for (size_t i = known; i < size; i++) {
		if (bytes[i])
			return sdk_fail(err, ASSENT_E_INVALID,
			                "an option is new: this program was compiled for a newer "
			                "libassent than it runs with");
	}
	memset(to, 0, known);
	memcpy(to, from, size < known ? size : known);
	return 0;
}
