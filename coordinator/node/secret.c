#include "node/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/digest.h"

#define KEY_LEN_MIN 16
#define KEY_PREFIX  "whsec_"

struct secret_keys {
	struct buf key[SECRET_KEYS_MAX];
	size_t n;
};

void secret_release(struct buf *b)
{
	digest_wipe(b->data, b->len);
	buf_release(b);
}

static int out_of_memory(char *why, size_t size)
{
	(void)snprintf(why, size, "out of memory");
	return ERR_NOMEM;
}

static int read_all(int fd, struct buf *out)
{
	char chunk[4096];
	ssize_t n;

	while ((n = read(fd, chunk, sizeof chunk)) > 0 && out->len <= SECRET_FILE_MAX)
		buf_append(out, chunk, (size_t)n);
	digest_wipe(chunk, sizeof chunk);
	return n < 0 ? ERR_IO : 0;
}

/* Of the open file, so that it cannot be another one by the time it is read. */
static int check_mode(int fd, const char *option, const char *path, char *why, size_t size)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		(void)snprintf(why, size, "%s: %.128s is not a file", option, path);
		return ERR_INVALID;
	}
	if ((st.st_mode & S_IRWXO) == 0)
		return 0;
	(void)snprintf(why, size,
	               "%s: everybody on this machine may read or write %.128s; run: chmod 600 "
	               "%.128s",
	               option, path, path);
	return ERR_INVALID;
}

static int read_file(const char *option, const char *path, struct buf *out, char *why, size_t size,
                     bool secret)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int rc = 0;

	if (fd < 0) {
		(void)snprintf(why, size, "%s: %.128s cannot be read: %s", option, path,
		               strerror(errno));
		return ERR_INVALID;
	}
	if (secret)
		rc = check_mode(fd, option, path, why, size);
	if (rc == 0 && read_all(fd, out) < 0) {
		(void)snprintf(why, size, "%s: %.128s cannot be read: %s", option, path,
		               strerror(errno));
		rc = ERR_INVALID;
	} else if (rc == 0 && out->failed) {
		rc = out_of_memory(why, size);
	} else if (rc == 0 && out->len > SECRET_FILE_MAX) {
		(void)snprintf(why, size, "%s: %.128s is larger than %zu bytes", option, path,
		               SECRET_FILE_MAX);
		rc = ERR_INVALID;
	} else if (rc == 0 && strlen(out->data ? out->data : "") != out->len) {
		(void)snprintf(why, size, "%s: %.128s is not a text file", option, path);
		rc = ERR_INVALID;
	} else if (rc == 0 && out->len == 0) {
		(void)snprintf(why, size, "%s: %.128s is empty", option, path);
		rc = ERR_INVALID;
	}
	(void)close(fd);
	if (rc < 0)
		secret_release(out);
	return rc;
}

int secret_read(const char *option, const char *path, struct buf *out, char *why, size_t why_size)
{
	return read_file(option, path, out, why, why_size, true);
}

int secret_read_public(const char *option, const char *path, struct buf *out, char *why,
                       size_t why_size)
{
	return read_file(option, path, out, why, why_size, false);
}

/* --- keys --- */

static int add_key(struct secret_keys *keys, const char *line, const char *where, char *why,
                   size_t size)
{
	bool encoded = strncmp(line, KEY_PREFIX, strlen(KEY_PREFIX)) == 0;
	struct buf *key;

	if (keys->n == SECRET_KEYS_MAX) {
		(void)snprintf(why, size, "%s has more than %d secrets", where, SECRET_KEYS_MAX);
		return ERR_INVALID;
	}
	key = &keys->key[keys->n++];
	if (!encoded)
		buf_puts(key, line);
	else if (digest_base64_decode(line + strlen(KEY_PREFIX), key) == ERR_INVALID) {
		(void)snprintf(why, size, "%s: behind %s there must be base64", where, KEY_PREFIX);
		return ERR_INVALID;
	}
	if (key->failed)
		return out_of_memory(why, size);
	if (key->len < KEY_LEN_MIN) {
		(void)snprintf(why, size,
		               "%s: a secret has at least %d bytes; make one with: "
		               "echo " KEY_PREFIX "$(openssl rand -base64 32)",
		               where, KEY_LEN_MIN);
		return ERR_INVALID;
	}
	return 0;
}

static int add_keys(struct secret_keys *keys, char *text, const char *where, char *why, size_t size)
{
	char *line, *rest = text;
	int rc = 0;

	while (rc == 0 && (line = strsep(&rest, "\n"))) {
		line[strcspn(line, "\r \t")] = '\0';
		if (*line && *line != '#')
			rc = add_key(keys, line, where, why, size);
	}
	if (rc == 0 && keys->n == 0) {
		(void)snprintf(why, size, "%s: there is no secret in it", where);
		rc = ERR_INVALID;
	}
	return rc;
}

int secret_keys_load(const char *option, const char *path, struct secret_keys **out, char *why,
                     size_t why_size)
{
	struct secret_keys *keys = calloc(1, sizeof *keys);
	struct buf text = BUF_INIT;
	char where[192];
	int rc;

	if (!keys)
		return out_of_memory(why, why_size);
	(void)snprintf(where, sizeof where, "%s: %.128s", option, path);
	rc = secret_read(option, path, &text, why, why_size);
	if (rc == 0)
		rc = add_keys(keys, text.data, where, why, why_size);
	secret_release(&text);
	if (rc < 0) {
		secret_keys_free(keys);
		return rc;
	}
	*out = keys;
	return 0;
}

void secret_keys_free(struct secret_keys *keys)
{
	if (!keys)
		return;
	for (size_t i = 0; i < keys->n; i++)
		secret_release(&keys->key[i]);
	free(keys);
}

void secret_sign(const struct secret_keys *keys, const char *id, const char *timestamp,
                 const void *body, size_t len, struct buf *out)
{
	struct buf signed_text = BUF_INIT;
	uint8_t mac[DIGEST_LEN];

	buf_printf(&signed_text, "%s.%s.", id, timestamp);
	buf_append(&signed_text, body, len);
	out->failed |= signed_text.failed;
	for (size_t i = 0; i < keys->n && !signed_text.failed; i++) {
		digest_hmac_sha256(keys->key[i].data, keys->key[i].len, signed_text.data,
		                   signed_text.len, mac);
		buf_puts(out, i ? " v1," : "v1,");
		digest_put_base64(out, mac, sizeof mac);
	}
	buf_release(&signed_text);
}
