/*
 * main.c - assentd: reads the options, starts the parts in order, stops them in the other order.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "api/api.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "io/notify.h"
#include "node/auth.h"
#include "node/dev_pg.h"
#include "node/driver.h"
#include "node/migrate.h"
#include "node/node.h"

#ifndef ASSENT_VERSION
#define ASSENT_VERSION "0.1.0"
#endif

#define GRACE_US INT64_C(3000000)
#define TEND_US  INT64_C(200000)

struct daemon {
	struct config config;
	struct loop *loop;
	struct node node;
	struct api *api;
	struct dev_pg *dev;
	struct timer tend;
	struct timer grace;
	struct loop_signal *sigterm;
	struct loop_signal *sigint;
	struct loop_signal *sighup;
	int argc;
	char **argv;
	struct loop_hook *hook;
	struct journal_waiter flushed;
	bool announced;
	bool leaving; /* the last flush was asked for */
};

static void announce(struct daemon *d)
{
	bool v6 = strchr(d->config.listen_host, ':') != NULL;

	d->announced = true;
	(void)printf("ready http%s://%s%s%s:%u\n", *d->config.tls_key ? "s" : "", v6 ? "[" : "",
	             d->config.listen_host, v6 ? "]" : "", (unsigned)api_port(d->api));
	(void)fflush(stdout);
	notify_send("READY=1\nSTATUS=serving");
}

static void on_flushed(void *ctx, int err)
{
	struct daemon *d = ctx;

	/* Lazy records that were lost are made again from what is durable. */
	(void)err;
	crash_point(CRASH_DRAIN_FLUSHED);
	loop_stop(d->loop);
}

/* Nothing more is expected: answer who still waits, write what is lazy, go. */
static void leave(struct daemon *d)
{
	d->leaving = true;
	driver_answer_waiters(&d->node);
	crash_point(CRASH_DRAIN_BEFORE_LAST_FLUSH);
	if (!node_ready(&d->node)) {
		loop_stop(d->loop);
		return;
	}
	d->flushed.fn = on_flushed;
	d->flushed.ctx = d;
	journal_sync(d->node.journal, &d->flushed);
}

static void on_turn(void *ctx)
{
	struct daemon *d = ctx;

	if (!d->announced && node_ready(&d->node) && pg_up(d->node.reader))
		announce(d);
	if (d->node.draining && !d->leaving && d->node.txns.n == 0 && api_idle(d->api))
		leave(d);
}

static void on_grace(void *ctx, int64_t now_us)
{
	struct daemon *d = ctx;

	(void)now_us;
	if (d->leaving) {
		loop_stop(d->loop);
		return;
	}
	log_info(NULL, "leaving with %zu transactions unfinished; they go on where the shards go",
	         d->node.txns.n);
	leave(d);
	timer_set(&d->node.timers, &d->grace, clock_mono_us() + GRACE_US);
}

/* Stop taking work; what is under way has GRACE_US to end. A second signal ends it at once. */
static void on_stop_signal(void *ctx)
{
	struct daemon *d = ctx;

	if (d->node.draining) {
		loop_stop(d->loop);
		return;
	}
	log_info(NULL, "stopping");
	notify_send("STOPPING=1\nSTATUS=stopping");
	d->node.draining = true;
	api_quiesce(d->api);
	crash_point(CRASH_DRAIN_BEGUN);
	timer_set(&d->node.timers, &d->grace, clock_mono_us() + GRACE_US);
	loop_hook_kick(d->hook);
}

static void set_up_log(const struct config *c)
{
	log_set_level((enum log_level)log_level_parse(c->log_level));
	log_set_format((enum log_format)log_format_parse(c->log_format));
}

