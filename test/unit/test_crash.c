/*
 * test_crash.c - the nth pass of the armed point is a SIGKILL, nothing else is anything.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h must come after those. */
#include <cmocka.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/crash.h"

/* How a process ends that is armed with `spec` and passes one point n times, another one between. */
static int status_of(const char *spec, unsigned n)
{
	char why[128];
	int status = 0;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		if (crash_arm(spec, why, sizeof why) < 0)
			_exit(2);
		for (unsigned i = 0; i < n; i++) {
			crash_point(CRASH_FLUSH_SENT);
			crash_point(CRASH_FLUSH_CONFIRMED);
		}
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void kills_at_the_nth_pass(void **state)
{
	(void)state;
	assert_int_equal(status_of("flush.sent", 0), 0);
	assert_int_equal(status_of("flush.sent", 1), SIGKILL);
	assert_int_equal(status_of("flush.sent:3", 2), 0);
	assert_int_equal(status_of("flush.sent:3", 3), SIGKILL);
	assert_int_equal(status_of("recover.done", 9), 0);
}

static void nothing_happens_unarmed(void **state)
{
	(void)state;
	for (int p = CRASH_NONE; p < CRASH_MAX; p++)
		crash_point((enum crash_point)p == CRASH_NONE ? CRASH_FLUSH_SENT
		                                              : (enum crash_point)p);
}

static void refused(const char *spec, const char *said)
{
	char why[160];

	assert_int_equal(crash_arm(spec, why, sizeof why), ERR_INVALID);
	assert_non_null(strstr(why, said));
	assert_int_equal(crash_armed, CRASH_NONE);
}

static void says_what_is_wrong(void **state)
{
	(void)state;
	refused("flush.snet", "did you mean \"flush.sent\"?");
	refused("nowhere.near", "--list-crash-points");
	refused("", "there is no crash point");
	refused("flush.sent:0", "name:nth");
	refused("flush.sent:", "name:nth");
	refused("flush.sent:-1", "name:nth");
	refused("flush.sent:2x", "name:nth");
}

static void names_are_told_apart(void **state)
{
	(void)state;
	for (int p = CRASH_NONE + 1; p < CRASH_MAX; p++) {
		const char *name = crash_name((enum crash_point)p);

		assert_non_null(strchr(name, '.'));
		assert_null(strchr(name, ' '));
		assert_true(strlen(crash_what((enum crash_point)p)) > 0);
		for (int q = CRASH_NONE + 1; q < p; q++)
			assert_string_not_equal(name, crash_name((enum crash_point)q));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(kills_at_the_nth_pass),
	    cmocka_unit_test(nothing_happens_unarmed),
	    cmocka_unit_test(says_what_is_wrong),
	    cmocka_unit_test(names_are_told_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
