/*
 * dev_pg.h - the private PostgreSQL of `assentd --dev`. Not for production.
 *
 * It runs in a session of its own, so that Ctrl-C and a crash of assentd do not take it along: a
 * restarted `assentd --dev` on the same directory adopts it. A normal exit of the last assentd
 * on the directory stops it. As root it runs as user postgres. Authentication is trust, behind a
 * directory of mode 0700 and no TCP.
 */
#ifndef NODE_DEV_PG_H
#define NODE_DEV_PG_H

#include <stddef.h>

#include "base/err.h"

struct dev_pg;

/* Blocks until it answers. `conninfo` (size bytes) gets how to reach its database "assent". */
int dev_pg_start(const char *dir, struct dev_pg **out, char *conninfo, size_t size, char *why,
                 size_t why_size) MUSTCHECK;
/* Start it again if it died. Does not block. */
void dev_pg_tend(struct dev_pg *d);
/* Stop it, unless another assentd uses it. Blocks until it is gone. */
void dev_pg_stop(struct dev_pg *d);

#endif /* NODE_DEV_PG_H */
