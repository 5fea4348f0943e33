#include <getopt.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/cli/check.h"
#include "api/cli/cli.h"
#include "base/near.h"
#include "node/address.h"

#define TIMEOUT_S     5
#define TIMEOUT_S_MAX 300

enum option_key {
	KEY_MODE = 256,
	KEY_PAYLOAD,
	KEY_REFUSED_PAYLOAD,
	KEY_SECRET_FILE,
	KEY_CA_FILE,
	KEY_TIMEOUT,
	KEY_RESTART,
	KEY_RESTART_BY_HAND,
	KEY_PROBE,
	KEY_RULE,
	KEY_LIST_RULES,
	KEY_DRY_RUN,
	KEY_NO_COMMIT,
	KEY_YES,
	KEY_HELP,
};

static const struct option names[] = {
    {"mode", required_argument, NULL, KEY_MODE},
    {"payload", required_argument, NULL, KEY_PAYLOAD},
    {"refused-payload", required_argument, NULL, KEY_REFUSED_PAYLOAD},
    {"secret-file", required_argument, NULL, KEY_SECRET_FILE},
    {"ca-file", required_argument, NULL, KEY_CA_FILE},
    {"timeout", required_argument, NULL, KEY_TIMEOUT},
    {"restart", required_argument, NULL, KEY_RESTART},
    {"restart-by-hand", no_argument, NULL, KEY_RESTART_BY_HAND},
    {"probe", required_argument, NULL, KEY_PROBE},
    {"rule", required_argument, NULL, KEY_RULE},
    {"list-rules", no_argument, NULL, KEY_LIST_RULES},
    {"dry-run", no_argument, NULL, KEY_DRY_RUN},
    {"no-commit", no_argument, NULL, KEY_NO_COMMIT},
    {"yes", no_argument, NULL, KEY_YES},
    {"output", required_argument, NULL, 'o'},
    {"help", no_argument, NULL, KEY_HELP},
    {0}};

void options_print_help(void)
{
	(void)printf(
	    "usage: assent participant check ADDRESS --payload JSON [OPTION]...\n"
	    "\n"
	    "Calls a participant as the coordinator does, and as it does when things go wrong, and "
	    "says\n"
	    "which rules of the contract it keeps. It makes real branches: use a participant whose "
	    "data\n"
	    "may change. What it has prepared is rolled back in the end; some rules commit.\n"
	    "\n"
	    "  ADDRESS                   what a coordinator is given, such as "
	    "http://127.0.0.1:7481/stock\n"
	    "  --payload JSON            of a branch that succeeds; {{unique}} in it becomes "
	    "another word\n"
	    "                            for each branch\n"
	    "  --refused-payload JSON    of a branch that the business refuses; who does not gets "
	    "it\n"
	    "                            committed, also with --no-commit\n"
	    "  --mode MODE               2pc, tcc, saga or 3pc; may be repeated (those that it "
	    "has)\n"
	    "  --secret-file FILE        calls are signed with this secret\n"
	    "  --restart COMMAND         restarts the participant, and returns when the old "
	    "process has\n"
	    "                            ended (the new one may still be starting)\n"
	    "  --restart-by-hand         asks you to restart it\n"
	    "  --probe COMMAND           prints something of the business's state (such as what is "
	    "in\n"
	    "                            stock): it must be the same again when all is undone\n"
	    "  --no-commit               leave out the rules that commit something\n"
	    "  --rule NAME               only this one, or those of a pattern ('2pc.*'); may be "
	    "repeated\n"
	    "  --timeout SECONDS         what a call is told that it has (%d)\n"
	    "  --ca-file FILE            whom to believe under https\n"
	    "  --yes                     do not ask before calling another machine\n"
	    "  --dry-run                 only print the calls\n"
	    "  --list-rules              only print the rules, and why they are\n"
	    "  -o json                   for programs; otherwise -o text\n"
	    "\n"
	    "The exit status is 0 when every rule passed or was skipped, 1 when one failed, 2 when "
	    "the\n"
	    "options are wrong, 3 when no participant is reached and 130 when it was "
	    "interrupted.\n",
	    TIMEOUT_S);
}

static int __attribute__((format(printf, 1, 2))) complain(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)fprintf(stderr, "assent: ");
	(void)vfprintf(stderr, format, args);
	(void)fprintf(stderr, "\nassent participant check --help says more.\n");
	va_end(args);
	return CLI_USAGE;
}

static int complain_of_option(const char *word)
{
	const char *candidates[sizeof names / sizeof names[0]] = {0};
	const char *near;

	for (size_t i = 0; names[i].name; i++)
		candidates[i] = names[i].name;
	near = strncmp(word, "--", 2) == 0 ? near_match(word + 2, candidates) : NULL;
	if (near)
		return complain("%s is no option, or lacks its value; did you mean --%s?", word,
		                near);
	return complain("%s is no option, or lacks its value", word);
}

