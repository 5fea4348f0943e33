#include "node/config.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/near.h"
#include "io/pg.h"
#include "node/config_private.h"

#define DEFAULT_FILE "/etc/assent/assentd.conf"
#define PARTICIPANT  "participant."

#define AT(member) offsetof(struct config, member)

/* clang-format off */
static const struct option option[] = {
	{ "config", OPT_STR, AT(config), "", 0, 0, "FILE",
	  "read options from FILE; without it /etc/assent/assentd.conf, if that exists" },
	{ "listen", OPT_STR, AT(listen), "127.0.0.1:7470", 0, 0, "ADDRESS:PORT",
	  "where to serve; port 0 picks a free one; an IPv6 address stands in brackets" },
	{ "database", OPT_CONNINFO, AT(database), "", 0, 0, "CONNINFO",
	  "PostgreSQL, as libpq takes it; a password belongs into a passfile or ASSENT_DATABASE, not here" },
	{ "database_timeout_ms", OPT_INT, AT(database_timeout_ms), "30000", 500, 3600000, "MILLISECONDS",
	  "a session with PostgreSQL that gives no answer for so long is given up and made anew" },
	{ "dev", OPT_BOOL, AT(dev), "no", 0, 0, NULL,
	  "start a private PostgreSQL and allow participants on loopback; not for production" },
	{ "dev_dir", OPT_STR, AT(dev_dir), "", 0, 0, "DIR",
	  "where --dev keeps its PostgreSQL; default /tmp/assent-dev-UID" },
	{ "participant_allow", OPT_STR | OPT_LIVE, AT(participant_allow), "", 0, 0, "RULES",
	  "addresses that may be called: scheme://host[:port], ... (host: name, IP, CIDR or loopback; port * for any)" },
	{ "participant.NAME", OPT_PARTICIPANT | OPT_LIVE, AT(registry), "", 0, 0,
	  "'URL [concurrency=N] [queue=N] [secret=FILE]'",
	  "a participant that submissions name; its own limits; the file of the secret that signs its calls" },
	{ "allow_unauthenticated", OPT_BOOL, AT(allow_unauthenticated), "no", 0, 0, NULL,
	  "serve without tokens: everyone who reaches the port may do everything" },
	{ "token_file", OPT_STR, AT(token_file), "", 0, 0, "FILE",
	  "who may do what, read again at SIGHUP: lines of `name role[,role] [namespace=NAME] hash`" },
	{ "client_timeout_s", OPT_INT, AT(client_timeout_s), "60", 1, 3600, "SECONDS",
	  "a connection on which no whole request comes for so long is closed" },
	{ "tls_certificate", OPT_STR, AT(tls_certificate), "", 0, 0, "FILE",
	  "serve https with this certificate and the chain behind it, in PEM" },
	{ "tls_key", OPT_STR, AT(tls_key), "", 0, 0, "FILE", "its key, in PEM" },
	{ "signing_secret_file", OPT_STR, AT(signing_secret_file), "", 0, 0, "FILE",
	  "the secret that signs calls to participants that have none of their own" },
	{ "node", OPT_STR, AT(node), "", 0, 0, "NAME",
	  "this node's name in history and logs; default HOST:PID" },
	{ "log_level", OPT_LEVEL | OPT_LIVE, AT(log_level), "info", 0, 0, "LEVEL",
	  "debug, info, warn or error" },
	{ "log_format", OPT_FORMAT | OPT_LIVE, AT(log_format), "logfmt", 0, 0, "FORMAT",
	  "logfmt or json, one object a line" },
	{ "in_flight_max", OPT_INT | OPT_LIVE, AT(in_flight_max), "20000", 1, 10000000, "N",
	  "transactions in memory; more are refused with 503" },
	{ "memory_max", OPT_INT | OPT_LIVE, AT(memory_max), "268435456", 1048576, 1099511627776, "BYTES",
	  "what transactions in memory may take; more are refused with 503" },
	{ "overload_delay_ms", OPT_INT | OPT_LIVE, AT(overload_delay_ms), "500", 1, 60000, "MILLISECONDS",
	  "submissions are refused with 503 while others wait longer than this to be stored, or for a place at their participant" },
	{ "connection_max", OPT_INT, AT(connection_max), "4096", 8, 100000, "N",
	  "client connections at a time" },
	{ "participant_concurrency", OPT_INT | OPT_LIVE, AT(participant_concurrency), "64", 2, 10000, "N",
	  "calls under way per participant; a quarter is kept for second phases" },
	{ "participant_queue_max", OPT_INT | OPT_LIVE, AT(participant_queue_max), "20000", 1, 10000000, "N",
	  "calls waiting per participant" },
	{ "flush_interval_us", OPT_INT, AT(flush_interval_us), "1000", 0, 1000000, "MICROSECONDS",
	  "pause between group commits while more than 16 transactions go on" },
	{ "retention_ms", OPT_INT, AT(retention_ms), "604800000", 1000, 315360000000, "MILLISECONDS",
	  "ended transactions and history are kept this long; those of outcome mixed for ever" },
};
/* clang-format on */

