#include "node/registry.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/near.h"
#include "node/address.h"
#include "node/secret.h"

struct registry {
	struct address_list *allow;
	size_t n;
	struct registry_entry *entry[REGISTRY_MAX]; /* by name */
};

int registry_new(struct registry **out)
{
	char why[1];

	*out = calloc(1, sizeof **out);
	if (!*out)
		return ERR_NOMEM;
	if (address_list_new("", &(*out)->allow, why, sizeof why) == 0)
		return 0;
	free(*out);
	*out = NULL;
	return ERR_NOMEM;
}

static void entry_free(struct registry_entry *e)
{
	if (!e)
		return;
	secret_keys_free(e->keys);
	free(e->secret_file);
	free(e->text);
	free(e->url);
	free(e->where);
	free(e);
}

void registry_free(struct registry *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < r->n; i++)
		entry_free(r->entry[i]);
	address_list_free(r->allow);
	free(r);
}

int registry_allow(struct registry *r, const char *rules, char *why, size_t size)
{
	struct address_list *allow;
	int rc = address_list_new(rules, &allow, why, size);

	if (rc < 0)
		return rc;
	address_list_free(r->allow);
	r->allow = allow;
	return 0;
}

bool participant_name_valid(const char *name, size_t len)
{
	if (len == 0 || len > PARTICIPANT_NAME_MAX)
		return false;
	for (size_t i = 0; i < len; i++) {
		char c = name[i];

		if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '_' && c != '-')
			return false;
	}
	return true;
}

/* --- participant.NAME = URL [concurrency=N] [queue=N] [secret=FILE] --- */

static const char *const setting_keys[] = {"concurrency", "queue", "secret", NULL};

static int read_number(const char *key, const char *value, const unsigned range[2], unsigned *out,
                       char *why, size_t size)
{
	char *end;
	unsigned long n = strtoul(value, &end, 10);

	if (*value >= '0' && *value <= '9' && !*end && n >= range[0] && n <= range[1]) {
		*out = (unsigned)n;
		return 0;
	}
	(void)snprintf(why, size, "%s is a number from %u to %u, not \"%.32s\"", key, range[0],
	               range[1], value);
	return ERR_INVALID;
}

static int read_setting(struct registry_entry *e, char *word, char *why, size_t size)
{
	/* Of two places one is kept for second phases; of one nothing would be left. */
	static const unsigned places[2] = {2, 10000}, waiting[2] = {1, 10000000};
	char *value = strchr(word, '=');
	const char *near;

	if (value)
		*value++ = '\0';
	if (value && strcmp(word, "concurrency") == 0)
		return read_number(word, value, places, &e->concurrency, why, size);
	if (value && strcmp(word, "queue") == 0)
		return read_number(word, value, waiting, &e->queue_max, why, size);
	if (value && *value == '/' && strcmp(word, "secret") == 0) {
		free(e->secret_file);
		e->secret_file = strdup(value);
		return e->secret_file ? 0 : ERR_NOMEM;
	}
	near = near_match(word, setting_keys);
	if (near && strcmp(near, word) != 0)
		(void)snprintf(why, size, "there is no setting \"%.32s\"; did you mean \"%s\"?",
		               word, near);
	else
		(void)snprintf(why, size,
		               "behind the address stand concurrency=N, queue=N or "
		               "secret=/FILE, not \"%.32s\"",
		               word);
	return ERR_INVALID;
}

static int read_address(struct registry_entry *e, const char *word, char *why, size_t size)
{
	size_t len = strlen(word);
	int rc = address_parse(word, len, why, size);

	if (rc < 0)
		return rc;
	while (len > 0 && word[len - 1] == '/')
		len--;
	e->url = strndup(word, len);
	return e->url ? 0 : ERR_NOMEM;
}

static int read_text(struct registry_entry *e, char *text, char *why, size_t size)
{
	static const char blank[] = " \t";
	int rc = 0;

	for (char *word = text + strspn(text, blank); *word && rc == 0;) {
		size_t len = strcspn(word, blank);
		char *next = word + len + strspn(word + len, blank);

		word[len] = '\0';
		rc = e->url ? read_setting(e, word, why, size) : read_address(e, word, why, size);
		word = next;
	}
	if (rc == 0 && !e->url) {
		(void)snprintf(why, size, "the participant's address is missing");
		return ERR_INVALID;
	}
	return rc;
}

static int entry_new(const char *name, const char *text, const char *where,
                     struct registry_entry **out, char *why, size_t size)
{
	struct registry_entry *e = calloc(1, sizeof *e);
	char *copy = strdup(text);
	int rc = ERR_NOMEM;

	if (e && copy) {
		(void)snprintf(e->name, sizeof e->name, "%s", name);
		e->text = strdup(text);
		e->where = strdup(where);
		rc = e->text && e->where ? read_text(e, copy, why, size) : ERR_NOMEM;
	}
	free(copy);
	if (rc < 0) {
		entry_free(e);
		return rc;
	}
	*out = e;
	return 0;
}

