/*
 * listen.h - a listening TCP socket, with an error that says why there is none.
 */
#ifndef IO_LISTEN_H
#define IO_LISTEN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* `host` is a numeric IPv4 or IPv6 address, the latter with or without brackets; port 0 picks a
 * free one. The caller owns *fd (close-on-exec, non-blocking). ERR_INVALID for a bad address,
 * ERR_EXISTS when somebody listens there, ERR_IO otherwise. */
int listen_open(const char *host, uint16_t port, int *fd, uint16_t *bound, bool *ipv6) MUSTCHECK;

#endif /* IO_LISTEN_H */
