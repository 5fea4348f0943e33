/*
 * fuzz_config.c - everything that an operator writes: a configuration file, and behind lines that
 * say %env, %flags, %tokens and %secrets the environment, the command line (an argument a line), a
 * token_file and a file of secrets.
 *
 * What is refused comes with words. What is accepted reads the same when it is written into a file
 * of its own, and lets in nobody whose hash does not stand in the token_file.
 */
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "fuzz.h"
#include "io/digest.h"
#include "node/auth.h"
#include "node/config.h"
#include "node/secret.h"

#define WORD_MAX 32

enum section {
	FILE_TEXT,
	ENVIRONMENT,
	FLAGS,
	TOKENS,
	SECRETS,
	N_SECTION
};

struct input {
	char *text;
	char *section[N_SECTION]; /* "" when absent */
};

/* A file in memory that only we can read, by its path. */
struct note {
	int fd;
	char path[48];
};

static void note_open(struct note *n, const char *text)
{
	n->fd = memfd_create("note", MFD_CLOEXEC);
	must(n->fd >= 0 && fchmod(n->fd, 0600) == 0);
	must(write(n->fd, text, strlen(text)) == (ssize_t)strlen(text));
	(void)snprintf(n->path, sizeof n->path, "/proc/self/fd/%d", n->fd);
}

static void split(struct input *in)
{
	static const char *const mark[N_SECTION] = {"", "\n%env\n", "\n%flags\n", "\n%tokens\n",
	                                            "\n%secrets\n"};
	static char none[] = "";

	in->section[FILE_TEXT] = in->text;
	for (int i = ENVIRONMENT; i < N_SECTION; i++) {
		char *at = strstr(in->text, mark[i]);

		in->section[i] = at ? at + strlen(mark[i]) : none;
	}
	for (int i = ENVIRONMENT; i < N_SECTION; i++) {
		if (in->section[i] != none)
			*(in->section[i] - strlen(mark[i]) + 1) = '\0';
	}
}

/* Lines to words; those that would have us read other files of this machine are left out. */
static int words(char *text, char *word[], int n)
{
	char *line;

	while ((line = strsep(&text, "\n")) && n < WORD_MAX) {
		if (strncmp(line, "--config", 8) != 0 && strncmp(line, "ASSENT_CONFIG", 13) != 0 &&
		    *line)
			word[n++] = line;
	}
	word[n] = NULL;
	return n;
}

/* --- what was accepted, written down again --- */

struct copy {
	struct buf text;
	bool plain; /* every value can stand in a file as it is */
};

static void write_down(void *ctx, const char *key, const char *value, const char *source)
{
	struct copy *c = ctx;
	size_t len = strlen(value);

	must(*source && *key);
	for (size_t i = 0; i < len; i++)
		c->plain &= (unsigned char)value[i] > ' ' || (value[i] == ' ' && i && i < len - 1);
	c->plain &= !strstr(value, "***") && len < 4000;
	if (*value && strcmp(key, "config") != 0)
		buf_printf(&c->text, "%s = %s\n", key, value);
}

static void same_value(void *ctx, const char *key, const char *value, const char *source)
{
	struct copy *c = ctx;

	(void)source;
	if (*value && strcmp(key, "config") != 0)
		buf_printf(&c->text, "%s = %s\n", key, value);
}

static void read_again(const struct config *c)
{
	static char program[] = "assentd", check[] = "--print-config", option[] = "--config";
	struct copy first = {.plain = true}, second = {.plain = true};
	struct config again;
	enum config_action action;
	struct note note;
	char why[512];
	int rc;

	must(config_each(c, write_down, &first) == 0 && !first.text.failed);
	if (first.plain) {
		note_open(&note, first.text.data ? first.text.data : "");
		environ[0] = NULL;
		rc = config_read(&again, 4, (char *[]){program, option, note.path, check, NULL},
		                 &action, why, sizeof why);
		if (rc)
			(void)fprintf(stderr, "%s\n%s\n", first.text.data, why);
		must(rc == 0);
		must(config_each(&again, same_value, &second) == 0);
		must(first.text.len == second.text.len && first.text.data && second.text.data);
		must(strcmp(first.text.data, second.text.data) == 0);
		config_release(&again);
		(void)close(note.fd);
	}
	buf_release(&first.text);
	buf_release(&second.text);
}