/* Where `name` stands or would stand. */
static size_t place_of(const struct registry *r, const char *name, bool *found)
{
	size_t i = 0;

	while (i < r->n && strcmp(r->entry[i]->name, name) < 0)
		i++;
	*found = i < r->n && strcmp(r->entry[i]->name, name) == 0;
	return i;
}

int registry_add(struct registry *r, const char *name, const char *text, const char *where,
                 char *why, size_t size)
{
	struct registry_entry *e = NULL;
	bool found;
	size_t i;
	int rc;

	if (!participant_name_valid(name, strlen(name))) {
		(void)snprintf(why, size, "a participant's name is 1 to 32 of a-z, 0-9, _ and -");
		return ERR_INVALID;
	}
	i = place_of(r, name, &found);
	if (!found && r->n == REGISTRY_MAX) {
		(void)snprintf(why, size, "there are more than %d participants", REGISTRY_MAX);
		return ERR_INVALID;
	}
	rc = entry_new(name, text, where, &e, why, size);
	if (rc < 0)
		return rc;
	if (found) {
		entry_free(r->entry[i]);
	} else {
		memmove(&r->entry[i + 1], &r->entry[i], (r->n - i) * sizeof r->entry[0]);
		r->n++;
	}
	r->entry[i] = e;
	return 0;
}

int registry_read_secrets(struct registry *r, char *why, size_t size)
{
	for (size_t i = 0; i < r->n; i++) {
		struct registry_entry *e = r->entry[i];
		char option[256];
		int rc;

		if (!e->secret_file)
			continue;
		(void)snprintf(option, sizeof option, "%.200s: participant.%s", e->where, e->name);
		rc = secret_keys_load(option, e->secret_file, &e->keys, why, size);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* --- looking up --- */

size_t registry_count(const struct registry *r)
{
	return r->n;
}

const struct registry_entry *registry_at(const struct registry *r, size_t i)
{
	return r->entry[i];
}

const struct registry_entry *registry_find(const struct registry *r, const char *name)
{
	bool found;
	size_t i = place_of(r, name, &found);

	return found ? r->entry[i] : NULL;
}

static bool is_url(const char *s, size_t len)
{
	return memmem(s, len, "://", 3) != NULL;
}

/* The HTTP client takes "/../" out of a path: such an address is not where it seems to be. */
static bool leaves_its_path(const char *path, size_t len)
{
	for (size_t i = 0; i + 1 < len; i++) {
		if (path[i] == '/' && (path[i + 1] == '.' || path[i + 1] == '%'))
			return true;
	}
	return false;
}

static bool lies_below(const struct registry_entry *e, const char *url, size_t len)
{
	size_t n = strlen(e->url);

	if (len < n || memcmp(url, e->url, n) != 0)
		return false;
	return len == n || (url[n] == '/' && !leaves_its_path(url + n, len - n));
}

static const struct registry_entry *owner(const struct registry *r, const char *url, size_t len)
{
	const struct registry_entry *best = NULL;

	for (size_t i = 0; i < r->n; i++) {
		if (lies_below(r->entry[i], url, len) &&
		    (!best || strlen(r->entry[i]->url) > strlen(best->url)))
			best = r->entry[i];
	}
	return best;
}

int registry_check_url(const struct registry *r, const char *url, size_t len, char *why,
                       size_t size)
{
	if (owner(r, url, len))
		return address_parse(url, len, why, size);
	return address_check(r->allow, url, len, why, size);
}

static int unknown(const struct registry *r, const char *name, char *why, size_t size)
{
	const char *names[REGISTRY_MAX + 1];
	const char *near;

	for (size_t i = 0; i < r->n; i++)
		names[i] = r->entry[i]->name;
	names[r->n] = NULL;
	near = near_match(name, names);
	if (near)
		(void)snprintf(why, size, "there is no participant \"%s\"; did you mean \"%s\"?",
		               name, near);
	else
		(void)snprintf(why, size,
		               "there is no participant \"%s\"; the operator names them in the "
		               "configuration",
		               name);
	return ERR_NOTFOUND;
}

int registry_check(const struct registry *r, const char *participant, size_t len, char *why,
                   size_t size)
{
	char name[PARTICIPANT_NAME_MAX + 1];

	if (is_url(participant, len))
		return registry_check_url(r, participant, len, why, size);
	if (!participant_name_valid(participant, len)) {
		(void)snprintf(why, size,
		               "a participant is a name from the configuration (1 to 32 of a-z, "
		               "0-9, _ and -) or an http:// or https:// address");
		return ERR_INVALID;
	}
	memcpy(name, participant, len);
	name[len] = '\0';
	return registry_find(r, name) ? 0 : unknown(r, name, why, size);
}

const char *registry_url(const struct registry *r, const char *participant)
{
	const struct registry_entry *e;

	if (is_url(participant, strlen(participant)))
		return participant;
	e = registry_find(r, participant);
	return e ? e->url : NULL;
}

const struct registry_entry *registry_owner(const struct registry *r, const char *participant,
                                            const char *url)
{
	const struct registry_entry *named = registry_find(r, participant);
	size_t len = strlen(url);

	return named && lies_below(named, url, len) ? named : owner(r, url, len);
}
