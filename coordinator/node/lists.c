#include "node/lists.h"

#include <string.h>

#include "base/log.h"
#include "io/sql.h"
#include "node/node.h"

static void on_key(void *ctx, const struct pg_outcome *outcome)
{
	struct lists *l = ctx;
	const char *key;
	size_t len;

	if (outcome->err || pg_rows(outcome->result[0]) != 1) {
		log_warn(NULL, "the key of cursors was not read: %s",
		         outcome->err ? outcome->message : "no row");
		return;
	}
	key = pg_bytes(outcome->result[0], 0, 0, &len);
	if (len != sizeof l->key)
		return;
	memcpy(l->key, key, len);
	l->has_key = true;
}

static void on_up(void *ctx)
{
	struct lists *l = ctx;
	struct pg_batch *batch = pg_batch_begin(l->pg);

	if (!batch)
		return;
	pg_batch_add(batch, SQL_LIST_KEY, NULL);
	pg_batch_send(batch, on_key, l);
}

static void on_down(void *ctx, const char *why)
{
	struct lists *l = ctx;

	l->has_key = false;
	log_debug(NULL, "no session to list with: %s", why);
}

int lists_open(struct node *n)
{
	return pg_new(n->loop,
	              &(struct pg_config){
	                  .conninfo = n->config->database,
	                  .application_name = "assentd lists",
	                  .setup = sql_list_setup,
	                  .statement = sql_list_statement,
	                  .n_statement = SQL_LIST_MAX,
	                  .stall_us = node_read_timeout_us(n),
	                  .on_up = on_up,
	                  .on_down = on_down,
	                  .ctx = &n->lists,
	              },
	              &n->lists.pg);
}
