#include "node/peer_stats.h"

#include <ctype.h>
#include <string.h>

void peer_label(const struct branch_spec *b, enum txn_op op, char *label, size_t size)
{
	const char *url = op != OP_NONE && b->op_url[op] ? b->op_url[op] : b->participant;
	const char *host = strstr(url, "://");
	size_t len = strlen(url);

	if (host)
		len = (size_t)(host - url) + 3 + strcspn(host + 3, "/?#");
	if (len >= size)
		len = size - 1;
	memcpy(label, url, len);
	label[len] = '\0';
	for (char *c = label; host && *c; c++)
		*c = (char)tolower((unsigned char)*c);
}
