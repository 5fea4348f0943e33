/*
 * load.c - clients that submit transactions and wait for their end.
 *
 *	load [-n] [-c COUNT] [-m MODE] [-p PAYLOAD] [-x MEMBERS] COORDINATOR CLIENTS[@RATE]
 *	     WARMUP_S SECONDS PARTICIPANT...
 *
 * Without RATE a closed loop: each client submits the next when the last has ended, so that fewer
 * requests are made when the server stalls, and a stall is counted once per client. With RATE an
 * open one: that many a second become due whatever the server does, and latency counts from when a
 * request was due, also when no client was free to send it then.
 *
 * -n: nobody waits for the end, only for the answer that all is stored. -c: a closed loop stops
 * after so many submissions. -p: the payload of every branch, each # in it
 * standing for the client's number. -x: further members of each, as they stand in its JSON.
 *
 * One branch per PARTICIPANT; MODE is a line of the table `modes`. An interactive one is several
 * requests, one after the other: begin, for each branch enlist and, to the participant itself, try,
 * then commit; it counts as one, from the first request to the last answer. Prints one line of JSON: what
 * ended how (`accepted` are 202s under -n, `refused` 503s, `unsent` those still due at the end),
 * latencies in microseconds of all that was not refused, and `answered`: the answers of the whole
 * run, warm-up and end included.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "io/http_client.h"
#include "io/loop.h"

#define SAMPLE_MAX 4000000u
#define CLIENT_MAX 8192u

/* What a submission of a mode is made of: a head, one element per branch, `]}`. */
struct mode {
	const char *name;
	const char *head; /* behind the gid */
	bool interactive; /* no branches at first */
};

static const char ended[] = "\"outcome\":\"committed\""; /* it went as it should */

static const struct mode modes[] = {
    {"2pc", "\"mode\":\"2pc\",\"branches\":[", false},
    {"3pc", "\"mode\":\"3pc\",\"branches\":[", false},
    {"tcc", "\"mode\":\"tcc\",\"branches\":[", false},
    {"saga", "\"mode\":\"saga\",\"branches\":[", false},
    {"tcc-interactive", "\"mode\":\"tcc\",\"interactive\":true,\"branches\":[", true},
};

struct client {
	struct load *load;
	unsigned number;
	unsigned n_sent;
	int step; /* which request of its transaction */
	int64_t due_us;
	char gid[64];
	struct buf url, body;
};

struct load {
	struct loop *loop;
	struct http_client *http;
	const struct mode *mode;
	struct buf url;
	bool no_wait;
	const char *member; /* NULL: none */
	const char *payload;
	uint64_t n_submit_max; /* 0: no limit */
	uint64_t n_submit;
	char **participant;
	int n_participant;
	unsigned n_client;
	unsigned n_open;
	double rate; /* 0: closed loop */
	uint64_t n_arrived;
	struct loop_timer *arrival;
	unsigned free[CLIENT_MAX]; /* clients without a request, with RATE */
	unsigned n_free;
	int64_t start_us;
	int64_t measure_from_us;
	int64_t stop_us;
	uint64_t n_answered;
	uint64_t n_committed;
	uint64_t n_accepted;
	uint64_t n_other;
	uint64_t n_failed;
	uint64_t n_refused;
	uint32_t *sample_us;
	size_t n_sample;
	struct client client[CLIENT_MAX];
};

static void put_payload(const struct client *c, struct buf *out)
{
	for (const char *p = c->load->payload; *p; p++) {
		if (*p == '#')
			buf_printf(out, "%u", c->number);
		else
			buf_putc(out, *p);
	}
}

static void put_branch(const struct client *c, int i, struct buf *out)
{
	buf_printf(out, "{\"id\":\"b%d\",\"participant\":\"%s\",\"payload\":", i,
	           c->load->participant[i]);
	put_payload(c, out);
	buf_putc(out, '}');
}

static void submit(struct client *c, int64_t due_us);
static void send_step(struct client *c);

static void count(struct load *l, const struct http_result *r, int64_t took_us)
{
	if (!r->err && r->status == 503) {
		l->n_refused++;
		return;
	}
	if (r->err || r->status >= 300)
		l->n_failed++;
	else if (r->status == 200 && strstr(r->body, ended))
		l->n_committed++;
	else if (l->no_wait && r->status == 202)
		l->n_accepted++;
	else
		l->n_other++;
	if (l->n_sample < SAMPLE_MAX)
		l->sample_us[l->n_sample++] = (uint32_t)took_us;
}

static bool is_over(const struct load *l, int64_t now_us)
{
	return now_us >= l->stop_us || (l->n_submit_max > 0 && l->n_submit >= l->n_submit_max);
}

