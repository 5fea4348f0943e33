/*
 * utf8.h - what is valid UTF-8 (RFC 3629).
 */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stddef.h>

/* Bytes of the sequence at the start of `s`, which has at least one; 0 when it is none: no
 * overlong forms, no surrogates, nothing above U+10FFFF. */
size_t utf8_len(const unsigned char *s, size_t len);

#endif /* BASE_UTF8_H */
