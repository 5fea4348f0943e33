/*
 * auth.h - who may do what: bearer tokens and their roles, out of the token_file.
 *
 * A line of the file: name role[,role...] [namespace=NAME] hash, where the hash is the token's
 * SHA-256 in hex (`assentd hash-token`). Blank lines and # comments are skipped. Tokens have at
 * least AUTH_TOKEN_MIN characters, so that nobody finds one by trying.
 *
 * Without a token_file (under --dev, or allow_unauthenticated) everybody is an admin named
 * "anonymous".
 */
#ifndef NODE_AUTH_H
#define NODE_AUTH_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

#define AUTH_NAME_MAX  63
#define AUTH_TOKEN_MIN 20
#define AUTH_TOKEN_MAX 4096

enum auth_role {
	ROLE_SUBMIT = 1,      /* starts transactions and looks at them */
	ROLE_PARTICIPANT = 2, /* asks for decisions */
	ROLE_VIEWER = 4,      /* looks at everything, changes nothing */
	ROLE_OPERATOR = 8,    /* looks at everything, acts on what is there */
	ROLE_ADMIN = 16,      /* everything */
	ROLE_ANY = 31,
	ROLE_NOT_NEEDED = 128, /* of a route: open to all */
};

struct auth;

/* Its own copy of what the file says, good beyond a reload. */
struct auth_caller {
	char name[AUTH_NAME_MAX + 1];
	char space[AUTH_NAME_MAX + 1]; /* "" for any namespace */
	unsigned roles;
};

enum auth_result {
	AUTH_OK = 0,
	AUTH_NO_TOKEN,
	AUTH_BAD_TOKEN, /* unknown, or the header is not `Bearer TOKEN` */
};

/* `path` may be "": everybody is let in. On failure one line in `why`; no line of the file. */
int auth_new(const char *path, struct auth **out, char *why, size_t why_size) MUSTCHECK;
/* Reads the file again (SIGHUP). On failure everything stays as it was. */
int auth_reload(struct auth *a, char *why, size_t why_size) MUSTCHECK;
/* NULL-safe. */
void auth_free(struct auth *a);

/* Who sends this Authorization header (NULL when there is none). Takes the same time whichever
 * token it is, and how much of it is right. */
enum auth_result auth_check(const struct auth *a, const char *authorization,
                            struct auth_caller *caller);

/* Appends "submit or admin", for a mask. */
void auth_put_roles(struct buf *out, unsigned roles);

/* `assentd hash-token`: a token from stdin, its hash to stdout. Exit status. */
int auth_hash_token(void);

#endif /* NODE_AUTH_H */
