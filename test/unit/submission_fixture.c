/*
 * submission_fixture.c - decoding submissions from texts made of a few pieces.
 */
#include "submission_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

int submission_setup(void **state)
{
	struct submission_fixture *f = calloc(1, sizeof *f);
	char why[160];

	assert_non_null(f);
	assert_int_equal(registry_new(&f->registry), 0);
	assert_int_equal(registry_allow(f->registry, "http://shop:*", why, sizeof why), 0);
	arena_init(&f->arena, 0);
	*state = f;
	return 0;
}

int submission_teardown(void **state)
{
	struct submission_fixture *f = *state;

	arena_release(&f->arena);
	registry_free(f->registry);
	free(f->text);
	free(f);
	return 0;
}

/* From memory exactly as long as the text, so that a sanitizer sees a read beyond it. */
enum problem submission_bytes(struct submission_fixture *f, const char *text, size_t len)
{
	arena_release(&f->arena);
	free(f->text);
	f->text = malloc(len > 0 ? len : 1);
	assert_non_null(f->text);
	memcpy(f->text, text, len);
	memset(&f->c, 0, sizeof f->c);
	return submission_decode(f->text, len, f->registry, &f->arena, &f->s, &f->c);
}

enum problem submission_text(struct submission_fixture *f, const char *text)
{
	enum problem p = submission_bytes(f, text, strlen(text));

	assert_int_equal(f->c.problem, p);
	if (p)
		assert_true(*f->c.detail != '\0');
	return p;
}

void submission_accepted(struct submission_fixture *f, const char *text)
{
	if (submission_text(f, text) != PROBLEM_NONE)
		fail_msg("%s\nrefused: %s %s: %s", text, problem_info(f->c.problem)->code,
		         f->c.pointer, f->c.detail);
}

void submission_refused(struct submission_fixture *f, const char *text, enum problem p,
                        const char *pointer)
{
	enum problem got = submission_text(f, text);

	if (got != p || strcmp(f->c.pointer, pointer) != 0)
		fail_msg("%s\n%s at \"%s\" instead of %s at \"%s\"; %s", text,
		         problem_info(got)->code, f->c.pointer, problem_info(p)->code, pointer,
		         f->c.detail);
}
