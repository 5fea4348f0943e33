/*
 * migrate.h - the coordinator's tables: forward-only migrations, compiled in from
 * sql/coordinator/. Blocking; for start-up and the command line only.
 */
#ifndef NODE_MIGRATE_H
#define NODE_MIGRATE_H

#include <stddef.h>

#include "base/err.h"

/* Applies what is missing, each file in one transaction; two that run at once take turns. 0, or a
 * negative error with one line that says what to do. `applied` gets how many were. */
int migrate_run(const char *conninfo, unsigned *applied, char *why, size_t why_size) MUSTCHECK;

/* 0 when the database is reachable and its schema is exactly this version. */
int migrate_check(const char *conninfo, char *why, size_t why_size) MUSTCHECK;

#endif /* NODE_MIGRATE_H */
