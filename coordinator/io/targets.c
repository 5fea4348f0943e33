#include "io/targets.h"

#include <assert.h>
#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

int targets_init(struct targets *ts)
{
	*ts = (struct targets){.n_spare = 0};
	list_init(&ts->spare);
	return map_init(&ts->map, TARGET_SPARE_MAX);
}

static void forget(struct targets *ts, struct target *t)
{
	map_remove(&ts->map, &t->node);
	curl_url_cleanup(t->parsed);
	free(t);
}

static void forget_oldest(struct targets *ts)
{
	struct list *oldest = list_pop(&ts->spare);

	if (oldest == NULL)
		return;
	ts->n_spare--;
	forget(ts, container_of(oldest, struct target, spare));
}

void targets_release(struct targets *ts)
{
	if (ts->map.bucket == NULL)
		return;
	while (ts->n_spare > 0)
		forget_oldest(ts);
	assert(ts->map.n == 0);
	map_release(&ts->map);
}

/* As CURLOPT_PATH_AS_IS does it. */
static CURLU *parse(const char *url)
{
	CURLU *u = curl_url();

	if (u == NULL || curl_url_set(u, CURLUPART_URL, url, CURLU_PATH_AS_IS) == CURLUE_OK)
		return u;
	curl_url_cleanup(u);
	return NULL;
}

struct target *target_get(struct targets *ts, const char *url)
{
	size_t len = strlen(url);
	struct map_node *node = map_get(&ts->map, url, len);
	struct target *t;

	if (node != NULL) {
		t = container_of(node, struct target, node);
		if (t->n_user++ == 0) {
			list_remove(&t->spare);
			ts->n_spare--;
		}
		return t;
	}
	t = malloc(sizeof(*t) + len + 1);
	if (t == NULL)
		return NULL;
	memcpy(t->url, url, len + 1);
	t->n_user = 1;
	t->parsed = parse(url);
	list_init(&t->spare);
	if (map_put(&ts->map, &t->node, t->url, len) != 0)
		abort(); /* it was not there */
	return t;
}

void target_put(struct targets *ts, struct target *t)
{
	if (--t->n_user > 0)
		return;
	if (ts->n_spare == TARGET_SPARE_MAX)
		forget_oldest(ts);
	list_push(&ts->spare, &t->spare);
	ts->n_spare++;
}
