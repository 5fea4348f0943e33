/*
 * submission_fixture.h - decoding submissions from texts made of a few pieces.
 */
#ifndef TEST_SUBMISSION_FIXTURE_H
#define TEST_SUBMISSION_FIXTURE_H

#include <stddef.h>

#include "node/submission.h"

#define URL  "\"http://shop:8080/2pc\""
#define HEAD "{\"mode\":\"2pc\",\"branches\":"
#define ONE  "{\"id\":\"a\",\"participant\":" URL "}"
/* A whole submission with these members in its only branch, or beside the branches. */
#define BRANCH(members) HEAD "[{\"id\":\"a\",\"participant\":" URL "," members "}]}"
#define TOP(members)    HEAD "[" ONE "]," members "}"

struct submission_fixture {
	struct registry *registry;
	struct arena arena;
	struct submission s;
	struct complaint c;
	char *text;
};

/* cmocka's; only addresses of http://shop are allowed. */
int submission_setup(void **state);
int submission_teardown(void **state);

enum problem submission_bytes(struct submission_fixture *f, const char *text, size_t len);
enum problem submission_text(struct submission_fixture *f, const char *text);
/* They fail the test when the text is refused, or not in this way. */
void submission_accepted(struct submission_fixture *f, const char *text);
void submission_refused(struct submission_fixture *f, const char *text, enum problem p,
                        const char *pointer);

#endif /* TEST_SUBMISSION_FIXTURE_H */
