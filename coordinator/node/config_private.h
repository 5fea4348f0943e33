/*
 * config_private.h - the table of options, for the config_*.c files only.
 */
#ifndef NODE_CONFIG_PRIVATE_H
#define NODE_CONFIG_PRIVATE_H

#include "node/config.h"

#define KEY_MAX 64

enum option_type {
	OPT_STR,
	OPT_BOOL,
	OPT_INT,
	OPT_LEVEL,
	OPT_FORMAT,
	OPT_CONNINFO,    /* printed without its password */
	OPT_PARTICIPANT, /* participant.NAME: kept in the registry */

	OPT_TYPE = 15,
	OPT_LIVE = 16, /* added to the type: a reload applies it */
};

struct option {
	const char *key;
	int type;
	size_t offset;
	const char *value; /* default, as text */
	int64_t min, max;  /* OPT_INT */
	const char *arg;   /* for --help; NULL for switches */
	const char *help;
};

/* What an option is being set from. */
struct origin {
	enum config_source source;
	unsigned line;
	const char *where; /* for complaints */
};

/* `i` < config_n_option(). */
const struct option *config_option(size_t i);
size_t config_n_option(void);

static inline int option_type(const struct option *o)
{
	return o->type & OPT_TYPE;
}

static inline bool option_is_string(const struct option *o)
{
	return option_type(o) != OPT_BOOL && option_type(o) != OPT_INT &&
	       option_type(o) != OPT_PARTICIPANT;
}

/* The option that `key` sets; *participant is what stands behind "participant." then, or NULL. */
const struct option *config_find(const char *key, const char **participant);
struct config_place config_place(const struct config *c, const struct option *o);

/* `key` as a person wrote it. */
int config_set(struct config *c, const char *key, const char *value, const struct origin *from,
               char *why, size_t size) MUSTCHECK;

/* "default", "FILE line 3", "ASSENT_LISTEN" or "command line"; returns buf. */
const char *config_place_str(const struct config *c, const struct option *o, char *buf,
                             size_t size);
/* "ASSENT_LISTEN" for "listen". */
void config_variable(const char *key, char *name, size_t size);

/* config_read.c: the three sources, the weakest first. */
int config_read_file(struct config *c, const char *path, bool must, char *why,
                     size_t size) MUSTCHECK;
int config_read_environment(struct config *c, char *why, size_t size) MUSTCHECK;
int config_read_flags(struct config *c, int argc, char **argv, enum config_action *action,
                      char *why, size_t size) MUSTCHECK;

/* config_show.c: the value as text without secrets, to be freed; NULL when out of memory. */
char *config_value_str(const struct config *c, const struct option *o);

#endif /* NODE_CONFIG_PRIVATE_H */