#define N_OPTION (sizeof option / sizeof option[0])

static_assert(N_OPTION <= CONFIG_OPTION_MAX, "room for the place of every option");

const struct option *config_option(size_t i)
{
	return &option[i];
}

size_t config_n_option(void)
{
	return N_OPTION;
}

const struct option *config_find(const char *key, const char **participant)
{
	size_t prefix = strlen(PARTICIPANT);
	bool named = strncmp(key, PARTICIPANT, prefix) == 0;

	*participant = named ? key + prefix : NULL;
	for (size_t i = 0; i < N_OPTION; i++) {
		bool takes_name = option_type(&option[i]) == OPT_PARTICIPANT;

		if (takes_name ? named : strcmp(option[i].key, key) == 0)
			return &option[i];
	}
	return NULL;
}

struct config_place config_place(const struct config *c, const struct option *o)
{
	return c->place[o - option];
}

static int unknown(const char *key, const char *where, char *why, size_t size)
{
	const char *keys[N_OPTION + 1];
	const char *near;

	for (size_t i = 0; i < N_OPTION; i++)
		keys[i] = option[i].key;
	keys[N_OPTION] = NULL;
	near = near_match(key, keys);
	if (near)
		(void)snprintf(why, size, "%s: there is no option \"%.64s\"; did you mean \"%s\"?",
		               where, key, near);
	else
		(void)snprintf(why, size, "%s: there is no option \"%.64s\"; see assentd --help",
		               where, key);
	return ERR_INVALID;
}

static int parse_bool(const char *value, bool *out)
{
	static const char *const yes[] = {"yes", "true", "on", "1"};
	static const char *const no[] = {"no", "false", "off", "0"};

	for (size_t i = 0; i < 4; i++) {
		if (strcmp(value, yes[i]) == 0 || strcmp(value, no[i]) == 0) {
			*out = strcmp(value, yes[i]) == 0;
			return 0;
		}
	}
	return ERR_INVALID;
}

static int set_string(char **at, const char *value)
{
	free(*at);
	*at = strdup(value);
	return *at ? 0 : ERR_NOMEM;
}

static int set_int(const struct option *o, int64_t *at, const char *value)
{
	char *end;

	errno = 0;
	*at = strtoll(value, &end, 10);
	return *value && !*end && !errno && *at >= o->min && *at <= o->max ? 0 : ERR_INVALID;
}

/* ERR_INVALID with what the value should be in `want`. */
static int set_value(struct config *c, const struct option *o, const char *value, char *want,
                     size_t size)
{
	void *at = (char *)c + o->offset;

	switch (option_type(o)) {
	case OPT_LEVEL:
		(void)snprintf(want, size, "debug, info, warn or error");
		return log_level_parse(value) < 0 ? ERR_INVALID : set_string(at, value);
	case OPT_FORMAT:
		(void)snprintf(want, size, "logfmt or json");
		return log_format_parse(value) < 0 ? ERR_INVALID : set_string(at, value);
	case OPT_BOOL:
		(void)snprintf(want, size, "\"yes\" or \"no\"");
		return parse_bool(value, at);
	case OPT_INT:
		(void)snprintf(want, size, "a number from %lld to %lld", (long long)o->min,
		               (long long)o->max);
		return set_int(o, at, value);
	default:
		return set_string(at, value);
	}
}

