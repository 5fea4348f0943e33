/*
 * targets.h - addresses that were called, as libcurl has parsed them.
 *
 * Parsing an address and putting it together again took a twentieth of what a transaction costs,
 * and participants are called at the same few addresses again and again. A target lives as long as
 * somebody has it, and then for as long as it is among the TARGET_SPARE_MAX last ones given back.
 */
#ifndef IO_TARGETS_H
#define IO_TARGETS_H

#include "base/list.h"
#include "base/map.h"

#define TARGET_SPARE_MAX 256

struct targets {
	struct map map;
	struct list spare;
	size_t n_spare;
};

struct target {
	struct map_node node; /* by url */
	struct list spare;
	unsigned n_user;
	void *parsed; /* CURLU; NULL: libcurl does not take it */
	char url[];
};

int targets_init(struct targets *ts) MUSTCHECK;
/* Every target must have been given back. Safe after a failed init. */
void targets_release(struct targets *ts);

/* NULL when out of memory. */
struct target *target_get(struct targets *ts, const char *url) MUSTCHECK;
void target_put(struct targets *ts, struct target *t);

#endif /* IO_TARGETS_H */
