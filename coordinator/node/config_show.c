/*
 * config_show.c - what the configuration is and where it comes from; changes while running.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "io/pg.h"
#include "node/config_private.h"

const char *config_place_str(const struct config *c, const struct option *o, char *buf, size_t size)
{
	struct config_place place = config_place(c, o);

	switch (place.source) {
	case CONFIG_FROM_DEFAULT:
		(void)snprintf(buf, size, "default");
		break;
	case CONFIG_FROM_FILE:
		(void)snprintf(buf, size, "%.128s line %u", c->file ? c->file : "file", place.line);
		break;
	case CONFIG_FROM_ENVIRONMENT:
		config_variable(o->key, buf, size);
		break;
	case CONFIG_FROM_FLAG:
		(void)snprintf(buf, size, "command line");
		break;
	}
	return buf;
}

char *config_value_str(const struct config *c, const struct option *o)
{
	const void *at = (const char *)c + o->offset;
	char text[32];

	switch (option_type(o)) {
	case OPT_BOOL:
		return strdup(*(const bool *)at ? "yes" : "no");
	case OPT_INT:
		(void)snprintf(text, sizeof text, "%lld", (long long)*(const int64_t *)at);
		return strdup(text);
	case OPT_CONNINFO:
		return pg_conninfo_masked(*(const char *const *)at);
	default:
		return strdup(*(const char *const *)at);
	}
}

static int show_option(const struct config *c, const struct option *o, config_fn *fn, void *ctx)
{
	char *value = config_value_str(c, o);
	char where[192];

	if (!value)
		return ERR_NOMEM;
	fn(ctx, o->key, value, config_place_str(c, o, where, sizeof where));
	free(value);
	return 0;
}

int config_each(const struct config *c, config_fn *fn, void *ctx)
{
	char key[sizeof "participant." + PARTICIPANT_NAME_MAX];

	for (size_t i = 0; i < config_n_option(); i++) {
		const struct option *o = config_option(i);

		if (option_type(o) != OPT_PARTICIPANT && show_option(c, o, fn, ctx) < 0)
			return ERR_NOMEM;
	}
	for (size_t i = 0; i < registry_count(c->registry); i++) {
		const struct registry_entry *e = registry_at(c->registry, i);

		(void)snprintf(key, sizeof key, "participant.%s", e->name);
		fn(ctx, key, e->text, e->where);
	}
	return 0;
}

static void print_option(void *ctx, const char *key, const char *value, const char *source)
{
	(void)ctx;
	(void)printf("%s = %s  # %s\n", key, value, source);
}

int config_print(const struct config *c)
{
	int rc = config_each(c, print_option, NULL);

	if (rc < 0)
		return rc;
	return fflush(stdout) == 0 ? 0 : ERR_IO;
}

static bool same_value(const struct config *a, const struct config *b, const struct option *o)
{
	const void *x = (const char *)a + o->offset;
	const void *y = (const char *)b + o->offset;

	switch (option_type(o)) {
	case OPT_BOOL:
		return *(const bool *)x == *(const bool *)y;
	case OPT_INT:
		return *(const int64_t *)x == *(const int64_t *)y;
	default:
		return strcmp(*(const char *const *)x, *(const char *const *)y) == 0;
	}
}

static void swap_value(struct config *a, struct config *b, const struct option *o)
{
	char *x = (char *)a + o->offset, *y = (char *)b + o->offset;
	char before[sizeof(int64_t)];
	size_t size = option_type(o) == OPT_INT    ? sizeof(int64_t)
	              : option_type(o) == OPT_BOOL ? sizeof(bool)
	                                           : sizeof(char *);

	memcpy(before, x, size);
	memcpy(x, y, size);
	memcpy(y, before, size);
}

static unsigned apply_option(struct config *c, struct config *next, const struct option *o)
{
	char where[192];
	char *value;

	/* --dev puts its own PostgreSQL there. */
	if (same_value(c, next, o) || (option_type(o) == OPT_CONNINFO && c->dev))
		return 0;
	value = config_value_str(next, o);
	(void)config_place_str(next, o, where, sizeof where);
	if (o->type & OPT_LIVE) {
		swap_value(c, next, o);
		log_info(NULL, "reload: %s is now %s (%s)", o->key, value ? value : "?", where);
	} else {
		log_warn(NULL, "reload: %s = %s (%s) takes effect after a restart", o->key,
		         value ? value : "?", where);
	}
	free(value);
	return o->type & OPT_LIVE ? 1 : 0;
}

static unsigned log_participants(const struct registry *before, const struct registry *after)
{
	unsigned n = 0;

	for (size_t i = 0; i < registry_count(before); i++) {
		const char *name = registry_at(before, i)->name;

		if (registry_find(after, name))
			continue;
		log_info(NULL, "reload: participant.%s is gone", name);
		n++;
	}
	for (size_t i = 0; i < registry_count(after); i++) {
		const struct registry_entry *e = registry_at(after, i);
		const struct registry_entry *was = registry_find(before, e->name);

		if (was && strcmp(was->text, e->text) == 0)
			continue;
		log_info(NULL, "reload: participant.%s is now %s (%s)", e->name, e->text, e->where);
		n++;
	}
	return n;
}

unsigned config_apply(struct config *c, struct config *next)
{
	struct registry *registry = c->registry;
	unsigned n = 0;

	for (size_t i = 0; i < config_n_option(); i++) {
		if (option_type(config_option(i)) != OPT_PARTICIPANT)
			n += apply_option(c, next, config_option(i));
	}
	/* Carries participant_allow as well. */
	n += log_participants(registry, next->registry);
	c->registry = next->registry;
	next->registry = registry;
	return n;
}
