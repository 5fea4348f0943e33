/*
 * fuzz_cursor.c - what clients bring back: cursors, and times of a query.
 *
 * A cursor is accepted exactly when we would write the same text for what it says; what we write is
 * read back as it was, and not with one character changed.
 */
#include "api/cursor.h"
#include "api/list_query.h"
#include "fuzz.h"

static const uint8_t key[] = "the key of this cluster";

static void put(const struct cursor *c, struct buf *out)
{
	buf_reset(out);
	cursor_put(c, key, sizeof key, out);
	must(!out->failed && out->len > 0);
	must(
	    strspn(out->data, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") ==
	    out->len);
}

static void try_text(const char *text, struct buf *out)
{
	struct cursor c;

	if (cursor_parse(text, key, sizeof key, &c) == 0) {
		must(strlen(c.gid) <= GID_MAX);
		put(&c, out);
		must(strcmp(out->data, text) == 0);
		must(cursor_parse(text, key, sizeof key - 2, &c) == ERR_INVALID);
	}
}

/* The bytes as a cursor of ours: time, filters, gid. The last byte says what to spoil. */
static void try_roundtrip(const char *data, size_t size, struct buf *out)
{
	struct cursor c = {0}, back;
	size_t at, n = size - 16 - 1 < GID_MAX ? size - 16 - 1 : GID_MAX;
	uint8_t how = (uint8_t)data[size - 1];

	memcpy(&c.created_us, data, 8);
	memcpy(c.filters, data + 8, 8);
	memcpy(c.gid, data + 16, n);
	put(&c, out);
	must(cursor_parse(out->data, key, sizeof key, &back) == 0);
	must(back.created_us == c.created_us && strcmp(back.gid, c.gid) == 0);
	must(memcmp(back.filters, c.filters, sizeof c.filters) == 0);
	at = how % out->len;
	out->data[at] = out->data[at] == 'A' ? 'B' : 'A';
	must(cursor_parse(out->data, key, sizeof key, &back) == ERR_INVALID);
	put(&c, out);
	buf_putc(out, (char)how);
	must(how == 0 || cursor_parse(out->data, key, sizeof key, &back) == ERR_INVALID);
	put(&c, out);
	out->data[at] = '\0';
	must(cursor_parse(out->data, key, sizeof key, &back) == ERR_INVALID);
}

static void try_time(const char *text, struct buf *out)
{
	int64_t us, again;

	if (!list_time_parse(text, &us) || us == 0)
		return;
	must(us > INT64_C(-86400000000) && us < INT64_C(253402387200000000));
	buf_reset(out);
	buf_put_json_time(out, us);
	must(!out->failed && out->len > 2);
	out->data[out->len - 1] = '\0';
	/* The 10,000th year, and a time before 1970, are reached by a zone only. */
	if (us >= 0 && us < INT64_C(253402300800000000))
		must(list_time_parse(out->data + 1, &again) && again == us);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf out = BUF_INIT;
	char *text = fuzz_string(data, size);

	try_text(text, &out);
	try_time(text, &out);
	if (size > 16)
		try_roundtrip((const char *)data, size, &out);
	free(text);
	buf_release(&out);
	return 0;
}
