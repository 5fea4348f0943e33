/*
 * peers.c - the other branches of a transaction, as Assent-Peers names them, and where they may be.
 *
 * "id=url,id=url": a comma in a URL is percent-encoded. What is allowed is a list of URLs, each whole
 * or what one begins with. It must end where a part of the URL ends: http://stock is not a beginning
 * of http://stock.example or of http://stock@example.
 */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

static bool is_http(const char *url)
{
	return strncmp(url, "http://", 7) == 0 || strncmp(url, "https://", 8) == 0;
}

bool sdk_peer_next(const char **peers, struct sdk_peer *peer)
{
	size_t len = strcspn(*peers, ",=");

	if (!**peers)
		return false;
	*peer = (struct sdk_peer){0};
	if (len < sizeof(peer->id))
		memcpy(peer->id, *peers, len);
	peer->url = *peers + len + ((*peers)[len] == '=');
	peer->url_len = strcspn(peer->url, ",");
	*peers = peer->url + peer->url_len;
	*peers += **peers == ',';
	return true;
}

bool sdk_peers_are_valid(const char *peers)
{
	size_t len = strlen(peers);
	struct sdk_peer peer;

	if (len && peers[len - 1] == ',')
		return false;
	while (sdk_peer_next(&peers, &peer)) {
		if (!sdk_identifier(peer.id, sizeof(peer.id) - 1, "._~-") || !is_http(peer.url))
			return false;
	}
	return true;
}

static bool begins_with(const struct sdk_peer *peer, const char *rule, size_t len)
{
	if (peer->url_len < len || strncmp(peer->url, rule, len) != 0)
		return false;
	return peer->url_len == len || rule[len - 1] == '/' || peer->url[len] == '/' ||
	       peer->url[len] == '?';
}

static const char between[] = " ,\t\n";

bool sdk_peer_is_allowed(const char *allowed, const struct sdk_peer *peer)
{
	if (!allowed)
		return true;
	for (allowed += strspn(allowed, between); *allowed; allowed += strspn(allowed, between)) {
		size_t len = strcspn(allowed, between);

		if (begins_with(peer, allowed, len))
			return true;
		allowed += len;
	}
	return false;
}

int sdk_peers_allow(const char *rules, char **allowed, struct assent_error *err)
{
	*allowed = NULL;
	if (!rules)
		return 0;
	for (const char *r = rules + strspn(rules, between); *r; r += strspn(r, between)) {
		size_t len = strcspn(r, between), host = strcspn(r, ":") + 3;

		/* Nor may what follows be a user's name, or the rest of the host's. */
		if (!is_http(r) || len <= host || memchr(r, '@', len))
			return sdk_fail(err, ASSENT_E_INVALID,
			                "peers: %.*s is not a URL like http://stock:7481", (int)len,
			                r);
		r += len;
	}
	*allowed = strdup(rules);
	return *allowed ? 0 : sdk_fail(err, ASSENT_E_NOMEM, "out of memory");
}
