/*
 * main.c - assent: finds the command that the first words name.
 */
#include <stdio.h>
#include <string.h>

#include "api/cli/cli.h"

#ifndef ASSENT_VERSION
#define ASSENT_VERSION "0.1.0"
#endif

static const struct command {
	const char *word[2]; /* the second may be missing */
	const char *what;
	int (*run)(int argc, char **argv);
} commands[] = {
    {{"participant", "check"},
     "whether a participant keeps the rules of the contract",
     cli_participant_check},
};

static void print_commands(FILE *to)
{
	(void)fprintf(to, "usage: assent COMMAND [OPTION]...\n\n");
	for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
		(void)fprintf(to, "  assent %s %-12s %s\n", commands[i].word[0],
		              commands[i].word[1] ? commands[i].word[1] : "", commands[i].what);
	(void)fprintf(to, "\nassent COMMAND --help says more, and assent --version which it is.\n");
}

/* How many words of it are said; 0 when it is another command. */
static int n_words(const struct command *c, int argc, char **argv)
{
	int n = c->word[1] ? 2 : 1;

	for (int i = 0; i < n; i++) {
		if (i + 1 >= argc || strcmp(argv[i + 1], c->word[i]) != 0)
			return 0;
	}
	return n;
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "--version") == 0)
		return printf("assent " ASSENT_VERSION "\n") < 0 ? CLI_FAILED : CLI_OK;
	if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0)) {
		print_commands(stdout);
		return CLI_OK;
	}
	for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
		int n = n_words(&commands[i], argc, argv);

		if (n)
			return commands[i].run(argc - n, argv + n);
	}
	if (argc > 1)
		(void)fprintf(stderr, "assent: there is no command \"%s%s%s\"\n\n", argv[1],
		              argc > 2 ? " " : "", argc > 2 ? argv[2] : "");
	print_commands(stderr);
	return CLI_USAGE;
}