static void try_config(const struct input *in)
{
	static char program[] = "assentd", option[] = "--config";
	char *flag[WORD_MAX + 1] = {program, option}, *variable[WORD_MAX + 1];
	enum config_action action;
	struct config c;
	struct note note;
	char why[512] = "";
	int n, rc;

	note_open(&note, in->section[FILE_TEXT]);
	flag[2] = note.path;
	n = words(in->section[FLAGS], flag, 3);
	(void)words(in->section[ENVIRONMENT], variable, 0);
	environ = variable;
	rc = config_read(&c, n, flag, &action, why, sizeof why);
	must(rc == 0 || (rc == ERR_INVALID && *why));
	must(strlen(why) < sizeof why && !strchr(why, '\n'));
	if (rc == 0 && action != CONFIG_HELP && action != CONFIG_VERSION) {
		must(c.in_flight_max >= 1 && c.connection_max >= 8 && c.retention_ms >= 1000);
		must(c.participant_concurrency >= 2 && c.client_timeout_s >= 1);
		must(log_level_parse(c.log_level) >= 0 && log_format_parse(c.log_format) >= 0);
		must(registry_count(c.registry) <= REGISTRY_MAX);
		for (size_t i = 0; i < registry_count(c.registry); i++) {
			const struct registry_entry *e = registry_at(c.registry, i);

			must(participant_name_valid(e->name, strlen(e->name)));
			must(registry_check_url(c.registry, e->url, strlen(e->url), why,
			                        sizeof why) == 0);
		}
		read_again(&c);
	}
	config_release(&c);
	(void)close(note.fd);
}

/* --- tokens --- */

static bool hash_stands_in(const char *text, const char *token)
{
	char hex[2 * DIGEST_LEN + 1];
	uint8_t hash[DIGEST_LEN];

	digest_sha256(token, strlen(token), hash);
	for (size_t i = 0; i < DIGEST_LEN; i++)
		(void)snprintf(hex + 2 * i, 3, "%02x", hash[i]);
	return strcasestr(text, hex) != NULL;
}

static void try_tokens(const char *text)
{
	static const char *const token[] = {"the first token of two", "the second token of two"};
	struct auth *a;
	struct auth_caller caller;
	struct note note;
	char why[512] = "", header[64];
	int rc;

	note_open(&note, text);
	rc = auth_new(note.path, &a, why, sizeof why);
	must(rc == 0 || (rc == ERR_INVALID && *why));
	for (size_t i = 0; i < 2 && rc == 0; i++) {
		(void)snprintf(header, sizeof header, "Bearer %s", token[i]);
		if (auth_check(a, header, &caller) == AUTH_OK)
			must(hash_stands_in(text, token[i]) && caller.roles != 0 &&
			     !(caller.roles & ~(unsigned)ROLE_ANY) && *caller.name);
	}
	if (rc == 0)
		auth_free(a);
	(void)close(note.fd);
}

static void try_secrets(const char *text)
{
	struct secret_keys *keys;
	struct note note;
	struct buf signature = BUF_INIT;
	char why[512] = "";
	int rc;

	note_open(&note, text);
	rc = secret_keys_load("signing_secret_file", note.path, &keys, why, sizeof why);
	must(rc == 0 || (rc == ERR_INVALID && *why));
	if (rc == 0) {
		secret_sign(keys, "id", "1", "body", 4, &signature);
		must(!signature.failed && strncmp(signature.data, "v1,", 3) == 0);
		must(signature.len == 47 || signature.len == 2 * 47 + 1);
		buf_release(&signature);
		secret_keys_free(keys);
	}
	(void)close(note.fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char **kept = environ;
	struct input in = {.text = fuzz_string(data, size)};

	split(&in);
	try_config(&in);
	environ = kept;
	if (*in.section[TOKENS])
		try_tokens(in.section[TOKENS]);
	if (*in.section[SECRETS])
		try_secrets(in.section[SECRETS]);
	free(in.text);
	return 0;
}
