/*
 * journal_entry.c - an entry by itself, without the journal.
 */
#include <assert.h>
#include <string.h>

#include "io/journal_alerts.h"

void journal_entry_init(struct journal_entry *e)
{
	memset(e, 0, sizeof *e);
	list_init(&e->recent_link);
	list_init(&e->queue_link);
	list_init(&e->fly_link);
	list_init(&e->alerts);
}

bool journal_entry_idle(const struct journal_entry *e)
{
	return list_empty(&e->queue_link) && list_empty(&e->fly_link);
}

void journal_entry_loaded(struct journal_entry *e, const struct journal_state *state)
{
	e->durable = *state;
	e->stored = true;
}

void journal_forget(struct journal_entry *e)
{
	assert(list_empty(&e->fly_link));
	list_remove(&e->recent_link);
	list_remove(&e->queue_link);
	alerts_forget(e);
}
