/*
 * loop.h - the one event loop; the only user of libuv.
 *
 * One thread. Callbacks run one at a time, never from inside the call that set them up. A free
 * inside any callback is safe: the memory goes one turn later, because the descriptor may still
 * be in the batch being worked through.
 */
#ifndef IO_LOOP_H
#define IO_LOOP_H

#include <stdint.h>

#include "base/err.h"

struct loop;
struct loop_fd;
struct loop_timer;
struct loop_hook;
struct loop_signal;

#define LOOP_READ  1
#define LOOP_WRITE 2

struct loop *loop_new(void);
/* Runs until loop_stop; all handles must have been freed before loop_free. */
void loop_run(struct loop *l);
void loop_stop(struct loop *l);
void loop_free(struct loop *l);

typedef void loop_fd_fn(void *ctx, int events); /* LOOP_READ | LOOP_WRITE; both on error */
struct loop_fd *loop_fd_new(struct loop *l, int fd, loop_fd_fn *fn, void *ctx) MUSTCHECK;
/* 0 stops watching. */
int loop_fd_watch(struct loop_fd *f, int events) MUSTCHECK;
/* NULL-safe, like the other frees. Does not close the descriptor; it may be closed right after. */
void loop_fd_free(struct loop_fd *f);

typedef void loop_fn(void *ctx);
struct loop_timer *loop_timer_new(struct loop *l, loop_fn *fn, void *ctx) MUSTCHECK;
/* One shot, at monotonic `at_us` (clock_mono_us), rounded up to a millisecond; INT64_MAX stops. */
void loop_timer_set(struct loop_timer *t, int64_t at_us);
void loop_timer_free(struct loop_timer *t);

/* Runs at the end of every turn, after its descriptors and timers, in order of creation: the
 * place for work that wants to be batched over a turn (a flush, waking connections). */
struct loop_hook *loop_hook_new(struct loop *l, loop_fn *fn, void *ctx) MUSTCHECK;
/* Makes sure that another turn follows at once. */
void loop_hook_kick(struct loop_hook *h);
void loop_hook_free(struct loop_hook *h);

struct loop_signal *loop_signal_new(struct loop *l, int signo, loop_fn *fn, void *ctx) MUSTCHECK;
void loop_signal_free(struct loop_signal *s);

#endif /* IO_LOOP_H */
