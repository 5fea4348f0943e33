/*
 * secret.h - files that hold secrets, and the secrets that calls to participants are signed with.
 *
 * A file that everybody may read is refused. What is wrong is said in one line, with the option
 * and the path and never with anything out of the file.
 */
#ifndef NODE_SECRET_H
#define NODE_SECRET_H

#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

#define SECRET_FILE_MAX ((size_t)1024 * 1024)
#define SECRET_KEYS_MAX 2

/* The whole file of option `option`, with a NUL behind. 0, ERR_INVALID or ERR_NOMEM,
 * with one line in `why`. */
int secret_read(const char *option, const char *path, struct buf *out, char *why,
                size_t why_size) MUSTCHECK;
/* The same for files that are no secret. */
int secret_read_public(const char *option, const char *path, struct buf *out, char *why,
                       size_t why_size) MUSTCHECK;
/* Releases a buffer that held a secret. */
void secret_release(struct buf *b);

/* The keys of one participant: a line each, `whsec_` and base64 or plain text; two of them while
 * they are being exchanged. Calls are signed with each, so that either will do. */
struct secret_keys;

int secret_keys_load(const char *option, const char *path, struct secret_keys **out, char *why,
                     size_t why_size) MUSTCHECK;
/* NULL-safe. */
void secret_keys_free(struct secret_keys *keys);

/* Appends the value of webhook-signature (Standard Webhooks): "v1,<base64>", one for each key,
 * over "id.timestamp.body". */
void secret_sign(const struct secret_keys *keys, const char *id, const char *timestamp,
                 const void *body, size_t len, struct buf *out);

#endif /* NODE_SECRET_H */