/* Sends what is due and has a client. */
static void arrive(void *ctx)
{
	struct load *l = ctx;
	int64_t now_us = clock_mono_us(), due_us;

	for (;;) {
		due_us = l->start_us + (int64_t)((double)l->n_arrived * 1e6 / l->rate);
		if (due_us >= l->stop_us || due_us > now_us || l->n_free == 0)
			break;
		l->n_arrived++;
		submit(&l->client[l->free[--l->n_free]], due_us);
	}
	/* When all is answered before the end, nothing else comes to stop the loop. */
	if (now_us >= l->stop_us && l->n_open == 0)
		loop_stop(l->loop);
	else if (due_us > now_us && now_us < l->stop_us)
		loop_timer_set(l->arrival, due_us < l->stop_us ? due_us : l->stop_us);
}

static bool is_last(const struct client *c)
{
	return !c->load->mode->interactive || c->step == 2 * c->load->n_participant + 1;
}

static void on_answer(void *ctx, const struct http_result *r)
{
	struct client *c = ctx;
	struct load *l = c->load;
	int64_t now_us = clock_mono_us();

	if (!r->err && r->status < 300 && !is_last(c)) {
		c->step++;
		send_step(c);
		return;
	}
	l->n_open--;
	l->n_answered += !r->err && r->status != 503;
	if (now_us >= l->measure_from_us && now_us < l->stop_us)
		count(l, r, now_us - c->due_us);
	if (l->rate > 0) {
		l->free[l->n_free++] = c->number;
		if (now_us < l->stop_us)
			arrive(l);
	} else if (!is_over(l, now_us)) {
		submit(c, now_us);
	}
	if (is_over(l, now_us) && l->n_open == 0)
		loop_stop(l->loop);
}

static void put_submission(struct client *c, struct buf *out)
{
	const struct load *l = c->load;

	(void)snprintf(c->gid, sizeof c->gid, "bench-%ld-%u-%u", (long)getpid(), c->number,
	               c->n_sent++);
	buf_printf(out, "{\"gid\":\"%s\",%s%s%s", c->gid, l->member ? l->member : "",
	           l->member ? "," : "", l->mode->head);
	for (int i = 0; i < l->n_participant && !l->mode->interactive; i++) {
		if (i > 0)
			buf_putc(out, ',');
		put_branch(c, i, out);
	}
	buf_puts(out, "]}");
}

static void put_request(struct client *c)
{
	const struct load *l = c->load;
	int branch = (c->step - 1) / 2;

	buf_reset(&c->url);
	buf_reset(&c->body);
	if (c->step == 0) {
		buf_puts(&c->url, l->url.data);
		put_submission(c, &c->body);
	} else if (is_last(c)) {
		buf_printf(&c->url, "%s/%s/commit", l->url.data, c->gid);
		buf_puts(&c->body, "{}");
	} else if (c->step % 2) {
		buf_printf(&c->url, "%s/%s/branches", l->url.data, c->gid);
		put_branch(c, branch, &c->body);
	} else {
		buf_printf(&c->url, "%s/try", l->participant[branch]);
		put_payload(c, &c->body);
	}
}

static void submit(struct client *c, int64_t due_us)
{
	c->due_us = due_us;
	c->step = 0;
	c->load->n_open++;
	c->load->n_submit++;
	send_step(c);
}

static int fill(void *ctx, const char *url, struct http_content *out)
{
	static const char *const header[] = {"Content-Type: application/json", "Prefer: wait=30"};
	const struct client *c = ctx;

	(void)url;
	*out = (struct http_content){
	    .header = header,
	    .n_header = c->load->no_wait || !is_last(c) ? 1 : 2,
	    .body = c->body.data,
	    .len = c->body.len,
	};
	return 0;
}