static int set_participant(struct config *c, const char *name, const char *value,
                           const struct origin *from, char *why, size_t size)
{
	const struct registry_entry *before = registry_find(c->registry, name);
	char fault[256];
	int rc;

	if (before && from->source == CONFIG_FROM_FILE) {
		(void)snprintf(why, size, "%s: participant.%s was set before, by %s", from->where,
		               name, before->where);
		return ERR_INVALID;
	}
	rc = registry_add(c->registry, name, value, from->where, fault, sizeof fault);
	if (rc == ERR_INVALID)
		(void)snprintf(why, size, "%s: participant.%.40s: %s", from->where, name, fault);
	return rc;
}

int config_set(struct config *c, const char *key, const char *value, const struct origin *from,
               char *why, size_t size)
{
	const char *participant;
	const struct option *o = config_find(key, &participant);
	struct config_place place;
	char want[96];
	int rc;

	if (!o || (from->source == CONFIG_FROM_FILE && o->offset == AT(config)))
		return unknown(key, from->where, why, size);
	if (participant)
		return set_participant(c, participant, value, from, why, size);
	place = config_place(c, o);
	if (from->source == CONFIG_FROM_FILE && place.source == CONFIG_FROM_FILE) {
		(void)snprintf(why, size, "%s: %s was set before, on line %u", from->where, key,
		               place.line);
		return ERR_INVALID;
	}
	c->place[o - option] = (struct config_place){from->source, from->line};
	rc = set_value(c, o, value, want, sizeof want);
	if (rc == ERR_INVALID)
		(void)snprintf(why, size, "%s: %s is %s, not \"%.64s\"", from->where, key, want,
		               value);
	return rc;
}

/* An IPv6 address stands in brackets: without them its last group would pass for the port. */
static bool listen_host(struct config *c, const char *host, size_t len)
{
	bool bracketed = len >= 2 && host[0] == '[' && host[len - 1] == ']';
	unsigned char ip[16];

	if (bracketed) {
		host++;
		len -= 2;
	}
	if (len == 0 || len >= sizeof c->listen_host)
		return false;
	memcpy(c->listen_host, host, len);
	c->listen_host[len] = '\0';
	return inet_pton(bracketed ? AF_INET6 : AF_INET, c->listen_host, ip) == 1;
}

static bool listen_port(struct config *c, const char *text)
{
	size_t len = strlen(text);
	long port;

	if (len == 0 || len > 5 || strspn(text, "0123456789") != len)
		return false;
	port = strtol(text, NULL, 10);
	c->listen_port = (uint16_t)port;
	return port <= 65535;
}

static int split_listen(struct config *c, char *why, size_t size)
{
	const char *colon = strrchr(c->listen, ':');

	if (colon && listen_host(c, c->listen, (size_t)(colon - c->listen)) &&
	    listen_port(c, colon + 1))
		return 0;
	(void)snprintf(why, size,
	               "listen is a numeric address and a port, like 127.0.0.1:7470 or [::1]:7470, "
	               "not \"%.64s\"",
	               c->listen);
	return ERR_INVALID;
}

static int default_str(const char **at, const char *value)
{
	free((char *)(uintptr_t)*at);
	*at = strdup(value);
	return *at ? 0 : ERR_NOMEM;
}

static int finish_registry(struct config *c, enum config_action action, char *why, size_t size)
{
	const char *participant;
	const struct option *o = config_find("participant_allow", &participant);
	char fault[192], where[192];
	int rc = registry_allow(c->registry, c->participant_allow, fault, sizeof fault);

	if (rc == ERR_INVALID)
		(void)snprintf(why, size, "%s: participant_allow: %s",
		               config_place_str(c, o, where, sizeof where), fault);
	if (rc == 0 && (action == CONFIG_SERVE || action == CONFIG_CHECK))
		rc = registry_read_secrets(c->registry, why, size);
	return rc;
}

