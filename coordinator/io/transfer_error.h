/*
 * transfer_error.h - what curl says of an exchange that failed, in our words: an enum err, and a
 * sentence that tells an operator where to look. Only for transfer.c.
 */
#ifndef IO_TRANSFER_ERROR_H
#define IO_TRANSFER_ERROR_H

#include <curl/curl.h>

#include "base/err.h"

/* Ours, beside curl's: more head than is read. */
#define TRANSFER_HEAD_TOO_LONG CURLE_FILESIZE_EXCEEDED

/* `code` is not CURLE_OK. *why is static. */
int transfer_error(CURL *easy, CURLcode code, const char **why) MUSTCHECK;
/* How far one has got that is given up because it takes too long; static. */
const char *transfer_timeout(CURL *easy);

#endif /* IO_TRANSFER_ERROR_H */
