/*
 * notify.h - tells the service manager how the daemon is doing (sd_notify's protocol).
 */
#ifndef IO_NOTIFY_H
#define IO_NOTIFY_H

/* Remembers $NOTIFY_SOCKET and takes it out of the environment: a PostgreSQL that is started as a
 * child would report its own readiness there. */
void notify_open(void);
/* One datagram to that socket, such as "READY=1"; lines are separated by a line feed. Does
 * nothing when nobody waits for it, and does not block. */
void notify_send(const char *state);

#endif /* IO_NOTIFY_H */
