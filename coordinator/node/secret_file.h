/*
 * secret_file.h - reads a secret from a file that nobody else can read.
 */
#ifndef NODE_SECRET_FILE_H
#define NODE_SECRET_FILE_H

#include <stddef.h>

#include "base/err.h"

#define SECRET_MIN 16
#define SECRET_MAX 512

/* The file's one line, without blanks at its ends; caller frees. The file belongs to this user and
 * is closed to everybody else, or to root and closed to all but its group. ERR_INVALID with a
 * sentence in `why` that has none of its content. */
int secret_file_read(const char *path, char **out, char *why, size_t size) MUSTCHECK;

#endif /* NODE_SECRET_FILE_H */
