/*
 * address.h - which addresses may be called: the operator's allow-list.
 *
 * A list of rules "scheme://host[:port]", separated by commas or blanks. `host` is a name (exact,
 * without case), an IP address, a network in CIDR form (10.0.0.0/8, [fd00::]/8), or `loopback`
 * (127.0.0.0/8, ::1, localhost). `port` is a number or `*`; without one it is the scheme's.
 * A network matches only addresses written as numbers: names are matched as names, so that
 * nobody's DNS can widen the list.
 *
 * Only plain http and https URLs pass: no user, no fragment, no control character.
 */
#ifndef NODE_ADDRESS_H
#define NODE_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define ADDRESS_MAX 1024 /* bytes in a participant's URL */

struct address_list;

/* ERR_INVALID with one sentence in `why` when a rule cannot be read. */
int address_list_new(const char *rules, struct address_list **out, char *why,
                     size_t why_size) MUSTCHECK;
void address_list_free(struct address_list *l);

/* Whether it is a usable URL, allowed or not: 0 or ERR_INVALID, with a sentence in `why`. */
int address_parse(const char *url, size_t len, char *why, size_t why_size) MUSTCHECK;
/* 0; ERR_INVALID (not a usable URL) or ERR_DENIED (no rule allows it), with a sentence in `why`. */
int address_check(const struct address_list *l, const char *url, size_t len, char *why,
                  size_t why_size) MUSTCHECK;

#endif /* NODE_ADDRESS_H */
