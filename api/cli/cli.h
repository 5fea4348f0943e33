/*
 * cli.h - `assent`, for people: a table of commands, each a function of its words.
 *
 * A command prints what was asked for to stdout and everything else to stderr, and returns the
 * exit status.
 */
#ifndef API_CLI_CLI_H
#define API_CLI_CLI_H

enum cli_status {
	CLI_OK = 0,
	CLI_FAILED = 1,      /* it was done, and the answer is no */
	CLI_USAGE = 2,       /* what to say instead stands on stderr */
	CLI_UNREACHABLE = 3, /* nobody is there to be asked */
	CLI_INTERRUPTED = 130,
};

/* assent participant check: `argv[0]` is the word "check". */
int cli_participant_check(int argc, char **argv);

#endif /* API_CLI_CLI_H */
