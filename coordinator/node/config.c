#include "node/config.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/near.h"

#define KEY_MAX        64
#define LINE_MAX_BYTES 4096

enum option_type {
	OPT_STR,
	OPT_BOOL,
	OPT_INT,
	OPT_LEVEL,
};

struct option {
	const char *key;
	enum option_type type;
	size_t offset;
	const char *value; /* default, as text */
	int64_t min, max;  /* OPT_INT */
	const char *arg;   /* for --help; NULL for switches */
	const char *help;
};

#define AT(member) offsetof(struct config, member)

/* clang-format off */
static const struct option option[] = {
	{ "config", OPT_STR, AT(config), "", 0, 0, "FILE",
	  "read options from FILE; without it /etc/assent/assentd.conf, if that exists" },
	{ "listen", OPT_STR, AT(listen), "127.0.0.1:7470", 0, 0, "ADDRESS:PORT",
	  "where to serve; port 0 picks a free one; an IPv6 address stands in brackets" },
	{ "database", OPT_STR, AT(database), "", 0, 0, "CONNINFO",
	  "PostgreSQL, as libpq takes it; a password belongs into a passfile or ASSENT_DATABASE, not here" },
	{ "dev", OPT_BOOL, AT(dev), "no", 0, 0, NULL,
	  "start a private PostgreSQL and allow participants on loopback; not for production" },
	{ "dev_dir", OPT_STR, AT(dev_dir), "", 0, 0, "DIR",
	  "where --dev keeps its PostgreSQL; default /tmp/assent-dev-UID" },
	{ "participant_allow", OPT_STR, AT(participant_allow), "", 0, 0, "RULES",
	  "addresses that may be called: scheme://host[:port], ... (host: name, IP, CIDR or loopback; port * for any)" },
	{ "allow_unauthenticated", OPT_BOOL, AT(allow_unauthenticated), "no", 0, 0, NULL,
	  "serve beyond loopback although everyone who reaches the port may do everything" },
	{ "node", OPT_STR, AT(node), "", 0, 0, "NAME",
	  "this node's name in history and logs; default HOST:PID" },
	{ "log_level", OPT_LEVEL, AT(log_level), "info", 0, 0, "LEVEL", "debug, info, warn or error" },
	{ "in_flight_max", OPT_INT, AT(in_flight_max), "20000", 1, 10000000, "N",
	  "transactions in memory; more are refused with 503" },
	{ "connection_max", OPT_INT, AT(connection_max), "4096", 8, 100000, "N",
	  "client connections at a time" },
	{ "participant_concurrency", OPT_INT, AT(participant_concurrency), "64", 2, 10000, "N",
	  "calls under way per participant; a quarter is kept for second phases" },
	{ "participant_queue_max", OPT_INT, AT(participant_queue_max), "20000", 1, 10000000, "N",
	  "calls waiting per participant" },
	{ "flush_interval_us", OPT_INT, AT(flush_interval_us), "1000", 0, 1000000, "MICROSECONDS",
	  "pause between group commits when more than 16 transactions are in flight" },
};
/* clang-format on */

#define N_OPTION (sizeof option / sizeof option[0])

