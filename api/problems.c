/*
 * problems.c - the reference of all problems, as pages for people and as JSON for programs, and
 * the contract itself at /openapi.json.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "api/handlers.h"
#include "base/near.h"

extern const char *const openapi_json[];

/* The page's only style. Its hash stands in the policy: whoever changes one changes the other
 * (the tests compare them). */
#define STYLE                                                                                      \
	":root{color-scheme:light dark}"                                                           \
	"body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:3rem auto;padding:0 1rem}" \
	"h1{font-size:1.6rem;line-height:1.25;margin:.2rem 0 1rem}"                                \
	"code{font:.95em ui-monospace,monospace}"                                                  \
	"table{border-collapse:collapse;width:100%}"                                               \
	"th,td{text-align:left;vertical-align:top;padding:.4rem .8rem .4rem 0;"                    \
	"border-bottom:1px solid #8885}"                                                           \
	"dt{font-weight:600;margin-top:1rem}dd{margin:0}"                                          \
	"a{color:inherit}"                                                                         \
	"nav,small{opacity:.75}"

#define POLICY                                                                                  \
	"default-src 'none'; style-src 'sha256-3dcnpklz3lgPFfFhIWcsADvt4DniqxZdcwGIBKaJJ8I='; " \
	"base-uri 'none'; form-action 'none'; "                                                 \
	"frame-ancestors 'none'"

static void put_html(struct buf *out, const char *s)
{
	for (; *s; s++) {
		switch (*s) {
		case '<':
			buf_puts(out, "&lt;");
			break;
		case '>':
			buf_puts(out, "&gt;");
			break;
		case '&':
			buf_puts(out, "&amp;");
			break;
		case '"':
			buf_puts(out, "&quot;");
			break;
		default:
			buf_putc(out, *s);
		}
	}
}

/* RFC 9110: the quality that one range of Accept has, in thousandths; 1000 when it says none. */
static long quality(const char *range, size_t len)
{
	const char *q = memmem(range, len, "q=", 2);
	double value = q ? strtod(q + 2, NULL) : 1;

	return value >= 0 && value <= 1 ? (long)(value * 1000) : 1000;
}

/* How much the client likes a media type; -1 when no range of that very name is there. */
static long preference(const char *accept, const char *type)
{
	long best = -1;

	while (*accept) {
		size_t len;

		accept += strspn(accept, ", \t");
		len = strcspn(accept, ",");
		if (strcspn(accept, ";, \t") == strlen(type) &&
		    strncasecmp(accept, type, strlen(type)) == 0)
			best = quality(accept, len);
		accept += len;
	}
	return best;
}

/* Pages for browsers and for who does not say; JSON for who prefers it. */
static bool wants_json(const struct exchange *x)
{
	const char *accept = http_request_header(x->rq, "Accept");

	if (!accept)
		return false;
	return preference(accept, "application/json") > preference(accept, "text/html");
}

static void put_json(struct buf *out, const struct problem_info *p)
{
	buf_printf(out, "{\"type\":\"/problems/%s\",\"code\":\"%s\",\"status\":%d,\"retryable\":%s",
	           p->code, p->code, p->status, p->retryable ? "true" : "false");
	buf_puts(out, ",\"title\":");
	buf_put_json_str(out, p->title);
	buf_puts(out, ",\"meaning\":");
	buf_put_json_str(out, p->meaning);
	buf_puts(out, ",\"remedy\":");
	buf_put_json_str(out, p->remedy);
	buf_putc(out, '}');
}

static void put_head(struct buf *out, const char *title)
{
	buf_puts(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
	              "<meta name=\"viewport\" content=\"width=device-width\">\n<title>");
	put_html(out, title);
	buf_puts(out, " - assent</title>\n<style>" STYLE "</style>\n</head>\n<body>\n");
}

static void reply_page(struct exchange *x, struct buf *page)
{
	const struct http_header header[] = {
	    {"Content-Security-Policy", POLICY},
	    {"X-Content-Type-Options", "nosniff"},
	    {"Vary", "Accept"},
	};

	buf_puts(page, "</body>\n</html>\n");
	exchange_reply_with(x, 200, "text/html; charset=utf-8", page, header, 3);
}

