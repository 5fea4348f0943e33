#include "io/transfer_error.h"

#include <errno.h>
#include <stdbool.h>
#include <strings.h>

/* X509_V_ERR_ of OpenSSL, which is curl's and not ours to include here. */
#define CERT_NOT_YET_VALID 9
#define CERT_EXPIRED       10

static bool happened(CURL *easy, CURLINFO when)
{
	curl_off_t us = 0;

	return curl_easy_getinfo(easy, when, &us) == CURLE_OK && us > 0;
}

static bool is_https(CURL *easy)
{
	char *url = NULL;

	return curl_easy_getinfo(easy, CURLINFO_EFFECTIVE_URL, &url) == CURLE_OK && url != NULL &&
	       strncasecmp(url, "https:", 6) == 0;
}

/* The last step first: on a kept connection the first ones are not taken. */
const char *transfer_timeout(CURL *easy)
{
	if (happened(easy, CURLINFO_STARTTRANSFER_TIME_T))
		return "timed out in the middle of an answer";
	if (happened(easy, CURLINFO_PRETRANSFER_TIME_T))
		return "timed out: no answer";
	if (happened(easy, CURLINFO_CONNECT_TIME_T))
		return "timed out: no end of the TLS handshake";
	/* curl may not count a connection as made before its handshake is over. */
	if (happened(easy, CURLINFO_NAMELOOKUP_TIME_T))
		return is_https(easy) ? "timed out: no connection, or no end of the TLS handshake"
		                      : "timed out: it did not accept the connection";
	return "timed out: its host name was not resolved";
}

static int connect_error(CURL *easy, const char **why)
{
	long no = 0;

	curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &no);
	if (no == ETIMEDOUT) {
		*why = "timed out: it did not accept the connection";
		return ERR_TIMEOUT;
	}
	*why = no == ECONNREFUSED ? "connection refused" : "its host cannot be reached";
	return ERR_REFUSED;
}

static const char *certificate_str(CURL *easy)
{
	long result = 0;

	curl_easy_getinfo(easy, CURLINFO_SSL_VERIFYRESULT, &result);
	if (result == CERT_NOT_YET_VALID || result == CERT_EXPIRED)
		return "its TLS certificate has expired or is not valid yet";
	if (result == 0)
		return "its TLS certificate is for another host name";
	return "its TLS certificate is not signed by anybody trusted here";
}

/* A connection that breaks, and an answer that makes no sense, are one code of curl's. */
static const char *receive_str(CURL *easy)
{
	long no = 0;

	curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &no);
	return no == ECONNRESET || no == EPIPE || no == ETIMEDOUT ? "connection reset"
	                                                          : "the answer is not HTTP";
}

static const struct {
	CURLcode code;
	int err;
	const char *why;
} known[] = {
    {CURLE_COULDNT_RESOLVE_HOST, ERR_RESOLVE, "host name not resolved"},
    {CURLE_GOT_NOTHING, ERR_RESET, "connection closed without an answer"},
    {CURLE_PARTIAL_FILE, ERR_RESET, "connection closed in the middle of an answer"},
    {CURLE_SEND_ERROR, ERR_RESET, "connection closed while it was called"},
    {CURLE_SSL_CONNECT_ERROR, ERR_IO, "the TLS handshake failed: is that an https address?"},
    {CURLE_URL_MALFORMAT, ERR_IO, "its address cannot be called"},
    {TRANSFER_HEAD_TOO_LONG, ERR_LIMIT, "the head of the answer is too long"},
    /* curl says so of a line that is too long, too. */
    {CURLE_OUT_OF_MEMORY, ERR_NOMEM, "out of memory, or a line of the answer's head is too long"},
    {CURLE_WRITE_ERROR, ERR_NOMEM, "out of memory"}, /* our buffer did not grow */
};

int transfer_error(CURL *easy, CURLcode code, const char **why)
{
	if (code == CURLE_COULDNT_CONNECT)
		return connect_error(easy, why);
	if (code == CURLE_OPERATION_TIMEDOUT) {
		*why = transfer_timeout(easy);
		return ERR_TIMEOUT;
	}
	if (code == CURLE_RECV_ERROR) {
		*why = receive_str(easy);
		return ERR_RESET;
	}
	if (code == CURLE_PEER_FAILED_VERIFICATION) {
		*why = certificate_str(easy);
		return ERR_IO;
	}
	for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
		if (known[i].code == code) {
			*why = known[i].why;
			return known[i].err;
		}
	}
	*why = "the answer is not HTTP";
	return ERR_IO;
}
