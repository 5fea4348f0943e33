/*
 * config_read.c - where options come from: the file, the environment, the command line.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "node/config_private.h"

#define LINE_MAX_BYTES 4096

static char *trim(char *s)
{
	size_t len;

	while (isspace((unsigned char)*s))
		s++;
	for (len = strlen(s); len && isspace((unsigned char)s[len - 1]); len--)
		s[len - 1] = '\0';
	return s;
}

static int read_line(struct config *c, char *line, const struct origin *from, char *why,
                     size_t size)
{
	char *key = trim(line);
	char *value = strchr(key, '=');

	if (*key == '\0' || *key == '#')
		return 0;
	if (!value) {
		(void)snprintf(why, size, "%s: a line is `key = value`", from->where);
		return ERR_INVALID;
	}
	*value++ = '\0';
	return config_set(c, trim(key), trim(value), from, why, size);
}

int config_read_file(struct config *c, const char *path, bool must, char *why, size_t size)
{
	char line[LINE_MAX_BYTES], where[160];
	FILE *f = fopen(path, "re");
	int rc = 0;

	if (!f) {
		if (!must && errno == ENOENT)
			return 0;
		(void)snprintf(why, size, "%.128s cannot be read: %s", path, strerror(errno));
		return ERR_INVALID;
	}
	for (unsigned n = 1; rc == 0 && fgets(line, sizeof line, f); n++) {
		struct origin from = {CONFIG_FROM_FILE, n, where};

		(void)snprintf(where, sizeof where, "%.128s line %u", path, n);
		if (strlen(line) == sizeof line - 1 && line[sizeof line - 2] != '\n') {
			(void)snprintf(why, size, "%s: longer than %zu bytes", where,
			               sizeof line - 2);
			rc = ERR_INVALID;
		} else {
			rc = read_line(c, line, &from, why, size);
		}
	}
	/* A directory can be opened, but not read. */
	if (rc == 0 && ferror(f)) {
		(void)snprintf(why, size, "%.128s cannot be read: %s", path, strerror(errno));
		rc = ERR_INVALID;
	}
	(void)fclose(f);
	if (rc == 0) {
		char *copy = strdup(path);

		free(c->file);
		c->file = copy;
		rc = copy ? 0 : ERR_NOMEM;
	}
	return rc;
}

void config_variable(const char *key, char *name, size_t size)
{
	size_t n = (size_t)snprintf(name, size, "ASSENT_");

	for (; *key && n < size - 1; key++)
		name[n++] = (char)toupper((unsigned char)*key);
	name[n] = '\0';
}

static bool is_option_variable(const char *name, size_t len)
{
	for (size_t i = 0; i < config_n_option(); i++) {
		char own[KEY_MAX];

		config_variable(config_option(i)->key, own, sizeof own);
		if (strlen(own) == len && memcmp(own, name, len) == 0)
			return true;
	}
	return false;
}

/* ASSENT_PARTICIPANT_STOCK is participant.stock. Variables of the table's own options, like
 * ASSENT_PARTICIPANT_ALLOW, mean these. */
static int read_participant_variable(struct config *c, const char *variable, char *why, size_t size)
{
	static const char prefix[] = "ASSENT_PARTICIPANT_";
	char key[KEY_MAX] = "participant.", where[KEY_MAX + 16];
	const char *value = strchr(variable, '=');
	size_t len = value ? (size_t)(value - variable) : 0;
	size_t n = strlen(key);

	if (len < sizeof prefix || len >= sizeof where ||
	    strncmp(variable, prefix, sizeof prefix - 1) != 0 || is_option_variable(variable, len))
		return 0;
	for (size_t i = sizeof prefix - 1; i < len && n < sizeof key - 1; i++)
		key[n++] = (char)tolower((unsigned char)variable[i]);
	key[n] = '\0';
	(void)snprintf(where, sizeof where, "%.*s", (int)len, variable);
	return config_set(c, key, value + 1, &(struct origin){CONFIG_FROM_ENVIRONMENT, 0, where},
	                  why, size);
}

int config_read_environment(struct config *c, char *why, size_t size)
{
	int rc = 0;

	for (size_t i = 0; i < config_n_option() && rc == 0; i++) {
		const struct option *o = config_option(i);
		char name[KEY_MAX];
		const char *value;

		config_variable(o->key, name, sizeof name);
		value = option_type(o) == OPT_PARTICIPANT ? NULL : getenv(name);
		if (value)
			rc = config_set(c, o->key, value,
			                &(struct origin){CONFIG_FROM_ENVIRONMENT, 0, name}, why,
			                size);
	}
	for (char **variable = environ; *variable && rc == 0; variable++)
		rc = read_participant_variable(c, *variable, why, size);
	return rc;
}

/* "--dev-dir" and "--dev_dir" are one option; "--key=value" and "--key value" too. A participant's
 * name keeps its dashes. */
static int read_flag(struct config *c, char **argv, int *i, char *why, size_t size)
{
	char key[KEY_MAX];
	const char *flag = argv[*i];
	const char *value = strchr(flag, '=');
	size_t len = value ? (size_t)(value - flag) : strlen(flag);
	struct origin from = {CONFIG_FROM_FLAG, 0, "command line"};
	const struct option *o;
	const char *participant;

	if (len < 3 || len - 2 >= sizeof key || strncmp(flag, "--", 2) != 0) {
		(void)snprintf(why, size, "\"%.64s\" is not an option; see assentd --help", flag);
		return ERR_INVALID;
	}
	memcpy(key, flag + 2, len - 2);
	key[len - 2] = '\0';
	for (char *k = key; *k && *k != '.'; k++)
		*k = (char)(*k == '-' ? '_' : *k);
	o = config_find(key, &participant);
	if (!o || value)
		return config_set(c, key, value ? value + 1 : "", &from, why, size);
	value = option_type(o) == OPT_BOOL ? "yes" : argv[++*i];
	if (!value) {
		--*i;
		(void)snprintf(why, size, "%s needs a value: %s %s", flag, flag, o->arg);
		return ERR_INVALID;
	}
	from.where = flag;
	return config_set(c, key, value, &from, why, size);
}

int config_read_flags(struct config *c, int argc, char **argv, enum config_action *action,
                      char *why, size_t size)
{
	static const struct {
		const char *flag;
		enum config_action action;
	} doing[] = {
	    {"--help", CONFIG_HELP},          {"-h", CONFIG_HELP},
	    {"--version", CONFIG_VERSION},    {"--check-config", CONFIG_CHECK},
	    {"--print-config", CONFIG_PRINT}, {"--list-crash-points", CONFIG_CRASH_POINTS},
	};

	*action = CONFIG_SERVE;
	for (int i = 1; i < argc; i++) {
		size_t k = 0;
		int rc = 0;

		while (k < sizeof doing / sizeof doing[0] && strcmp(argv[i], doing[k].flag) != 0)
			k++;
		if (k < sizeof doing / sizeof doing[0])
			*action = doing[k].action;
		else if (i == 1 && strcmp(argv[i], "migrate") == 0)
			*action = CONFIG_MIGRATE;
		else
			rc = read_flag(c, argv, &i, why, size);
		if (rc < 0)
			return rc;
	}
	return 0;
}
