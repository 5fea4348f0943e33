/*
 * private_pg.h - a PostgreSQL server of the test's own, in a temporary directory.
 *
 * As user postgres when the test runs as root. It listens on a socket in a directory that
 * nobody else can enter. private_pg_stop removes it with its data; when the test dies, the server
 * does, too.
 */
#ifndef TEST_PRIVATE_PG_H
#define TEST_PRIVATE_PG_H

#include <stddef.h>

struct private_pg;

/* NULL, with a message on stderr, when it cannot be started. */
struct private_pg *private_pg_start(void);
void private_pg_stop(struct private_pg *p);
const char *private_pg_conninfo(const struct private_pg *p);
/* Stops it the hard way (SIGQUIT: as after a crash) and starts it again; 0 or -1. */
int private_pg_crash(struct private_pg *p);
int private_pg_resume(struct private_pg *p);

#endif /* TEST_PRIVATE_PG_H */