static int finish(struct config *c, enum config_action action, char *why, size_t size)
{
	char text[256], where[192], host[64] = "localhost";
	const char *participant;
	int rc = split_listen(c, why, size);

	if (rc < 0)
		return rc;
	if (c->dev && *c->database) {
		(void)snprintf(why, size, "--dev brings its own PostgreSQL: leave out --database");
		return ERR_INVALID;
	}
	if (!c->dev && !*c->database && action != CONFIG_PRINT) {
		(void)snprintf(why, size,
		               "no database: give --database 'host=... dbname=...', or try --dev");
		return ERR_INVALID;
	}
	rc = pg_conninfo_check(c->database, text, sizeof text);
	if (rc < 0) {
		(void)snprintf(
		    why, size, "%s: database: %s",
		    config_place_str(c, config_find("database", &participant), where, sizeof where),
		    text);
		return rc;
	}
	(void)gethostname(host, sizeof host - 1);
	(void)snprintf(text, sizeof text, "%s:%ld", host, (long)getpid());
	if (!*c->node)
		rc = default_str(&c->node, text);
	(void)snprintf(text, sizeof text, "/tmp/assent-dev-%lu", (unsigned long)getuid());
	if (rc == 0 && !*c->dev_dir)
		rc = default_str(&c->dev_dir, text);
	if (rc == 0 && c->dev && !*c->participant_allow)
		rc = default_str(&c->participant_allow, "http://loopback:*");
	return rc == 0 ? finish_registry(c, action, why, size) : rc;
}

static int init(struct config *c, char *why, size_t size)
{
	int rc;

	memset(c, 0, sizeof *c);
	rc = registry_new(&c->registry);
	for (size_t i = 0; i < N_OPTION && rc == 0; i++) {
		if (option_type(&option[i]) != OPT_PARTICIPANT)
			rc = config_set(c, option[i].key, option[i].value,
			                &(struct origin){CONFIG_FROM_DEFAULT, 0, "default"}, why,
			                size);
	}
	return rc;
}

int config_read(struct config *c, int argc, char **argv, enum config_action *action, char *why,
                size_t why_size)
{
	struct config flags;
	const char *file;
	int rc;

	*why = '\0';
	rc = init(c, why, why_size);
	/* Once to find --config, which the file's place depends on; then on top of all else. */
	if (init(&flags, why, why_size) < 0)
		rc = ERR_NOMEM;
	if (rc == 0)
		rc = config_read_flags(&flags, argc, argv, action, why, why_size);
	if (rc == 0 && *action != CONFIG_HELP && *action != CONFIG_VERSION &&
	    *action != CONFIG_CRASH_POINTS) {
		file = *flags.config ? flags.config : getenv("ASSENT_CONFIG");
		rc = config_read_file(c, file ? file : DEFAULT_FILE, file != NULL, why, why_size);
		if (rc == 0)
			rc = config_read_environment(c, why, why_size);
		if (rc == 0)
			rc = config_read_flags(c, argc, argv, action, why, why_size);
		if (rc == 0)
			rc = finish(c, *action, why, why_size);
	}
	config_release(&flags);
	if (rc == ERR_NOMEM)
		(void)snprintf(why, why_size, "out of memory");
	return rc;
}

void config_release(struct config *c)
{
	config_release_access(c);
	for (size_t i = 0; i < N_OPTION; i++) {
		if (option_is_string(&option[i])) {
			char **string = (char **)(void *)((char *)c + option[i].offset);

			free(*string);
			*string = NULL;
		}
	}
	free(c->file);
	c->file = NULL;
	registry_free(c->registry);
	c->registry = NULL;
}

void config_print_help(void)
{
	(void)printf(
	    "assentd - distributed transaction coordinator\n\n"
	    "  assentd [options]            serve\n"
	    "  assentd migrate [options]    make or upgrade the tables in --database\n"
	    "  assentd hash-token           a token from stdin, its hash for token_file\n"
	    "  --check-config               read everything, say what is wrong, and end\n"
	    "  --print-config               every value and where it comes from\n"
	    "  --list-crash-points          where ASSENT_CRASH_AT=NAME[:NTH] kills it under "
	    "--dev\n\n"
	    "Options (in a file: key = value; in the environment: ASSENT_KEY; SIGHUP reads\n"
	    "both again and applies those marked *):\n");
	for (size_t i = 0; i < N_OPTION; i++) {
		const struct option *o = &option[i];
		char flag[KEY_MAX + 64];

		(void)snprintf(flag, sizeof flag, "--%s%s%s", o->key, o->arg ? " " : "",
		               o->arg ? o->arg : "");
		for (char *s = flag + 2; *s && *s != ' ' && *s != '.'; s++) {
			if (*s == '_')
				*s = '-';
		}
		(void)printf("  %s%s\n      %s", flag, o->type & OPT_LIVE ? " *" : "", o->help);
		if (*o->value && o->arg)
			(void)printf(" (default %s)", o->value);
		(void)printf("\n");
	}
	(void)printf("  --help, --version\n");
}
