#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "participants/samples/service.h"

#define OPTION_MAX 12

/* The work of every operation here: an assent_work_fn. */
static enum assent_vote run(const struct assent_call *call, PGconn *conn,
                            struct assent_reply *reply, void *ctx)
{
	const struct service_op *op = ctx;
	const char *sql = assent_call_confirmed(call) ? op->undo_confirmed : op->sql;
	PGresult *result = assent_exec(conn, sql, call);
	enum assent_vote vote = ASSENT_YES;

	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		vote = assent_sql_failed(reply, result);
	else if (*PQgetvalue(result, 0, 0) != 't')
		vote = assent_refuse(reply, "%s", PQgetvalue(result, 0, 1));
	else if (PQnfields(result) > 2)
		assent_reply_set(reply, 200, PQgetvalue(result, 0, 2),
		                 (size_t)PQgetlength(result, 0, 2));
	PQclear(result);
	return vote;
}

static int create_tables(const struct service *service)
{
	PGconn *conn = PQconnectdb(service->options.database);
	/* Asking a failed connection would replace the reason of its failure. */
	PGresult *result = PQstatus(conn) == CONNECTION_OK ? PQexec(conn, service->tables) : NULL;
	int ok = PQresultStatus(result) == PGRES_COMMAND_OK;

	if (!ok)
		fprintf(stderr, "%s: %s", service->name, PQerrorMessage(conn));
	PQclear(result);
	PQfinish(conn);
	return ok;
}

static int add_all(struct service *service, struct assent_server *server, struct assent_error *err)
{
	int rc = 0;

	for (struct service_op *op = service->ops; op->op && !rc; op++)
		rc = assent_server_on(server, service->path, op->op, run, op, err);
	return rc || !service->add ? rc : service->add(service, server, err);
}

/* What people should know: a branch was decided without the coordinator, or waits for somebody, which
 * is said once and not each time that it is looked at in vain. */
static void on_tick(const struct assent_tick_report *report, const struct assent_error *err,
                    void *ctx)
{
	static char said[sizeof(report->failure)];
	const struct service *service = ctx;

	(void)err; /* the database is away: whoever calls is told so */
	if (report->n_heuristic)
		fprintf(stderr, "%s: %s\n", service->name, report->heuristic);
	if (*report->failure && strcmp(report->failure, said) != 0)
		fprintf(stderr, "%s: %s\n", service->name, report->failure);
	if (*report->failure || report->n_swept)
		snprintf(said, sizeof(said), "%s", report->failure);
	if (report->n_orphan)
		fprintf(stderr, "%s: prepared, and not known: %s\n", service->name,
		        report->orphan[0]);
}

static int serve(struct service *service)
{
	struct assent_error err;
	struct assent_server *server;
	int rc = EXIT_FAILURE;

	if (!service->options.on_tick) {
		service->options.on_tick = on_tick;
		service->options.tick_ctx = service;
	}
	server = assent_server_new(&service->options, &err);
	if (!server || add_all(service, server, &err) || assent_server_start(server, &err)) {
		fprintf(stderr, "%s: %s\n", service->name, err.text);
	} else {
		printf("ready %s\n", assent_server_url(server));
		(void)fflush(stdout);
		assent_server_run(server);
		rc = EXIT_SUCCESS;
	}
	assent_server_free(server);
	return rc;
}

static int usage(FILE *to, const char *name, const struct service_option *options, int rc)
{
	fprintf(to, "usage: %s --database CONNINFO", name);
	for (; options->name; options++) {
		if (strcmp(options->name, "database") != 0)
			fprintf(to, "\n\t[--%s %s]", options->name,
			        *options->value ? *options->value : "FILE");
	}
	fprintf(to, "\n");
	return rc;
}

int service_main(struct service *service, int argc, char **argv)
{
	struct service_option options[OPTION_MAX + 1] = {
	    {"listen", &service->options.listen},
	    {"database", &service->options.database},
	    {"secret-file", &service->options.secret_file},
	    {"coordinator", &service->options.coordinators},
	    {"token-file", &service->options.token_file},
	    {"peers", &service->options.peers}};
	struct option names[OPTION_MAX + 2] = {{0}};
	int c, i, n = 6;

	for (i = 0; service->more && service->more[i].name && n < OPTION_MAX; i++)
		options[n++] = service->more[i];
	for (i = 0; i < n; i++)
		names[i] = (struct option){options[i].name, required_argument, NULL, 0};
	names[n] = (struct option){"help", no_argument, NULL, 'h'};
	while ((c = getopt_long(argc, argv, "", names, &i)) != -1) {
		if (c == 'h')
			return usage(stdout, service->name, options, EXIT_SUCCESS);
		if (c != 0 || !options[i].value)
			return usage(stderr, service->name, options, EXIT_FAILURE);
		*options[i].value = optarg;
	}
	if (!service->options.database || optind != argc)
		return usage(stderr, service->name, options, EXIT_FAILURE);
	return create_tables(service) ? serve(service) : EXIT_FAILURE;
}
