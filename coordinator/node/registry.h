/*
 * registry.h - who may be called: the participants that the configuration names, and the allow-list
 * for plain addresses.
 *
 *	participant.NAME = URL [concurrency=N] [queue=N] [secret=FILE]
 *
 * A submission names a participant or gives a URL; what contains "://" is a URL. Registered
 * addresses and everything below them may be called without a rule of the allow-list. A name is
 * resolved anew for every call, so that the operator can move a participant, or take it away.
 *
 * What counts for secret and limits is where a call goes: a URL below a registered address is that
 * participant, and a named participant's operation elsewhere is not.
 *
 * Calling sequence: registry_new, registry_allow and registry_add in any order, then
 * registry_read_secrets once; read only from then on. Ownership: everything handed out belongs to
 * the registry. A reload makes a new one: keep no pointer over a turn of the loop.
 */
#ifndef NODE_REGISTRY_H
#define NODE_REGISTRY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define PARTICIPANT_NAME_MAX 32
#define REGISTRY_MAX         256 /* named participants */

struct registry;
struct secret_keys;

struct registry_entry {
	char name[PARTICIPANT_NAME_MAX + 1];
	char *text;               /* as configured; carries no secret */
	char *url;                /* without a slash at its end */
	unsigned concurrency;     /* 0: participant_concurrency */
	unsigned queue_max;       /* 0: participant_queue_max */
	char *secret_file;        /* NULL: calls are not signed */
	struct secret_keys *keys; /* of that file; never logged, printed or answered */
	char *where;              /* what configured it, for complaints */
};

int registry_new(struct registry **out) MUSTCHECK;
void registry_free(struct registry *r);

/* The rules of participant_allow instead of those before. ERR_INVALID with a sentence in `why`. */
int registry_allow(struct registry *r, const char *rules, char *why, size_t size) MUSTCHECK;
/* `text` is what stands behind "participant.NAME ="; replaces an entry of this name. `where` says
 * what configured it. ERR_INVALID with a sentence in `why`. */
int registry_add(struct registry *r, const char *name, const char *text, const char *where,
                 char *why, size_t size) MUSTCHECK;
/* The files of all secrets; see secret.h. ERR_INVALID with a sentence in `why`. */
int registry_read_secrets(struct registry *r, char *why, size_t size) MUSTCHECK;

/* [a-z0-9_-]{1,32} */
bool participant_name_valid(const char *name, size_t len);

/* In order of their names; registry_at(r, i) for i < registry_count. */
size_t registry_count(const struct registry *r);
const struct registry_entry *registry_at(const struct registry *r, size_t i);
/* NULL when there is none. */
const struct registry_entry *registry_find(const struct registry *r, const char *name);

/* What a submission gives as a participant, a name or a URL. 0; ERR_INVALID (neither),
 * ERR_NOTFOUND (no such name) or ERR_DENIED, with a sentence in `why`. */
int registry_check(const struct registry *r, const char *participant, size_t len, char *why,
                   size_t size) MUSTCHECK;
/* The same for a URL alone: 0, ERR_INVALID or ERR_DENIED. */
int registry_check_url(const struct registry *r, const char *url, size_t len, char *why,
                       size_t size) MUSTCHECK;

/* The address of a branch's participant: itself when it is a URL; NULL when the name is gone. */
const char *registry_url(const struct registry *r, const char *participant);
/* Whose address `url` lies below; `participant` (what the branch says) goes before others. NULL
 * when it is nobody's. */
const struct registry_entry *registry_owner(const struct registry *r, const char *participant,
                                            const char *url);

#endif /* NODE_REGISTRY_H */
