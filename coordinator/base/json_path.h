/*
 * json_path.h - finds a value by its path in JSON text, without decoding it.
 *
 * Pure: no allocation, no state.
 */
#ifndef BASE_JSON_PATH_H
#define BASE_JSON_PATH_H

#include "base/json_scan.h"

/* `path`: names of members and numbers of elements, from 0, with dots between them; empty for the
 * whole text. A name is compared as it stands in the text: one with escapes is not found. Of two
 * members with one name the first is found. A dot at the end is nothing. The text has passed json_scan_check. ERR_NOTFOUND. */
int json_path_find(const char *text, size_t len, const char *path, size_t path_len,
                   struct json_span *out) MUSTCHECK;

#endif /* BASE_JSON_PATH_H */
