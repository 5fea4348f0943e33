/*
 * api.h - the HTTP/JSON interface of the daemon: everything that a client can ask of a node.
 *
 * Calling sequence: api_new, api_quiesce when the node drains, api_free after the last request was
 * answered. What each request and reply looks like stands in openapi.yaml; which handler serves
 * which path, in the table of routes.c.
 */
#ifndef API_API_H
#define API_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct api;
struct node;

/* Listens. On failure one line in `why` that says what to do. */
int api_new(struct node *node, struct api **out, char *why, size_t why_size) MUSTCHECK;
uint16_t api_port(const struct api *a);
/* Take no new connections. */
void api_quiesce(struct api *a);
/* No request waits for its answer. */
bool api_idle(const struct api *a);
void api_free(struct api *a);

#endif /* API_API_H */
