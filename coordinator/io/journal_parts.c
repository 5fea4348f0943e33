#include "io/journal_parts.h"

void parts_reset(struct parts *p)
{
	for (size_t i = 0; i < N_PART; i++)
		columns_reset(&p->part[i], (enum columns_kind)i);
	p->n_entry = 0;
}

void parts_release(struct parts *p)
{
	for (size_t i = 0; i < N_PART; i++)
		columns_release(&p->part[i]);
}

bool parts_full(const struct parts *p)
{
	return p->part[COLUMNS_CREATE].n_byte + p->part[COLUMNS_BRANCH].n_byte +
	           p->part[COLUMNS_RESULT].n_byte >=
	       JOURNAL_FLUSH_BYTES;
}

void parts_add(struct parts *p, struct journal_entry *e)
{
	e->park_flying = e->park;
	if (e->park)
		columns_add_park(&p->part[COLUMNS_PARK], e);
	else
		columns_add_entry(&p->part[e->stored ? COLUMNS_UPDATE : COLUMNS_CREATE], e);
	e->n_enlisted_flying = e->n_enlisted;
	columns_add_branches(&p->part[COLUMNS_BRANCH], e);
	e->n_result_flying = e->n_result;
	columns_add_results(&p->part[COLUMNS_RESULT], e);
	p->n_entry++;
}

int parts_send(struct parts *p, struct pg_batch *batch)
{
	int rc = 0;

	for (size_t i = 0; i < N_PART && rc == 0; i++) {
		if (p->part[i].n_row)
			rc = columns_send(&p->part[i], batch, NULL);
	}
	return rc;
}

size_t parts_statements(const struct parts *p)
{
	size_t n = 0;

	for (size_t i = 0; i < N_PART; i++)
		n += p->part[i].n_row != 0;
	return n;
}

int parts_mark(struct parts *p, const struct pg_outcome *outcome)
{
	const struct columns *update = &p->part[COLUMNS_UPDATE], *park = &p->part[COLUMNS_PARK];
	size_t at = 0;

	p->n_created = p->n_updated = p->n_parked = 0;
	p->created = p->part[COLUMNS_CREATE].n_row ? outcome->result[at++] : NULL;
	if (update->n_row && columns_mark(update, p->updated, outcome->result[at++]) < 0)
		return ERR_LOST;
	if (park->n_row && columns_mark(park, p->parked, outcome->result[at]) < 0)
		return ERR_LOST;
	return 0;
}

bool parts_took(struct parts *p, const struct journal_entry *e)
{
	bool found;

	if (e->park_flying)
		return p->parked[p->n_parked++];
	if (e->stored)
		return p->updated[p->n_updated++];
	found = columns_row_is(p->created, p->n_created, e);
	p->n_created += found;
	return found;
}

bool parts_all_known(const struct parts *p)
{
	return !p->created || p->n_created == pg_rows(p->created);
}