static void reply_reference(struct exchange *x, struct buf *body)
{
	exchange_reply_with(x, 200, "application/json", body,
	                    &(struct http_header){"Vary", "Accept"}, 1);
}

static void put_row(struct buf *out, const struct problem_info *p)
{
	buf_printf(out,
	           "<tr><td><a href=\"/problems/%s\"><code>%s</code></a></td><td>%d</td>"
	           "<td>%s</td><td>",
	           p->code, p->code, p->status, p->retryable ? "yes" : "no");
	put_html(out, p->title);
	buf_puts(out, "</td></tr>\n");
}

void handle_problems(struct exchange *x)
{
	struct buf out = BUF_INIT;

	if (wants_json(x)) {
		buf_puts(&out, "{\"problems\":[");
		for (int p = PROBLEM_NONE + 1; p < PROBLEM_MAX; p++) {
			if (p > PROBLEM_NONE + 1)
				buf_putc(&out, ',');
			put_json(&out, problem_info((enum problem)p));
		}
		buf_puts(&out, "]}");
		reply_reference(x, &out);
		return;
	}
	put_head(&out, "Problems");
	buf_puts(&out, "<h1>Problems</h1>\n"
	               "<p>Every way in which a request can fail. Programs decide by "
	               "<code>code</code>, which is stable, and by <code>retryable</code>; "
	               "<code>detail</code> is for people.</p>\n"
	               "<table>\n<tr><th>code</th><th>status</th><th>retryable</th>"
	               "<th>title</th></tr>\n");
	for (int p = PROBLEM_NONE + 1; p < PROBLEM_MAX; p++)
		put_row(&out, problem_info((enum problem)p));
	buf_puts(&out, "</table>\n");
	reply_page(x, &out);
}

static const struct problem_info *find_problem(const char *code, const char **near)
{
	const char *candidate[PROBLEM_MAX];

	for (int p = PROBLEM_NONE + 1; p < PROBLEM_MAX; p++) {
		const struct problem_info *info = problem_info((enum problem)p);

		if (strcmp(info->code, code) == 0)
			return info;
		candidate[p - 1] = info->code;
	}
	candidate[PROBLEM_MAX - 1] = NULL;
	*near = near_match(code, candidate);
	return NULL;
}

static void put_term(struct buf *out, const char *term, const char *text)
{
	buf_printf(out, "<dt>%s</dt><dd>", term);
	put_html(out, text);
	buf_puts(out, "</dd>\n");
}

static void reply_problem_page(struct exchange *x, const struct problem_info *p)
{
	struct buf out = BUF_INIT;

	put_head(&out, p->title);
	buf_printf(&out,
	           "<nav><a href=\"/problems\">Problems</a></nav>\n"
	           "<h1>%s</h1>\n<p><code>%s</code>, status %d</p>\n<dl>\n",
	           p->title, p->code, p->status);
	put_term(&out, "What it means", p->meaning);
	put_term(&out, "What to do", p->remedy);
	put_term(&out, "Does repeating the same request help?",
	         p->retryable ? "Yes, after a pause: it is safe, and may succeed."
	                      : "No: the same request gets the same answer.");
	buf_puts(&out, "</dl>\n<p><small>In a reply, <code>detail</code> says what was wrong with "
	               "that very request, <code>errors</code> where in it, and "
	               "<code>request_id</code> which line of the log is about it.</small></p>\n");
	reply_page(x, &out);
}

void handle_problem(struct exchange *x)
{
	const char *near = NULL;
	const struct problem_info *p = find_problem(x->gid, &near);
	struct buf out = BUF_INIT;
	struct complaint c;

	if (p && wants_json(x)) {
		put_json(&out, p);
		reply_reference(x, &out);
	} else if (p) {
		reply_problem_page(x, p);
	} else {
		(void)complain(&c, PROBLEM_NOT_FOUND, "", "there is no such problem%s%s%s",
		               near ? "; did you mean \"" : "", near ? near : "",
		               near ? "\"?" : "");
		exchange_problem(x, &c);
	}
}

void handle_openapi(struct exchange *x)
{
	struct buf out = BUF_INIT;

	buf_puts(&out, openapi_json[0]);
	exchange_json(x, 200, &out, NULL);
}