static const struct option *find(const char *key)
{
	for (size_t i = 0; i < N_OPTION; i++) {
		if (strcmp(option[i].key, key) == 0)
			return &option[i];
	}
	return NULL;
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

static bool is_string(const struct option *o)
{
	return o->type == OPT_STR || o->type == OPT_LEVEL;
}

static int set(struct config *c, const struct option *o, const char *value, const char *where,
               char *why, size_t size)
{
	char *at = (char *)c + o->offset;
	char *end;

	if (o->type == OPT_LEVEL && log_level_parse(value) < 0) {
		(void)snprintf(why, size, "%s: %s is debug, info, warn or error, not \"%.32s\"",
		               where, o->key, value);
		return ERR_INVALID;
	}
	if (is_string(o)) {
		char **string = (char **)(void *)at;

		free(*string);
		*string = strdup(value);
		return *string ? 0 : ERR_NOMEM;
	}
	if (o->type == OPT_BOOL) {
		if (parse_bool(value, (bool *)at) == 0)
			return 0;
		(void)snprintf(why, size, "%s: %s is \"yes\" or \"no\", not \"%.64s\"", where,
		               o->key, value);
		return ERR_INVALID;
	}
	errno = 0;
	*(int64_t *)(void *)at = strtoll(value, &end, 10);
	if (*value && !*end && !errno && *(int64_t *)(void *)at >= o->min &&
	    *(int64_t *)(void *)at <= o->max)
		return 0;
	(void)snprintf(why, size, "%s: %s is a number from %lld to %lld, not \"%.64s\"", where,
	               o->key, (long long)o->min, (long long)o->max, value);
	return ERR_INVALID;
}

static char *trim(char *s)
{
	size_t len;

	while (isspace((unsigned char)*s))
		s++;
	for (len = strlen(s); len && isspace((unsigned char)s[len - 1]); len--)
		s[len - 1] = '\0';
	return s;
}

static int read_line(struct config *c, char *line, const char *where, char *why, size_t size)
{
	char *key = trim(line);
	char *value = strchr(key, '=');
	const struct option *o;

	if (*key == '\0' || *key == '#')
		return 0;
	if (!value) {
		(void)snprintf(why, size, "%s: a line is `key = value`", where);
		return ERR_INVALID;
	}
	*value++ = '\0';
	key = trim(key);
	o = find(key);
	if (!o || o->offset == AT(config))
		return unknown(key, where, why, size);
	return set(c, o, trim(value), where, why, size);
}

static int read_file(struct config *c, const char *path, bool must, char *why, size_t size)
{
	char line[LINE_MAX_BYTES], where[160];
	FILE *f = fopen(path, "r");
	int rc = 0;

	if (!f) {
		if (!must && errno == ENOENT)
			return 0;
		(void)snprintf(why, size, "%.128s cannot be read: %s", path, strerror(errno));
		return ERR_INVALID;
	}
	for (unsigned n = 1; rc == 0 && fgets(line, sizeof line, f); n++) {
		(void)snprintf(where, sizeof where, "%.128s line %u", path, n);
		if (strlen(line) == sizeof line - 1 && line[sizeof line - 2] != '\n') {
			(void)snprintf(why, size, "%s: longer than %zu bytes", where,
			               sizeof line - 2);
			rc = ERR_INVALID;
		} else {
			rc = read_line(c, line, where, why, size);
		}
	}
	/* A directory can be opened, but not read. */
	if (rc == 0 && ferror(f)) {
		(void)snprintf(why, size, "%.128s cannot be read: %s", path, strerror(errno));
		rc = ERR_INVALID;
	}
	(void)fclose(f);
	return rc;
}

static int read_environment(struct config *c, char *why, size_t size)
{
	for (size_t i = 0; i < N_OPTION; i++) {
		char name[KEY_MAX] = "ASSENT_";
		const char *value;
		size_t n = strlen(name);
		int rc;

		for (const char *k = option[i].key; *k && n < sizeof name - 1; k++)
			name[n++] = (char)toupper((unsigned char)*k);
		name[n] = '\0';
		value = getenv(name);
		rc = value ? set(c, &option[i], value, name, why, size) : 0;
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* "--dev-dir" and "--dev_dir" are one option; "--key=value" and "--key value" too. */
static int read_flag(struct config *c, char **argv, int *i, char *why, size_t size)
{
	char key[KEY_MAX];
	const char *flag = argv[*i];
	const char *value = strchr(flag, '=');
	size_t len = value ? (size_t)(value - flag) : strlen(flag);
	const struct option *o;

	if (len < 3 || len - 2 >= sizeof key || strncmp(flag, "--", 2) != 0) {
		(void)snprintf(why, size, "\"%.64s\" is not an option; see assentd --help", flag);
		return ERR_INVALID;
	}
	for (size_t k = 2; k < len; k++)
		key[k - 2] = (char)(flag[k] == '-' ? '_' : flag[k]);
	key[len - 2] = '\0';
	o = find(key);
	if (!o)
		return unknown(key, "command line", why, size);
	if (value)
		value++;
	else if (o->type == OPT_BOOL)
		value = "yes";
	else
		value = argv[++*i];
	if (!value) {
		--*i;
		(void)snprintf(why, size, "%s needs a value: %s %s", flag, flag, o->arg);
		return ERR_INVALID;
	}
	return set(c, o, value, flag, why, size);
}

static int read_flags(struct config *c, int argc, char **argv, enum config_action *action,
                      char *why, size_t size)
{
	*action = CONFIG_SERVE;
	for (int i = 1; i < argc; i++) {
		int rc = 0;

		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
			*action = CONFIG_HELP;
		else if (strcmp(argv[i], "--version") == 0)
			*action = CONFIG_VERSION;
		else if (i == 1 && strcmp(argv[i], "migrate") == 0)
			*action = CONFIG_MIGRATE;
		else
			rc = read_flag(c, argv, &i, why, size);
		if (rc < 0)
			return rc;
	}
	return 0;
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

static bool on_loopback(const struct config *c)
{
	return strncmp(c->listen_host, "127.", 4) == 0 || strcmp(c->listen_host, "::1") == 0;
}

static int default_str(const char **at, const char *value)
{
	free((char *)(uintptr_t)*at);
	*at = strdup(value);
	return *at ? 0 : ERR_NOMEM;
}

static int finish(struct config *c, enum config_action action, char *why, size_t size)
{
	char text[128], host[64] = "localhost";
	int rc = split_listen(c, why, size);

	if (rc < 0)
		return rc;
	if (c->dev && !on_loopback(c)) {
		(void)snprintf(why, size,
		               "--dev serves on loopback only; use --listen 127.0.0.1:%u",
		               (unsigned)c->listen_port);
		return ERR_INVALID;
	}
	if (!on_loopback(c) && !c->allow_unauthenticated) {
		(void)snprintf(
		    why, size,
		    "listening on %s lets everyone who reaches it do everything: listen on "
		    "127.0.0.1, or say --allow-unauthenticated on a network of your own",
		    c->listen_host);
		return ERR_INVALID;
	}
	if (c->dev && *c->database) {
		(void)snprintf(why, size, "--dev brings its own PostgreSQL: leave out --database");
		return ERR_INVALID;
	}
	if (!c->dev && !*c->database && (action == CONFIG_SERVE || action == CONFIG_MIGRATE)) {
		(void)snprintf(why, size,
		               "no database: give --database 'host=... dbname=...', or try --dev");
		return ERR_INVALID;
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
	return rc;
}

int config_read(struct config *c, int argc, char **argv, enum config_action *action, char *why,
                size_t why_size)
{
	struct config flags = {0};
	int rc = 0;

	memset(c, 0, sizeof *c);
	*why = '\0';
	for (size_t i = 0; i < N_OPTION && rc == 0; i++) {
		rc = set(c, &option[i], option[i].value, "default", why, why_size);
		if (rc == 0)
			rc = set(&flags, &option[i], option[i].value, "default", why, why_size);
	}
	/* Once to find --config, which the file's place depends on, ... */
	if (rc == 0)
		rc = read_flags(&flags, argc, argv, action, why, why_size);
	if (rc == 0 && *action != CONFIG_HELP && *action != CONFIG_VERSION) {
		const char *path = *flags.config ? flags.config : getenv("ASSENT_CONFIG");

		rc = read_file(c, path ? path : "/etc/assent/assentd.conf", path != NULL, why,
		               why_size);
		if (rc == 0)
			rc = read_environment(c, why, why_size);
		/* ... and once more, on top of everything else. */
		if (rc == 0)
			rc = read_flags(c, argc, argv, action, why, why_size);
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
	for (size_t i = 0; i < N_OPTION; i++) {
		if (is_string(&option[i])) {
			char **string = (char **)(void *)((char *)c + option[i].offset);

			free(*string);
			*string = NULL;
		}
	}
}

void config_print_help(void)
{
	(void)printf("assentd - distributed transaction coordinator\n\n"
	             "  assentd [options]            serve\n"
	             "  assentd migrate [options]    make or upgrade the tables in --database\n\n"
	             "Options (in a file: key = value; in the environment: ASSENT_KEY):\n");
	for (size_t i = 0; i < N_OPTION; i++) {
		const struct option *o = &option[i];
		char flag[KEY_MAX];

		(void)snprintf(flag, sizeof flag, "--%s%s%s", o->key, o->arg ? " " : "",
		               o->arg ? o->arg : "");
		for (char *s = flag + 2; *s && *s != ' '; s++) {
			if (*s == '_')
				*s = '-';
		}
		(void)printf("  %s\n      %s", flag, o->help);
		if (*o->value && o->arg)
			(void)printf(" (default %s)", o->value);
		(void)printf("\n");
	}
	(void)printf("  --help, --version\n");
}
