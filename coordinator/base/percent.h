/*
 * percent.h - decoding of %XX escapes in paths and queries.
 */
#ifndef BASE_PERCENT_H
#define BASE_PERCENT_H

#include <stddef.h>

/* In place; returns the new length. An escape that is not two hex digits, or is %00, stays as
 * it stands: the result never contains a NUL, and '%' is in none of our identifiers. */
size_t percent_decode(char *s);

#endif /* BASE_PERCENT_H */
