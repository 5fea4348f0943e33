/*
 * golden.h - between golden.c, which knows files, and machine.c, which knows transactions.
 */
#ifndef GOLDEN_GOLDEN_H
#define GOLDEN_GOLDEN_H

#include "base/buf.h"

struct machine;

struct machine *machine_new(void);
void machine_free(struct machine *m);
/* One command line (its bytes are spoiled); what it prints is appended. */
void machine_run(struct machine *m, char *line, struct buf *out);
/* The cells of the state table that no command has entered, one a line. */
void machine_uncovered(const struct machine *m, struct buf *out);

#endif /* GOLDEN_GOLDEN_H */
