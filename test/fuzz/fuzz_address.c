/*
 * fuzz_address.c - which addresses may be called. The first line is participant_allow, the second
 * an address.
 *
 * The second opinion is the HTTP client's own: what curl takes for scheme, host, port and path is
 * what must have been decided on. Whom the rules admit is worked out again here, from the rules'
 * text and curl's host alone.
 */
#include <arpa/inet.h>
#include <curl/curl.h>
#include <stdbool.h>
#include <strings.h>

#include "fuzz.h"
#include "node/address.h"
#include "node/registry.h"

struct target { /* as curl has it */
	char *scheme, *host, *port, *path;
};

static char *part(CURLU *u, CURLUPart what, unsigned flags)
{
	char *text = NULL;

	return curl_url_get(u, what, &text, flags) == CURLUE_OK ? text : NULL;
}

/* With the flags that curl_easy_perform parses CURLOPT_URL with; the path also without the dots
 * that a server, or a proxy between, may take out. */
static bool as_curl_has_it(const char *url, bool as_is, struct target *t)
{
	CURLU *u = curl_url();
	unsigned flags = CURLU_GUESS_SCHEME | CURLU_NON_SUPPORT_SCHEME;
	bool ok = curl_url_set(u, CURLUPART_URL, url, flags | (as_is ? CURLU_PATH_AS_IS : 0)) ==
	          CURLUE_OK;

	*t = (struct target){0};
	if (ok) {
		t->scheme = part(u, CURLUPART_SCHEME, 0);
		t->host = part(u, CURLUPART_HOST, 0);
		t->port = part(u, CURLUPART_PORT, CURLU_DEFAULT_PORT);
		t->path = part(u, CURLUPART_PATH, 0);
		must(!part(u, CURLUPART_USER, 0) && !part(u, CURLUPART_PASSWORD, 0));
		must(!part(u, CURLUPART_FRAGMENT, 0) && !part(u, CURLUPART_QUERY, 0));
	}
	curl_url_cleanup(u);
	return ok && t->scheme && t->host && t->port && t->path;
}

static void target_release(struct target *t)
{
	curl_free(t->scheme);
	curl_free(t->host);
	curl_free(t->port);
	curl_free(t->path);
}

/* --- the rules again --- */

/* An address of 4 or 16 bytes, 0 for a name. Brackets as curl writes them. */
static size_t read_ip(const char *host, uint8_t ip[16])
{
	char bare[64];
	size_t len = strlen(host);

	if (*host != '[')
		return inet_pton(AF_INET, host, ip) == 1 ? 4 : 0;
	if (len < 2 || len > sizeof bare)
		return 0;
	(void)snprintf(bare, sizeof bare, "%.*s", (int)len - 2, host + 1);
	return inet_pton(AF_INET6, bare, ip) == 1 ? 16 : 0;
}

static bool in_network(const uint8_t *ip, const uint8_t *network, unsigned bits)
{
	for (unsigned i = 0; i < bits; i++) {
		if ((ip[i / 8] ^ network[i / 8]) >> (7 - i % 8) & 1)
			return false;
	}
	return true;
}

static bool is_loopback(const char *host)
{
	uint8_t ip[16];
	size_t n = read_ip(host, ip);

	if (n == 4)
		return ip[0] == 127;
	return n == 16 ? IN6_IS_ADDR_LOOPBACK((const struct in6_addr *)(const void *)ip)
	               : strcasecmp(host, "localhost") == 0;
}

static bool host_fits(const char *rule, int bits, const char *host)
{
	uint8_t network[16], ip[16];
	size_t n = read_ip(rule, network);

	if (strcasecmp(rule, "loopback") == 0)
		return is_loopback(host);
	if (n == 0)
		return read_ip(host, ip) == 0 && strcasecmp(rule, host) == 0;
	return read_ip(host, ip) == n &&
	       in_network(ip, network, bits < 0 ? 8 * (unsigned)n : (unsigned)bits);
}

/* scheme://host[/bits][:port]; the rule is known to be one. */
static bool admits(char *rule, const struct target *t)
{
	char *host = strstr(rule, "://") + 3;
	char *behind = *host == '[' ? strchr(host, ']') + 1 : host + strcspn(host, "/:");
	char *colon = strchr(behind, ':');
	const char *port = colon ? colon + 1 : strncasecmp(rule, "https", 5) ? "80" : "443";
	int bits = *behind == '/' ? (int)strtol(behind + 1, NULL, 10) : -1;
	size_t scheme = (size_t)(host - 3 - rule);

	*behind = '\0';
	return strlen(t->scheme) == scheme && strncasecmp(t->scheme, rule, scheme) == 0 &&
	       (!strcmp(port, "*") || strtol(port, NULL, 10) == strtol(t->port, NULL, 10)) &&
	       host_fits(host, bits, t->host);
}

static bool any_admits(const char *rules, const struct target *t)
{
	char *copy = strdup(rules), *rest = copy, *rule;
	bool found = false;

	while ((rule = strsep(&rest, ", \t\n")))
		found |= *rule && admits(rule, t);
	free(copy);
	return found;
}

static void try_rules(const char *rules, const char *url, size_t len)
{
	struct address_list *list;
	struct target t;
	char why[256] = "";
	int rc = address_list_new(rules, &list, why, sizeof why);

	must(rc == 0 || (rc == ERR_INVALID && *why));
	if (rc)
		return;
	rc = address_check(list, url, len, why, sizeof why);
	must(rc == 0 || ((rc == ERR_INVALID || rc == ERR_DENIED) && *why));
	must((address_parse(url, len, why, sizeof why) == 0) == (rc != ERR_INVALID));
	if (rc != ERR_INVALID) {
		bool parsed = as_curl_has_it(url, true, &t);

		must(parsed || rc == ERR_DENIED);
		must(!parsed || any_admits(rules, &t) == (rc == 0));
		target_release(&t);
	}
	address_list_free(list);
}

/* Only what lies below a registered address, whatever is made of its path. */
static void try_registry(const char *url, size_t len)
{
	static struct registry *r;
	char why[256] = "";
	struct target t;
	int rc;

	if (!r) {
		must(registry_new(&r) == 0);
		must(registry_add(r, "stock", "http://10.0.0.5:7481/stock", "here", why,
		                  sizeof why) == 0);
	}
	rc = registry_check_url(r, url, len, why, sizeof why);
	must(rc == 0 || ((rc == ERR_INVALID || rc == ERR_DENIED) && *why));
	must((registry_owner(r, url, url) != NULL) >= (rc == 0));
	if (rc)
		return;
	must(as_curl_has_it(url, false, &t));
	must(!strcasecmp(t.scheme, "http") && !strcmp(t.host, "10.0.0.5"));
	must(!strcmp(t.port, "7481") && !strncmp(t.path, "/stock", 6));
	must(t.path[6] == '\0' || t.path[6] == '/');
	target_release(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_string(data, size);
	char *end = strchr(text, '\n');
	char *url;
	size_t len;

	if (end)
		*end++ = '\0';
	url = fuzz_string(end ? end : "", end ? strcspn(end, "\n") : 0);
	len = strlen(url);
	try_rules(text, url, len);
	try_registry(url, len);
	free(url);
	free(text);
	return 0;
}
