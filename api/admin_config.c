/*
 * admin_config.c - the options in force, and where each comes from.
 */
#include "api/handlers.h"

struct printing {
	struct buf body;
	bool more;
};

static void put_option(void *ctx, const char *key, const char *value, const char *source)
{
	struct printing *p = ctx;

	if (p->more)
		buf_putc(&p->body, ',');
	p->more = true;
	buf_puts(&p->body, "{\"key\":");
	buf_put_json_str(&p->body, key);
	buf_puts(&p->body, ",\"value\":");
	buf_put_json_str(&p->body, value);
	buf_puts(&p->body, ",\"source\":");
	buf_put_json_str(&p->body, source);
	buf_putc(&p->body, '}');
}

void handle_config(struct exchange *x)
{
	struct printing p = {.body = BUF_INIT};

	buf_puts(&p.body, "{\"options\":[");
	if (config_each(x->node->config, put_option, &p) < 0)
		p.body.failed = true;
	buf_puts(&p.body, "]}");
	exchange_json(x, 200, &p.body, NULL);
}
