/*
 * config.h - the daemon's options: one table, read from a file, the environment and flags.
 *
 * Precedence: flag, then environment (ASSENT_ and the key in capitals), then file, then default.
 * The file has `key = value` lines, # comments and blank lines. Unknown keys are errors.
 *
 * Ownership: strings belong to the config and live until config_release.
 */
#ifndef NODE_CONFIG_H
#define NODE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "node/registry.h"

#define CONFIG_OPTION_MAX 64

enum config_source {
	CONFIG_FROM_DEFAULT,
	CONFIG_FROM_FILE,
	CONFIG_FROM_ENVIRONMENT,
	CONFIG_FROM_FLAG,
};

struct config_place {
	enum config_source source;
	unsigned line; /* of the file */
};

struct config {
	const char *config; /* path of the file */
	const char *listen;
	const char *database;
	bool dev;
	const char *dev_dir;
	const char *participant_allow;
	bool allow_unauthenticated;
	const char *token_file;
	const char *tls_certificate, *tls_key;
	const char *signing_secret_file;
	const char *node;
	const char *log_level;
	const char *log_format;
	int64_t in_flight_max;
	int64_t memory_max;
	int64_t overload_delay_ms;
	int64_t connection_max;
	int64_t client_timeout_s;
	int64_t participant_concurrency;
	int64_t participant_queue_max;
	int64_t database_timeout_ms;
	int64_t flush_interval_us;
	int64_t retention_ms;

	struct registry *registry; /* participant.NAME and participant_allow */

	/* Derived. */
	struct buf tls_certificate_pem, tls_key_pem; /* empty without TLS */
	struct secret_keys *signing_keys;            /* of signing_secret_file; NULL for none */
	struct auth *auth; /* token_file; NULL before config_take_access */
	char *file;        /* what was read; NULL for none */
	struct config_place place[CONFIG_OPTION_MAX]; /* in the order of the table */
	char listen_host[64];
	uint16_t listen_port;
};

enum config_action {
	CONFIG_SERVE,
	CONFIG_MIGRATE, /* `assentd migrate` */
	CONFIG_HELP,
	CONFIG_VERSION,
	CONFIG_CHECK,        /* --check-config */
	CONFIG_PRINT,        /* --print-config */
	CONFIG_CRASH_POINTS, /* --list-crash-points */
};

/* Fills `c` from all sources. 0, or ERR_INVALID with one line that says what to do. */
int config_read(struct config *c, int argc, char **argv, enum config_action *action, char *why,
                size_t why_size) MUSTCHECK;
void config_release(struct config *c);

/* config_access.c. Who may call, and over what: before serving, checks the options that say so and
 * reads their files. Errors as above. */
int config_take_access(struct config *c, char *why, size_t why_size) MUSTCHECK;
bool config_on_loopback(const struct config *c);
void config_release_access(struct config *c);

/* The text of --help, from the table. */
void config_print_help(void);
/* Every option, the participants at the end, with its value as text (secrets masked) and what set
 * it. ERR_NOMEM: not all of them were. */
typedef void config_fn(void *ctx, const char *key, const char *value, const char *source);
int config_each(const struct config *c, config_fn *fn, void *ctx) MUSTCHECK;
/* Every option as `key = value  # source`, secrets masked, to stdout. */
int config_print(const struct config *c) MUSTCHECK;

/* Takes over from `next` what can change while running, and logs each change and what needs a
 * restart. Whatever `c` had instead is in `next` afterwards, to be released. Returns the number of
 * changes that were applied. */
unsigned config_apply(struct config *c, struct config *next);

#endif /* NODE_CONFIG_H */
