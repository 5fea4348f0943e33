#include "node/address.h"

#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define RULE_MAX 64
#define HOST_MAX 253

enum host_kind {
	HOST_NAME,
	HOST_IPV4,
	HOST_IPV6,
	HOST_LOOPBACK, /* rules only */
};

struct host {
	enum host_kind kind;
	char name[HOST_MAX + 1]; /* lower case */
	uint8_t ip[16];
	unsigned prefix; /* rules only: leading bits that must agree */
};

struct rule {
	bool https;
	bool any_port;
	uint16_t port;
	struct host host;
};

struct address_list {
	size_t n;
	struct rule rule[RULE_MAX];
};

/* What stands between scheme and path. */
struct authority {
	bool https;
	const char *host;
	size_t host_len;
	bool bracketed;
	const char *port; /* NULL for none */
	size_t port_len;
	size_t end; /* offset of what follows */
};

static bool is_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static const char *split_authority(const char *s, size_t len, struct authority *a)
{
	size_t at, end;

	if (len >= 7 && strncasecmp(s, "http://", 7) == 0) {
		at = 7;
		a->https = false;
	} else if (len >= 8 && strncasecmp(s, "https://", 8) == 0) {
		at = 8;
		a->https = true;
	} else {
		return "an address begins with http:// or https://";
	}
	if (at < len && s[at] == '[') {
		const char *close = memchr(s + at, ']', len - at);

		if (!close)
			return "the bracket of the IPv6 address is not closed";
		a->bracketed = true;
		a->host = s + at + 1;
		a->host_len = (size_t)(close - a->host);
		end = (size_t)(close - s) + 1;
	} else {
		a->bracketed = false;
		for (end = at; end < len && (is_alnum(s[end]) || !strchr(":/?#@", s[end])); end++)
			continue;
		a->host = s + at;
		a->host_len = end - at;
	}
	a->port = NULL;
	a->port_len = 0;
	if (end < len && s[end] == ':') {
		a->port = s + ++end;
		while (end < len && (is_alnum(s[end]) || !strchr("/?#@", s[end])))
			end++;
		a->port_len = (size_t)(s + end - a->port);
	}
	a->end = end;
	return NULL;
}

static const char *parse_port(const struct authority *a, uint16_t *out)
{
	unsigned long value = 0;

	if (!a->port) {
		*out = a->https ? 443 : 80;
		return NULL;
	}
	if (a->port_len == 0 || a->port_len > 5)
		return "the port is not a number from 1 to 65535";
	for (size_t i = 0; i < a->port_len; i++) {
		if (a->port[i] < '0' || a->port[i] > '9')
			return "the port is not a number from 1 to 65535";
		value = value * 10 + (unsigned long)(a->port[i] - '0');
	}
	if (value == 0 || value > 65535)
		return "the port is not a number from 1 to 65535";
	*out = (uint16_t)value;
	return NULL;
}

/* "127.1", "2130706433" and "0x7f.0.0.1" are 127.0.0.1 to the HTTP client, not to the rules. */
static bool ends_in_number(const char *name)
{
	const char *dot = strrchr(name, '.');
	const char *last = dot ? dot + 1 : name;

	if (strncmp(last, "0x", 2) == 0)
		return strspn(last + 2, "0123456789abcdef") == strlen(last + 2);
	return strspn(last, "0123456789") == strlen(last);
}

static const char *parse_name(struct host *h)
{
	if (*h->name == '.' || strstr(h->name, ".."))
		return "the host has an empty label between its dots";
	if (h->name[strlen(h->name) - 1] == '.')
		return "leave out the dot at the host's end";
	if (inet_pton(AF_INET, h->name, h->ip) == 1)
		h->kind = HOST_IPV4;
	else if (ends_in_number(h->name))
		return "an IPv4 address is four decimal numbers from 0 to 255";
	h->prefix = 32;
	return NULL;
}

/* ::ffff:127.0.0.1 connects to 127.0.0.1, past the rules for IPv4: one address, one spelling. */
static const char *parse_ipv6(struct host *h)
{
	static const uint8_t mapped[16] = {[10] = 0xff, [11] = 0xff};

	h->kind = HOST_IPV6;
	h->prefix = 128;
	if (inet_pton(AF_INET6, h->name, h->ip) != 1)
		return "this is not an IPv6 address";
	if (memcmp(h->ip, mapped, 12) == 0)
		return "write an IPv4 address as such, not inside an IPv6 address";
	return NULL;
}

static const char *parse_host(const char *s, size_t len, bool bracketed, struct host *out)
{
	memset(out, 0, sizeof *out);
	if (len == 0 || len > HOST_MAX)
		return "the host is missing or longer than 253 bytes";
	for (size_t i = 0; i < len; i++) {
		char c = s[i];

		if (c >= 'A' && c <= 'Z')
			c = (char)(c - 'A' + 'a');
		if (!is_alnum(c) && !strchr(bracketed ? ":." : ".-_", c))
			return "the host has a character that no host name has";
		out->name[i] = c;
	}
	return bracketed ? parse_ipv6(out) : parse_name(out);
}

static bool same_prefix(const uint8_t *a, const uint8_t *b, unsigned bits)
{
	unsigned whole = bits / 8, rest = bits % 8;

	if (memcmp(a, b, whole) != 0)
		return false;
	return rest == 0 || (a[whole] >> (8 - rest)) == (b[whole] >> (8 - rest));
}

static bool is_loopback(const struct host *h)
{
	static const uint8_t one[16] = {[15] = 1};

	if (h->kind == HOST_IPV4)
		return h->ip[0] == 127;
	if (h->kind == HOST_IPV6)
		return memcmp(h->ip, one, sizeof one) == 0;
	return strcmp(h->name, "localhost") == 0;
}

