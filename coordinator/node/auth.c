#include "node/auth.h"

#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "io/digest.h"
#include "node/secret.h"

#define ENTRY_MAX  10000
#define HEX_LEN    ((size_t)2 * DIGEST_LEN)
#define NAME_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._@-"
#define BLANK      " \t\r"

struct entry {
	uint8_t hash[DIGEST_LEN];
	struct auth_caller caller;
};

struct table {
	struct entry *entry;
	size_t n, cap;
};

struct auth {
	char *path; /* "": everybody is let in */
	struct table table;
};

static const struct {
	const char *name;
	unsigned role;
} role[] = {{"submit", ROLE_SUBMIT},
            {"participant", ROLE_PARTICIPANT},
            {"viewer", ROLE_VIEWER},
            {"operator", ROLE_OPERATOR},
            {"admin", ROLE_ADMIN}};

#define N_ROLE (sizeof role / sizeof role[0])

void auth_put_roles(struct buf *out, unsigned roles)
{
	const char *before = "";

	for (size_t i = 0; i < N_ROLE; i++) {
		if (!(roles & role[i].role))
			continue;
		roles &= ~role[i].role;
		buf_printf(out, "%s%s", before, role[i].name);
		before = (roles & (roles - 1) & ROLE_ANY) ? ", " : " or ";
	}
}

/* --- the file --- */

static const char *take_roles(char *text, unsigned *roles)
{
	char *name;

	while ((name = strsep(&text, ","))) {
		size_t i = 0;

		while (i < N_ROLE && strcmp(role[i].name, name) != 0)
			i++;
		if (i == N_ROLE)
			return "a role is submit, participant, viewer, operator or admin";
		*roles |= role[i].role;
	}
	return NULL;
}

static int hex_digit(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *at = c ? strchr(digits, tolower((unsigned char)c)) : NULL;

	return at ? (int)(at - digits) : -1;
}

static const char *take_hash(const char *text, uint8_t hash[DIGEST_LEN])
{
	static const char fault[] = "the hash is 64 hex digits, as `assentd hash-token` prints";

	if (strlen(text) != HEX_LEN)
		return fault;
	for (size_t i = 0; i < DIGEST_LEN; i++) {
		int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return fault;
		hash[i] = (uint8_t)(high * 16 + low);
	}
	return NULL;
}

static const char *take_name(const char *text, char out[AUTH_NAME_MAX + 1])
{
	size_t len = strlen(text);

	if (len == 0 || len > AUTH_NAME_MAX || strspn(text, NAME_CHARS) != len)
		return "a name has 1 to 63 letters, digits or . _ @ -";
	memcpy(out, text, len + 1);
	return NULL;
}

static char *next_word(char **rest)
{
	char *word;

	while ((word = strsep(rest, BLANK)) && !*word)
		;
	return word;
}

/* NULL, or what is wrong with the line. */
static const char *read_line(char *line, struct entry *e)
{
	const char *name = next_word(&line);
	char *roles = next_word(&line);
	char *word = next_word(&line);
	const char *fault;

	if (!roles || !word)
		return "a line is: name role[,role] [namespace=NAME] hash";
	if ((fault = take_name(name, e->caller.name)) ||
	    (fault = take_roles(roles, &e->caller.roles)))
		return fault;
	if (strncmp(word, "namespace=", 10) == 0) {
		if ((fault = take_name(word + 10, e->caller.space)))
			return fault;
		word = next_word(&line);
	}
	if (!word || next_word(&line))
		return "a line is: name role[,role] [namespace=NAME] hash";
	return take_hash(word, e->hash);
}

static const char *add_entry(struct table *t, const struct entry *e)
{
	if (t->n == ENTRY_MAX)
		return "there are too many tokens";
	for (size_t i = 0; i < t->n; i++) {
		if (digest_equal(t->entry[i].hash, e->hash))
			return "this hash stands above already";
	}
	if (t->n == t->cap) {
		size_t cap = t->cap ? 2 * t->cap : 16;
		struct entry *more = reallocarray(t->entry, cap, sizeof *more);

		if (!more)
			return "out of memory";
		t->entry = more;
		t->cap = cap;
	}
	t->entry[t->n++] = *e;
	return NULL;
}

