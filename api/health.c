/*
 * health.c - is it alive, does it serve, how much does it do.
 */
#include "api/handlers.h"
#include "io/sql.h"

/* Never asks the database: a process that answers is alive. */
void handle_livez(struct exchange *x)
{
	struct buf body = BUF_INIT;

	buf_puts(&body, "{\"status\":\"ok\"}");
	exchange_json(x, 200, &body, NULL);
}

static void put_check(struct buf *out, const char *name, bool ok, const char *otherwise)
{
	buf_printf(out, "\"%s\":", name);
	buf_put_json_str(out, ok ? "ok" : otherwise);
}

static void reply_ready(struct exchange *x, bool reads)
{
	const struct node *n = x->node;
	bool ready = node_ready(n) && !n->draining && reads;
	struct buf body = BUF_INIT;

	buf_printf(&body, "{\"status\":\"%s\",\"checks\":{", ready ? "ready" : "not_ready");
	put_check(&body, "database", reads && n->state != NODE_DOWN,
	          n->state == NODE_DOWN ? n->waiting_for : "does not answer reads");
	buf_putc(&body, ',');
	put_check(&body, "shards", node_ready(n),
	          n->draining ? "this node is stopping" : n->waiting_for);
	buf_puts(&body, "}}");
	exchange_json(x, ready ? 200 : 503, &body, NULL);
}

static void on_ping(void *ctx, const struct pg_outcome *outcome)
{
	reply_ready(ctx, outcome->err == 0);
}

void handle_readyz(struct exchange *x)
{
	struct pg_batch *batch = pg_batch_begin(x->node->reader);

	if (!batch) {
		reply_ready(x, false);
		return;
	}
	pg_batch_add(batch, SQL_PING, NULL);
	pg_batch_send(batch, on_ping, x);
}

void handle_metrics(struct exchange *x)
{
	struct buf body = BUF_INIT;

	metrics_render(x->node, http_server_open(http_request_server(x->rq)), &body);
	exchange_reply(x, 200, "text/plain; version=0.0.4; charset=utf-8", &body, NULL);
}
