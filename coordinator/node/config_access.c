/*
 * config_access.c - which options about access go together: nobody shall open a coordinator to
 * others by accident.
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "node/auth.h"
#include "node/config.h"
#include "node/secret.h"

static int refuse(char *why, size_t size, const char *text)
{
	(void)snprintf(why, size, "%s", text);
	return ERR_INVALID;
}

bool config_on_loopback(const struct config *c)
{
	return strncmp(c->listen_host, "127.", 4) == 0 || strcmp(c->listen_host, "::1") == 0;
}

static int check_serving(const struct config *c, char *why, size_t size)
{
	if (c->dev && !config_on_loopback(c)) {
		(void)snprintf(why, size,
		               "--dev serves on loopback only; use --listen 127.0.0.1:%u",
		               (unsigned)c->listen_port);
		return ERR_INVALID;
	}
	if (*c->token_file && c->allow_unauthenticated)
		return refuse(why, size,
		              "token_file and allow_unauthenticated contradict each other: leave "
		              "one of them out");
	if (c->dev || *c->token_file || c->allow_unauthenticated)
		return 0;
	(void)snprintf(
	    why, size,
	    "no token_file: everyone who reaches %s could do everything; give --token-file FILE "
	    "(`assentd hash-token` makes what stands in it), or say --allow-unauthenticated on a "
	    "network of your own",
	    c->listen);
	return ERR_INVALID;
}

static int take_tls(struct config *c, char *why, size_t size)
{
	int rc;

	if (!*c->tls_certificate && !*c->tls_key)
		return 0;
	if (!*c->tls_certificate || !*c->tls_key)
		return refuse(why, size, "tls_certificate and tls_key go together: give both");
	rc = secret_read_public("tls_certificate", c->tls_certificate, &c->tls_certificate_pem, why,
	                        size);
	return rc == 0 ? secret_read("tls_key", c->tls_key, &c->tls_key_pem, why, size) : rc;
}

int config_take_access(struct config *c, char *why, size_t why_size)
{
	int rc = check_serving(c, why, why_size);

	if (rc == 0 && *c->signing_secret_file)
		rc = secret_keys_load("signing_secret_file", c->signing_secret_file,
		                      &c->signing_keys, why, why_size);
	if (rc == 0)
		rc = take_tls(c, why, why_size);
	if (rc == 0 && *c->token_file && !config_on_loopback(c) && !*c->tls_key)
		log_warn(NULL,
		         "serving on %s without tls_certificate: unless a proxy in front "
		         "encrypts, tokens can be read on their way",
		         c->listen);
	return rc == 0 ? auth_new(c->token_file, &c->auth, why, why_size) : rc;
}

void config_release_access(struct config *c)
{
	secret_keys_free(c->signing_keys);
	c->signing_keys = NULL;
	buf_release(&c->tls_certificate_pem);
	secret_release(&c->tls_key_pem);
	auth_free(c->auth);
	c->auth = NULL;
}