static int read_mode(struct options *o, const char *value)
{
	const struct mode *mode = mode_find(value);

	if (!mode)
		return complain("--mode is %s, and not %s", mode_names(), value);
	o->modes |= mode->bit;
	return 0;
}

static int read_timeout(struct options *o, const char *value)
{
	char *end;
	double seconds = strtod(value, &end);

	if (*end || end == value || !(seconds >= 0.1 && seconds <= TIMEOUT_S_MAX))
		return complain("--timeout is a number of seconds from 0.1 to 300, and not %s",
		                value);
	o->timeout_ms = (int)(seconds * 1000);
	return 0;
}

static int read_payload(const char *name, const char *value, const char **out)
{
	json_error_t error;
	json_t *json = json_loads(value, JSON_DECODE_ANY, &error);

	if (!json)
		return complain("%s must be JSON, such as '{\"sku\":\"tea\",\"n\":1}': %s", name,
		                error.text);
	json_decref(json);
	*out = value;
	return 0;
}

static int read_format(struct options *o, const char *value)
{
	o->json = strcmp(value, "json") == 0;
	return o->json || strcmp(value, "text") == 0
	           ? 0
	           : complain("-o is text or json, and not %s", value);
}

static int read_rule(struct options *o, const char *value)
{
	if (o->n_rule == OPTION_RULES_MAX)
		return complain("--rule: %s is one too many; use a pattern such as '2pc.*'%s",
		                value, "");
	o->rule[o->n_rule++] = value;
	return 0;
}

static bool set_flag(struct options *o, int key)
{
	bool *flag = key == KEY_RESTART_BY_HAND ? &o->by_hand
	             : key == KEY_LIST_RULES    ? &o->list
	             : key == KEY_DRY_RUN       ? &o->dry
	             : key == KEY_NO_COMMIT     ? &o->no_commit
	             : key == KEY_YES           ? &o->sure
	             : key == KEY_HELP          ? &o->help
	                                        : NULL;

	if (flag)
		*flag = true;
	return flag != NULL;
}

static int set_option(struct options *o, int key, const char *value)
{
	const char **text = key == KEY_RESTART       ? &o->restart
	                    : key == KEY_PROBE       ? &o->probe
	                    : key == KEY_SECRET_FILE ? &o->secret_file
	                    : key == KEY_CA_FILE     ? &o->ca_file
	                                             : NULL;

	if (set_flag(o, key))
		return 0;
	if (text) {
		*text = value;
		return 0;
	}
	switch (key) {
	case KEY_MODE:
		return read_mode(o, value);
	case KEY_PAYLOAD:
		return read_payload("--payload", value, &o->payload);
	case KEY_REFUSED_PAYLOAD:
		return read_payload("--refused-payload", value, &o->refused_payload);
	case KEY_TIMEOUT:
		return read_timeout(o, value);
	case KEY_RULE:
		return read_rule(o, value);
	default:
		return read_format(o, value);
	}
}

static int check_address(struct options *o, char **words, int n)
{
	static char address[ADDRESS_MAX + 1];
	char why[256];
	size_t len;

	if (n == 0)
		return complain("say which participant, by the address that the coordinator is "
		                "given: assent participant check http://127.0.0.1:7481/stock");
	if (n > 1)
		return complain("one participant at a time: %s and %s are two words", words[0],
		                words[1]);
	len = strlen(words[0]);
	while (len && words[0][len - 1] == '/')
		len--;
	if (len > ADDRESS_MAX || address_parse(words[0], len, why, sizeof why))
		return complain("%s is no address of a participant: %s", words[0],
		                len > ADDRESS_MAX ? "too long" : why);
	(void)snprintf(address, sizeof address, "%.*s", (int)len, words[0]);
	o->address = address;
	return 0;
}

int options_read(struct options *o, int argc, char **argv)
{
	int key, rc = 0;

	memset(o, 0, sizeof *o);
	o->timeout_ms = TIMEOUT_S * 1000;
	opterr = 0;
	while (!rc && (key = getopt_long(argc, argv, "o:", names, NULL)) != -1) {
		if (key == '?' || key == ':')
			return complain_of_option(argv[optind - 1]);
		rc = set_option(o, key, optarg);
	}
	if (rc || o->help || o->list)
		return rc;
	rc = check_address(o, argv + optind, argc - optind);
	if (!rc && !o->payload)
		rc = complain("say a payload for which a branch succeeds: --payload "
		              "'{\"sku\":\"tea\",\"n\":1}'");
	if (!rc && o->by_hand && o->restart)
		rc = complain("either --restart or --restart-by-hand, not both");
	if (!rc && o->dry && o->json)
		rc = complain("--dry-run has no -o json");
	return rc;
}