static bool host_matches(const struct host *rule, const struct host *host)
{
	if (rule->kind == HOST_LOOPBACK)
		return is_loopback(host);
	if (rule->kind != host->kind)
		return false;
	if (rule->kind == HOST_NAME)
		return strcmp(rule->name, host->name) == 0;
	return same_prefix(rule->ip, host->ip, rule->prefix);
}

/* "/8" behind a rule's host. */
static const char *parse_prefix(const char *s, size_t len, struct host *host)
{
	unsigned bits = 0;

	if (host->kind == HOST_NAME || len < 2 || len > 4)
		return "a network is written like 10.0.0.0/8 or [fd00::]/8";
	for (size_t i = 1; i < len; i++) {
		if (s[i] < '0' || s[i] > '9')
			return "a network is written like 10.0.0.0/8 or [fd00::]/8";
		bits = bits * 10 + (unsigned)(s[i] - '0');
	}
	if (bits > (host->kind == HOST_IPV4 ? 32u : 128u))
		return "the network's prefix is longer than its address";
	host->prefix = bits;
	return NULL;
}

/* The port stands behind the network: http://10.0.0.0/8:8080. */
static const char *parse_rule(const char *s, size_t len, struct rule *out)
{
	struct authority a;
	const char *fault = split_authority(s, len, &a);
	const char *slash;
	size_t prefix_len;

	if (!fault)
		fault = parse_host(a.host, a.host_len, a.bracketed, &out->host);
	if (fault)
		return fault;
	out->https = a.https;
	if (a.end < len) {
		slash = s + a.end;
		for (prefix_len = 0; a.end + prefix_len < len && slash[prefix_len] != ':';)
			prefix_len++;
		if (*slash != '/' || a.port)
			return "behind the host comes only a network's prefix and a port";
		fault = parse_prefix(slash, prefix_len, &out->host);
		if (fault)
			return fault;
		if (a.end + prefix_len < len) {
			a.port = slash + prefix_len + 1;
			a.port_len = (size_t)(s + len - a.port);
		}
	}
	if (out->host.kind == HOST_NAME && strcmp(out->host.name, "loopback") == 0)
		out->host.kind = HOST_LOOPBACK;
	if (a.port && a.port_len == 1 && *a.port == '*') {
		out->any_port = true;
		return NULL;
	}
	return parse_port(&a, &out->port);
}

int address_list_new(const char *rules, struct address_list **out, char *why, size_t why_size)
{
	struct address_list *l = calloc(1, sizeof *l);

	if (!l)
		return ERR_NOMEM;
	for (const char *s = rules; *s;) {
		size_t len = strcspn(s, ", \t\n");
		const char *fault;

		if (len > 0) {
			fault = l->n == RULE_MAX ? "there are more than 64 rules"
			                         : parse_rule(s, len, &l->rule[l->n]);
			if (fault) {
				(void)snprintf(why, why_size, "\"%.*s\": %s",
				               (int)(len > 80 ? 80 : len), s, fault);
				free(l);
				return ERR_INVALID;
			}
			l->n++;
		}
		s += len + (s[len] != '\0');
	}
	*out = l;
	return 0;
}

void address_list_free(struct address_list *l)
{
	free(l);
}

static const char *parse_url(const char *url, size_t len, struct authority *a, struct host *host,
                             uint16_t *port)
{
	const char *fault;

	if (len == 0 || len > ADDRESS_MAX)
		return "an address has 1 to 1024 bytes";
	for (size_t i = 0; i < len; i++) {
		if (is_alnum(url[i]))
			continue;
		if ((unsigned char)url[i] <= 0x20 || (unsigned char)url[i] > 0x7e ||
		    strchr("\\\"<>^`{|}", url[i]))
			return "an address has only the characters of a URL (RFC 3986)";
	}
	fault = split_authority(url, len, a);
	if (!fault && a->end < len && url[a->end] == '@')
		fault = "an address carries no user or password";
	if (!fault && memchr(url + a->end, '#', len - a->end))
		fault = "an address carries no fragment";
	if (!fault && memchr(url + a->end, '?', len - a->end))
		fault = "an address carries no query";
	if (!fault && a->end < len && url[a->end] != '/')
		fault = "behind the host comes a port or a path";
	if (!fault)
		fault = parse_host(a->host, a->host_len, a->bracketed, host);
	if (!fault)
		fault = parse_port(a, port);
	return fault;
}

int address_parse(const char *url, size_t len, char *why, size_t why_size)
{
	struct authority a;
	struct host host;
	uint16_t port;
	const char *fault = parse_url(url, len, &a, &host, &port);

	if (!fault)
		return 0;
	(void)snprintf(why, why_size, "%s", fault);
	return ERR_INVALID;
}

int address_check(const struct address_list *l, const char *url, size_t len, char *why,
                  size_t why_size)
{
	struct authority a;
	struct host host;
	uint16_t port;
	const char *fault = parse_url(url, len, &a, &host, &port);

	if (fault) {
		(void)snprintf(why, why_size, "%s", fault);
		return ERR_INVALID;
	}
	for (size_t i = 0; i < l->n; i++) {
		const struct rule *r = &l->rule[i];

		if (r->https == a.https && (r->any_port || r->port == port) &&
		    host_matches(&r->host, &host))
			return 0;
	}
	(void)snprintf(why, why_size,
	               "no rule of participant_allow matches %s://%.*s:%u; ask the operator",
	               a.https ? "https" : "http", (int)(a.host_len > 64 ? 64 : a.host_len), a.host,
	               (unsigned)port);
	return ERR_DENIED;
}