static void send_step(struct client *c)
{
	struct load *l = c->load;
	struct http_call *call;

	put_request(c);
	call = http_client_call(l->http, &(struct http_call_spec){
	                                     .url = c->url.data,
	                                     .timeout_us = 60000000,
	                                     .fill = fill,
	                                     .fn = on_answer,
	                                     .ctx = c,
	                                 });
	if (!call)
		abort();
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static unsigned percentile(const struct load *l, double p)
{
	size_t at = (size_t)((double)l->n_sample * p);

	return l->n_sample ? l->sample_us[at < l->n_sample ? at : l->n_sample - 1] : 0;
}

static void report(struct load *l, double seconds)
{
	int64_t until_us = l->stop_us;
	uint64_t due = (uint64_t)((double)(until_us - l->start_us) * l->rate / 1e6);

	qsort(l->sample_us, l->n_sample, sizeof l->sample_us[0], compare);
	(void)printf("{\"clients\": %u, \"seconds\": %.3f, \"committed\": %llu, "
	             "\"accepted\": %llu, \"other\": %llu, "
	             "\"failed\": %llu, \"refused\": %llu, \"unsent\": %llu, "
	             "\"answered\": %llu, \"p50_us\": %u, "
	             "\"p95_us\": %u, \"p99_us\": %u, \"max_us\": %u}\n",
	             l->n_client, seconds, (unsigned long long)l->n_committed,
	             (unsigned long long)l->n_accepted, (unsigned long long)l->n_other,
	             (unsigned long long)l->n_failed, (unsigned long long)l->n_refused,
	             (unsigned long long)(due > l->n_arrived ? due - l->n_arrived : 0),
	             (unsigned long long)l->n_answered, percentile(l, 0.50), percentile(l, 0.95),
	             percentile(l, 0.99), percentile(l, 1.0));
}

/* One loop turn must have begun before anything is sent. */
static void on_start(void *ctx)
{
	struct load *l = ctx;

	for (unsigned i = 0; i < l->n_client; i++) {
		l->client[i] = (struct client){.load = l, .number = i};
		if (l->rate > 0)
			l->free[l->n_free++] = i;
		else if (!is_over(l, clock_mono_us()))
			submit(&l->client[i], clock_mono_us());
	}
	if (l->rate > 0)
		arrive(l);
}

static int usage(void)
{
	(void)fprintf(stderr, "usage: load [-n] [-c COUNT] [-m MODE] [-p PAYLOAD] [-x MEMBERS] "
	                      "COORDINATOR CLIENTS[@RATE] WARMUP_S SECONDS PARTICIPANT...\n");
	return EXIT_FAILURE;
}

static const struct mode *find_mode(const char *name)
{
	for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++)
		if (strcmp(modes[i].name, name) == 0)
			return &modes[i];
	return NULL;
}

static bool read_options(struct load *l, int argc, char **argv)
{
	int option;

	l->mode = modes;
	l->payload = "{\"n\":1}";
	while ((option = getopt(argc, argv, "+nc:m:p:x:")) != -1) {
		if (option == 'n')
			l->no_wait = true;
		else if (option == 'c')
			l->n_submit_max = strtoull(optarg, NULL, 10);
		else if (option == 'm')
			l->mode = find_mode(optarg);
		else if (option == 'p')
			l->payload = optarg;
		else if (option == 'x')
			l->member = optarg;
		else
			return false;
	}
	return argc - optind >= 5 && l->mode;
}

int main(int argc, char **argv)
{
	static struct load l;
	struct loop_timer *start;
	double warmup_s, seconds;
	char *rate;

	if (!read_options(&l, argc, argv))
		return usage();
	argv += optind - 1;
	argc -= optind - 1;
	l.n_client = (unsigned)strtoul(argv[2], &rate, 10);
	l.rate = *rate == '@' ? strtod(rate + 1, NULL) : 0;
	warmup_s = strtod(argv[3], NULL);
	seconds = strtod(argv[4], NULL);
	if (l.n_client == 0 || l.n_client > CLIENT_MAX || seconds <= 0)
		return usage();
	l.participant = argv + 5;
	l.n_participant = argc - 5;
	l.sample_us = malloc(SAMPLE_MAX * sizeof l.sample_us[0]);
	l.loop = loop_new();
	buf_printf(&l.url, "%s/v1/transactions", argv[1]);
	/* A quarter of a peer's places is for urgent calls, which there are none of. */
	if (!l.sample_us || !l.loop ||
	    http_client_new(l.loop,
	                    &(struct http_client_config){.concurrency = l.n_client * 2,
	                                                 .queue_max = CLIENT_MAX,
	                                                 .peer_max = 8},
	                    &l.http) < 0)
		return EXIT_FAILURE;
	l.start_us = clock_mono_us();
	l.measure_from_us = l.start_us + (int64_t)(warmup_s * 1e6);
	l.stop_us = l.measure_from_us + (int64_t)(seconds * 1e6);
	start = loop_timer_new(l.loop, on_start, &l);
	l.arrival = loop_timer_new(l.loop, arrive, &l);
	if (!start || !l.arrival)
		return EXIT_FAILURE;
	loop_timer_set(start, clock_mono_us());
	loop_run(l.loop);
	if (l.n_submit_max > 0)
		seconds = (double)(clock_mono_us() - l.measure_from_us) / 1e6;
	report(&l, seconds);
	loop_timer_free(start);
	loop_timer_free(l.arrival);
	http_client_free(l.http);
	loop_free(l.loop);
	for (unsigned i = 0; i < l.n_client; i++) {
		buf_release(&l.client[i].url);
		buf_release(&l.client[i].body);
	}
	buf_release(&l.url);
	free(l.sample_us);
	return EXIT_SUCCESS;
}