static int parse(const char *path, char *text, struct table *t, char *why, size_t size)
{
	char *line;

	for (unsigned n = 1; (line = strsep(&text, "\n")); n++) {
		struct entry e = {0};
		const char *fault;

		line += strspn(line, BLANK);
		if (*line == '\0' || *line == '#')
			continue;
		fault = read_line(line, &e);
		if (!fault)
			fault = add_entry(t, &e);
		if (fault) {
			(void)snprintf(why, size, "token_file: %.128s line %u: %s", path, n, fault);
			return ERR_INVALID;
		}
	}
	if (t->n == 0) {
		(void)snprintf(why, size, "token_file: there is no token in %.128s", path);
		return ERR_INVALID;
	}
	return 0;
}

int auth_reload(struct auth *a, char *why, size_t why_size)
{
	struct buf text = BUF_INIT;
	struct table fresh = {0};
	int rc;

	if (!*a->path)
		return 0;
	rc = secret_read("token_file", a->path, &text, why, why_size);
	if (rc == 0)
		rc = parse(a->path, text.data, &fresh, why, why_size);
	secret_release(&text);
	if (rc < 0) {
		free(fresh.entry);
		return rc;
	}
	free(a->table.entry);
	a->table = fresh;
	return 0;
}

int auth_new(const char *path, struct auth **out, char *why, size_t why_size)
{
	struct auth *a = calloc(1, sizeof *a);
	int rc;

	if (!a || !(a->path = strdup(path))) {
		free(a);
		(void)snprintf(why, why_size, "out of memory");
		return ERR_NOMEM;
	}
	rc = auth_reload(a, why, why_size);
	if (rc < 0) {
		auth_free(a);
		return rc;
	}
	*out = a;
	return 0;
}

void auth_free(struct auth *a)
{
	if (!a)
		return;
	free(a->table.entry);
	free(a->path);
	free(a);
}

/* --- a request --- */

/* Every entry is looked at, and the comparison does not stop at a difference. */
static const struct entry *find(const struct table *t, const uint8_t hash[DIGEST_LEN])
{
	const struct entry *found = NULL;

	for (size_t i = 0; i < t->n; i++) {
		if (digest_equal(t->entry[i].hash, hash))
			found = &t->entry[i];
	}
	return found;
}

enum auth_result auth_check(const struct auth *a, const char *authorization,
                            struct auth_caller *caller)
{
	static const struct auth_caller anonymous = {.name = "anonymous", .roles = ROLE_ADMIN};
	uint8_t hash[DIGEST_LEN];
	const struct entry *e;
	const char *token;
	size_t len;

	*caller = anonymous;
	if (!*a->path)
		return AUTH_OK;
	caller->roles = 0;
	if (!authorization)
		return AUTH_NO_TOKEN;
	if (strncasecmp(authorization, "Bearer ", 7) != 0)
		return AUTH_BAD_TOKEN;
	token = authorization + 7 + strspn(authorization + 7, " ");
	len = strlen(token);
	if (len < AUTH_TOKEN_MIN || len > AUTH_TOKEN_MAX)
		return AUTH_BAD_TOKEN;
	digest_sha256(token, len, hash);
	e = find(&a->table, hash);
	if (!e)
		return AUTH_BAD_TOKEN;
	*caller = e->caller;
	return AUTH_OK;
}

/* --- hash-token --- */

int auth_hash_token(void)
{
	char token[AUTH_TOKEN_MAX + 2];
	uint8_t hash[DIGEST_LEN];
	size_t len = fread(token, 1, sizeof token, stdin);

	/* A shell's echo ends with a line break, which is not part of the token. */
	if (len > 0 && token[len - 1] == '\n')
		len--;
	if (len > 0 && token[len - 1] == '\r')
		len--;
	for (size_t i = 0; i < len; i++) {
		if (token[i] <= ' ' || token[i] > '~') {
			(void)fprintf(stderr, "assentd: a token has printable ASCII characters "
			                      "and no blanks\n");
			return EXIT_FAILURE;
		}
	}
	if (len < AUTH_TOKEN_MIN || len > AUTH_TOKEN_MAX) {
		(void)fprintf(stderr,
		              "assentd: a token has %d to %d characters; make one with: "
		              "openssl rand -hex 32\n",
		              AUTH_TOKEN_MIN, AUTH_TOKEN_MAX);
		return EXIT_FAILURE;
	}
	digest_sha256(token, len, hash);
	digest_wipe(token, sizeof token);
	for (size_t i = 0; i < DIGEST_LEN; i++)
		(void)printf("%02x", hash[i]);
	(void)printf("\n");
	return EXIT_SUCCESS;
}
