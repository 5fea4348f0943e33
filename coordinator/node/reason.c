#include "node/reason.h"

#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "io/json.h"

#define CUT "..."

/* jansson has seen to it that it is UTF-8. */
static void put_line(const char *s, size_t len, char *out, size_t size)
{
	size_t at = 0, room = len < size ? len : size - sizeof CUT, n;

	for (; at < room; at += n) {
		n = utf8_len((const unsigned char *)s + at, len - at);
		if (n == 0 || at + n > room)
			break;
		memcpy(out + at, s + at, n);
		if ((unsigned char)out[at] < 0x20 || out[at] == 0x7f)
			out[at] = ' ';
	}
	(void)snprintf(out + at, sizeof CUT, "%s", room < len ? CUT : "");
}

bool reason_read(const char *body, size_t len, char *out, size_t size)
{
	const struct json_value *v;
	struct json_doc *doc;
	const char *s = NULL;
	char why[80];
	size_t n = 0;

	*out = '\0';
	if (json_parse(body, len, NULL, &doc, why, sizeof why) < 0)
		return false;
	v = json_root(doc);
	v = json_type(v) == JSON_T_OBJECT ? json_member(v, "reason") : NULL;
	if (v && json_type(v) == JSON_T_STR)
		s = json_str(v, &n);
	if (s)
		put_line(s, n, out, size);
	json_free(doc);
	return n > 0;
}
