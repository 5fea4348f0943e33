#include "node/peer_list.h"

#include <string.h>

#include "node/registry.h"

/* Commas stand between the entries. */
static void put_escaped(struct buf *out, const char *url)
{
	for (size_t n; *url; url += n) {
		n = strcspn(url, ",");
		buf_append(out, url, n);
		if (url[n]) {
			buf_puts(out, "%2C");
			n++;
		}
	}
}

/* ERR_DENIED: it has no address now, or one that may not be called. */
static int put_entry(const struct branch_spec *b, const struct registry *r, struct buf *out)
{
	const char *base = b->status_url ? b->status_url : registry_url(r, b->participant);
	struct buf url = BUF_INIT;
	char why[160];
	int rc = 0;

	if (!base)
		return ERR_DENIED;
	buf_puts(&url, base);
	if (!b->status_url)
		buf_puts(&url, base[strlen(base) - 1] == '/' ? "status" : "/status");
	if (url.failed)
		rc = ERR_NOMEM;
	else if (registry_check_url(r, url.data, url.len, why, sizeof why) < 0)
		rc = ERR_DENIED;
	if (rc == 0) {
		buf_puts(out, b->id);
		buf_putc(out, '=');
		put_escaped(out, url.data);
		buf_putc(out, ',');
	}
	buf_release(&url);
	return rc;
}

int peer_list_build(struct peer_list *l, const struct submission *sub, uint64_t wanted,
                    const struct registry *r, struct arena *arena)
{
	size_t *at = arena_alloc(arena, (sub->n_branch + 1) * sizeof *at);
	struct buf text = BUF_INIT;
	int rc = at ? 0 : ERR_NOMEM;

	for (unsigned i = 0; rc == 0 && i < sub->n_branch; i++) {
		at[i] = text.len;
		if (wanted >> i & 1)
			rc = put_entry(&sub->branch[i], r, &text);
	}
	if (rc == 0) {
		at[sub->n_branch] = text.len;
		l->at = at;
		l->text = text.failed ? NULL
		                      : arena_strndup(arena, text.len ? text.data : "", text.len);
		rc = l->text ? 0 : ERR_NOMEM;
	}
	buf_release(&text);
	return rc;
}

int peer_list_put(const struct peer_list *l, unsigned n_branch, unsigned branch, struct buf *out)
{
	size_t before = l->at[branch], behind = l->at[branch + 1];
	size_t len = before + l->at[n_branch] - behind;

	if (len == 0)
		return 0;
	if (len - 1 > PEER_LIST_MAX)
		return ERR_LIMIT;
	buf_append(out, l->text, before);
	buf_append(out, l->text + behind, l->at[n_branch] - behind);
	if (!out->failed)
		out->len--; /* the last comma */
	return 0;
}

static size_t entry_len(const struct branch_spec *b, const struct registry *r)
{
	struct buf entry = BUF_INIT;
	size_t len = put_entry(b, r, &entry) == 0 ? entry.len : 0;

	buf_release(&entry);
	return len;
}

size_t peer_list_longest(const struct submission *sub, const struct branch_spec *more,
                         const struct registry *r)
{
	size_t all = more ? entry_len(more, r) : 0, least = more ? all : SIZE_MAX;

	for (unsigned i = 0; i < sub->n_branch; i++) {
		size_t len = entry_len(&sub->branch[i], r);

		all += len;
		least = len < least ? len : least;
	}
	return all > least ? all - least - 1 : 0;
}