static void reload(struct daemon *d)
{
	struct config next;
	enum config_action action;
	char why[512];
	unsigned n;

	if (config_read(&next, d->argc, d->argv, &action, why, sizeof why) < 0 ||
	    auth_reload(d->config.auth, why, sizeof why) < 0) {
		log_error(NULL, "reload: nothing is changed: %s", why);
	} else {
		n = config_apply(&d->config, &next);
		set_up_log(&d->config);
		crash_point(CRASH_RELOAD_APPLIED);
		log_info(NULL, "reload: the configuration was read again, %u changes", n);
	}
	config_release(&next);
}

/* SIGHUP. What can change while running does, at once and for calls to come. */
static void on_reload_signal(void *ctx)
{
	struct daemon *d = ctx;
	char state[64];

	(void)snprintf(state, sizeof state, "RELOADING=1\nMONOTONIC_USEC=%lld",
	               (long long)clock_mono_us());
	if (d->announced)
		notify_send(state);
	reload(d);
	if (d->announced)
		notify_send("READY=1");
}

static void on_tend(void *ctx, int64_t now_us)
{
	struct daemon *d = ctx;

	dev_pg_tend(d->dev);
	timer_set(&d->node.timers, &d->tend, now_us + TEND_US);
}

static int complain_and_fail(const char *why)
{
	if (log_get_format() == LOG_JSON)
		log_error(NULL, "%s", why);
	else
		(void)fprintf(stderr, "assentd: %s\n", why);
	return EXIT_FAILURE;
}

static int migrate(const char *conninfo, bool quiet)
{
	unsigned applied;
	char why[256];

	if (migrate_run(conninfo, &applied, why, sizeof why) < 0)
		return complain_and_fail(why);
	if (!quiet)
		(void)printf(applied ? "%u migrations applied\n" : "nothing to migrate\n", applied);
	return EXIT_SUCCESS;
}

/* A private PostgreSQL, migrated; its conninfo becomes the database option. */
static int start_dev(struct daemon *d)
{
	char conninfo[160], why[256];

	log_warn(NULL, "--dev: a private PostgreSQL in %s, no authentication; not for production",
	         d->config.dev_dir);
	if (dev_pg_start(d->config.dev_dir, &d->dev, conninfo, sizeof conninfo, why, sizeof why) <
	    0)
		return complain_and_fail(why);
	free((char *)(uintptr_t)d->config.database);
	d->config.database = strdup(conninfo);
	if (!d->config.database)
		return complain_and_fail("out of memory");
	return migrate(conninfo, true);
}

/* A signal that comes while a part is being started waits until all can be stopped in order. */
static void hold_signals(int how)
{
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGHUP);
	(void)sigprocmask(how, &set, NULL);
}

static int start_watching(struct daemon *d)
{
	d->sigterm = loop_signal_new(d->loop, SIGTERM, on_stop_signal, d);
	d->sigint = loop_signal_new(d->loop, SIGINT, on_stop_signal, d);
	d->sighup = loop_signal_new(d->loop, SIGHUP, on_reload_signal, d);
	d->hook = loop_hook_new(d->loop, on_turn, d);
	if (!d->sigterm || !d->sigint || !d->sighup || !d->hook)
		return ERR_NOMEM;
	if (timers_admit(&d->node.timers, &d->grace, on_grace, d) < 0 ||
	    timers_admit(&d->node.timers, &d->tend, on_tend, d) < 0)
		return ERR_NOMEM;
	if (d->dev)
		timer_set(&d->node.timers, &d->tend, clock_mono_us() + TEND_US);
	hold_signals(SIG_UNBLOCK);
	return 0;
}

