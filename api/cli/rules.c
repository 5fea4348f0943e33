#include "api/cli/rules.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

static const struct mode modes[] = {
    {"2pc",
     MODE_2PC,
     {[ROLE_FIRST] = "prepare", [ROLE_FINISH] = "commit", [ROLE_UNDO] = "rollback"}},
    {"tcc", MODE_TCC, {[ROLE_FIRST] = "try", [ROLE_FINISH] = "confirm", [ROLE_UNDO] = "cancel"}},
    {"saga", MODE_SAGA, {[ROLE_FIRST] = "action", [ROLE_UNDO] = "compensate"}},
    {"3pc",
     MODE_3PC,
     {[ROLE_ASK] = "can_commit",
      [ROLE_FIRST] = "pre_commit",
      [ROLE_FINISH] = "do_commit",
      [ROLE_UNDO] = "abort",
      [ROLE_STATUS] = "status"}},
};

#define N_MODE (sizeof modes / sizeof modes[0])

const struct mode *mode_at(size_t i)
{
	return i < N_MODE ? &modes[i] : NULL;
}

const struct mode *mode_find(const char *name)
{
	for (size_t i = 0; i < N_MODE; i++) {
		if (strcmp(modes[i].name, name) == 0)
			return &modes[i];
	}
	return NULL;
}

const char *mode_names(void)
{
	return "2pc, tcc, saga or 3pc";
}

/* NULL when it is none of them. */
static const char *word(const struct mode *mode, const char *text, size_t len)
{
	static const struct {
		const char *name;
		enum role role;
	} words[] = {{"first", ROLE_FIRST}, {"finish", ROLE_FINISH}, {"undo", ROLE_UNDO}};

	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
		if (strlen(words[i].name) == len && strncmp(words[i].name, text, len) == 0)
			return mode->op[words[i].role];
	}
	return NULL;
}

/* "a abort" is no English. */
static bool lacks_n(const struct buf *b, const char *own)
{
	return strchr("aeiou", *own) && b->len >= 2 && memcmp(b->data + b->len - 2, "a ", 2) == 0 &&
	       (b->len == 2 || b->data[b->len - 3] == ' ');
}

/* The mode's own words in the place of {first}, {finish} and {undo}. */
static char *expand(const char *prefix, const char *text, const struct mode *mode)
{
	struct buf b = BUF_INIT;
	const char *end, *own;
	char *made;

	buf_puts(&b, prefix);
	while (*text) {
		end = *text == '{' ? strchr(text, '}') : NULL;
		own = end ? word(mode, text + 1, (size_t)(end - text - 1)) : NULL;
		if (own) {
			if (lacks_n(&b, own)) {
				b.len--;
				buf_puts(&b, "n ");
			}
			buf_puts(&b, own);
			text = end + 1;
		} else {
			buf_putc(&b, *text++);
		}
	}
	made = buf_detach(&b, NULL);
	if (!made)
		abort();
	return made;
}

/* Whether the last thing that happens to one of its branches cannot be undone. */
static bool commits(const struct rule_def *def, const struct mode *mode)
{
	bool left = false;

	for (const struct step *s = def->step; s->role; s++) {
		bool yes = s->expect == EXPECT_DONE || s->expect == EXPECT_YES ||
		           s->expect == EXPECT_SAME;

		if (s->role == ROLE_FINISH && mode->op[ROLE_FINISH] && yes)
			left = true;
		if (s->role == ROLE_UNDO && yes)
			left = false;
	}
	return left;
}

static bool wants_yes(const struct rule_def *def)
{
	for (const struct step *s = def->step; s->role; s++) {
		if (s->role == ROLE_FIRST && (s->expect == EXPECT_YES || s->expect == EXPECT_SAME))
			return true;
	}
	return false;
}

static void make(const struct rule_def *def, const struct mode *mode, struct rule *rule)
{
	bool plain = def->name[0] == '.';
	char prefix[16];

	(void)snprintf(prefix, sizeof prefix, "%s.", mode->name);
	rule->def = def;
	rule->mode = mode;
	rule->name = expand(plain ? "" : prefix, def->name + plain, mode);
	rule->what = expand("", def->what, mode);
	rule->why = expand("", def->why, mode);
	rule->commits = commits(def, mode);
	rule->wants_yes = wants_yes(def);
}

static size_t make_all(const struct rule_def *def, const struct mode *mode, bool is_first,
                       struct rule *out, size_t n)
{
	for (; def->name; def++) {
		bool once = def->name[0] == '.';

		if ((def->modes & mode->bit) && (!once || is_first) && n < RULES_MAX)
			make(def, mode, &out[n++]);
	}
	return n;
}

size_t rules_make(unsigned wanted, struct rule *out)
{
	size_t n = 0;
	unsigned first = wanted & (~wanted + 1);

	for (size_t i = 0; i < N_MODE; i++) {
		if (!(wanted & modes[i].bit))
			continue;
		n = make_all(rule_defs, &modes[i], modes[i].bit == first, out, n);
		n = make_all(rule_defs_three_phase, &modes[i], false, out, n);
	}
	return n;
}

void rules_release(struct rule *rule, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(rule[i].name);
		free(rule[i].what);
		free(rule[i].why);
	}
}
