/*
 * near.h - "did you mean": the candidate nearest to a mistyped word.
 */
#ifndef BASE_NEAR_H
#define BASE_NEAR_H

/* `candidates` ends with NULL. NULL when nothing is near enough (more than a third of the word
 * wrong). Words longer than 64 bytes match nothing. */
const char *near_match(const char *word, const char *const *candidates);

#endif /* BASE_NEAR_H */