static int serve(struct daemon *d)
{
	char why[256];
	int rc = EXIT_FAILURE;

	if (migrate_check(d->config.database, why, sizeof why) < 0)
		return complain_and_fail(why);
	d->loop = loop_new();
	if (!d->loop)
		return complain_and_fail("no event loop");
	if (node_init(&d->node, &d->config, d->loop, why, sizeof why) < 0 ||
	    api_new(&d->node, &d->api, why, sizeof why) < 0) {
		rc = complain_and_fail(why);
	} else if (start_watching(d) == 0) {
		loop_run(d->loop);
		rc = EXIT_SUCCESS;
	}
	node_hang_up(&d->node);
	crash_point(CRASH_DRAIN_HUNG_UP);
	api_free(d->api);
	timers_retire(&d->node.timers, &d->grace);
	timers_retire(&d->node.timers, &d->tend);
	loop_hook_free(d->hook);
	loop_signal_free(d->sigterm);
	loop_signal_free(d->sigint);
	loop_signal_free(d->sighup);
	node_release(&d->node);
	loop_free(d->loop);
	return rc;
}

/* A crash on purpose is for tests, and these have --dev. */
static int arm_crash_point(const struct config *c, char *why, size_t size)
{
	const char *spec = getenv("ASSENT_CRASH_AT");
	char fault[192];

	if (!spec)
		return 0;
	if (!c->dev)
		(void)snprintf(why, size,
		               "ASSENT_CRASH_AT is for tests, with --dev only: unset it");
	else if (crash_arm(spec, fault, sizeof fault) < 0)
		(void)snprintf(why, size, "ASSENT_CRASH_AT: %s", fault);
	else
		return 0;
	return ERR_INVALID;
}

static int list_crash_points(void)
{
	for (int p = CRASH_NONE + 1; p < CRASH_MAX; p++)
		(void)printf("%-24s %s\n", crash_name((enum crash_point)p),
		             crash_what((enum crash_point)p));
	return EXIT_SUCCESS;
}

static int run(struct daemon *d, enum config_action action)
{
	char why[512];
	int rc;

	set_up_log(&d->config);
	if (arm_crash_point(&d->config, why, sizeof why) < 0)
		return complain_and_fail(why);
	if (action == CONFIG_MIGRATE && !d->config.dev)
		return migrate(d->config.database, false);
	if (action == CONFIG_SERVE && config_take_access(&d->config, why, sizeof why) < 0)
		return complain_and_fail(why);
	hold_signals(SIG_BLOCK);
	if (d->config.dev) {
		rc = start_dev(d);
		if (rc != EXIT_SUCCESS || action == CONFIG_MIGRATE) {
			dev_pg_stop(d->dev);
			return rc;
		}
	}
	rc = serve(d);
	dev_pg_stop(d->dev);
	return rc;
}

/* A shell gives 1024, fewer than connection_max; nothing here uses select. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

static int check(struct daemon *d)
{
	char why[512];

	if (config_take_access(&d->config, why, sizeof why) < 0)
		return complain_and_fail(why);
	(void)printf("configuration ok\n");
	return EXIT_SUCCESS;
}

static int act(struct daemon *d, enum config_action action)
{
	switch (action) {
	case CONFIG_HELP:
		config_print_help();
		return EXIT_SUCCESS;
	case CONFIG_VERSION:
		(void)printf("assentd " ASSENT_VERSION "\n");
		return EXIT_SUCCESS;
	case CONFIG_CRASH_POINTS:
		return list_crash_points();
	case CONFIG_CHECK:
		return check(d);
	case CONFIG_PRINT:
		return config_print(&d->config) < 0 ? complain_and_fail("out of memory")
		                                    : EXIT_SUCCESS;
	case CONFIG_SERVE:
	case CONFIG_MIGRATE:
		break;
	}
	return run(d, action);
}

int main(int argc, char **argv)
{
	struct daemon d = {.argc = argc, .argv = argv};
	enum config_action action;
	char why[512];
	int rc;

	(void)signal(SIGPIPE, SIG_IGN);
	raise_descriptor_limit();
	if (argc == 2 && strcmp(argv[1], "hash-token") == 0)
		return auth_hash_token();
	notify_open();
	if (config_read(&d.config, argc, argv, &action, why, sizeof why) < 0)
		rc = complain_and_fail(why);
	else
		rc = act(&d, action);
	config_release(&d.config);
	return rc;
}
