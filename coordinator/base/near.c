#include "base/near.h"

#include <stddef.h>
#include <string.h>

#define WORD_MAX 64

static size_t min(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Edits (insert, delete, replace, swap of neighbours) between two words; WORD_MAX + 1 when a word
 * is too long. */
static size_t distance(const char *a, const char *b)
{
	size_t len_a = strlen(a);
	size_t len_b = strlen(b);
	size_t row[3][WORD_MAX + 1]; /* row i is row[i % 3] */

	if (len_a > WORD_MAX || len_b > WORD_MAX)
		return WORD_MAX + 1;
	for (size_t j = 0; j <= len_b; j++)
		row[0][j] = j;
	for (size_t i = 1; i <= len_a; i++) {
		size_t *cur = row[i % 3];
		const size_t *prev = row[(i - 1) % 3];

		cur[0] = i;
		for (size_t j = 1; j <= len_b; j++) {
			cur[j] = min(prev[j] + 1, cur[j - 1] + 1);
			cur[j] = min(cur[j], prev[j - 1] + (a[i - 1] != b[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				cur[j] = min(cur[j], row[(i - 2) % 3][j - 2] + 1);
		}
	}
	return row[len_a % 3][len_b];
}

const char *near_match(const char *word, const char *const *candidates)
{
	const char *best = NULL;
	size_t best_distance = 0;
	size_t len = strlen(word);

	if (len > WORD_MAX)
		return NULL;
	for (; *candidates; candidates++) {
		size_t d = distance(word, *candidates);

		if (d * 3 <= len && (!best || d < best_distance)) {
			best = *candidates;
			best_distance = d;
		}
	}
	return best;
}
