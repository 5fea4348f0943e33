/*
 * notify.h - tells the service manager how the daemon is doing (sd_notify's protocol).
 */
#ifndef IO_NOTIFY_H
#define IO_NOTIFY_H

/* One datagram to $NOTIFY_SOCKET, such as "READY=1"; lines are separated by a line feed. Does
 * nothing when nobody waits for it, and does not block. */
void notify_send(const char *state);

#endif /* IO_NOTIFY_H */
