#include "api/cursor.h"

#include <string.h>

#include "io/digest.h"

/* Time, filters, gid, signature. */
#define TIME_LEN 8
#define HEAD_LEN (TIME_LEN + CURSOR_FILTERS_LEN)
#define SIGN_LEN DIGEST_LEN
#define RAW_MAX  (HEAD_LEN + GID_MAX + SIGN_LEN)

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* base64url without padding (RFC 4648). */
static void put_base64(const uint8_t *raw, size_t len, struct buf *out)
{
	for (size_t i = 0; i < len; i += 3) {
		uint32_t v = (uint32_t)raw[i] << 16;

		if (i + 1 < len)
			v |= (uint32_t)raw[i + 1] << 8;
		if (i + 2 < len)
			v |= raw[i + 2];
		for (size_t k = 0; k < (len - i < 3 ? len - i + 1 : 4); k++)
			buf_putc(out, alphabet[v >> (18 - 6 * k) & 63]);
	}
}

/* Returns the length, 0 for what is no base64url. Bits beyond the last byte must be 0, so that
 * there is one text for one cursor. */
static size_t read_base64(const char *text, uint8_t *raw, size_t max)
{
	uint32_t v = 0;
	unsigned bits = 0;
	size_t len = 0;

	for (; *text; text++) {
		const char *at = strchr(alphabet, *text);

		if (!at || len == max)
			return 0;
		v = (v << 6 | (uint32_t)(at - alphabet)) & 0xffff;
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			raw[len++] = (uint8_t)(v >> bits);
		}
	}
	return bits < 6 && (v & ((1u << bits) - 1)) == 0 ? len : 0;
}

void cursor_put(const struct cursor *c, const uint8_t *key, size_t key_len, struct buf *out)
{
	uint8_t raw[RAW_MAX];
	size_t len = HEAD_LEN;

	for (unsigned i = 0; i < TIME_LEN; i++)
		raw[i] = (uint8_t)((uint64_t)c->created_us >> (56 - 8 * i));
	memcpy(raw + TIME_LEN, c->filters, CURSOR_FILTERS_LEN);
	memcpy(raw + len, c->gid, strlen(c->gid));
	len += strlen(c->gid);
	digest_hmac_sha256(key, key_len, raw, len, raw + len);
	put_base64(raw, len + SIGN_LEN, out);
}

int cursor_parse(const char *text, const uint8_t *key, size_t key_len, struct cursor *out)
{
	uint8_t raw[RAW_MAX], sign[DIGEST_LEN];
	size_t len = read_base64(text, raw, sizeof raw);
	uint64_t us = 0;

	if (len < HEAD_LEN + SIGN_LEN)
		return ERR_INVALID;
	len -= SIGN_LEN;
	digest_hmac_sha256(key, key_len, raw, len, sign);
	if (!digest_equal(sign, raw + len))
		return ERR_INVALID;
	for (unsigned i = 0; i < TIME_LEN; i++)
		us = us << 8 | raw[i];
	out->created_us = (int64_t)us;
	memcpy(out->filters, raw + TIME_LEN, CURSOR_FILTERS_LEN);
	memcpy(out->gid, raw + HEAD_LEN, len - HEAD_LEN);
	out->gid[len - HEAD_LEN] = '\0';
	return 0;
}
