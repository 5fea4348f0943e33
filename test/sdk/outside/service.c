/*
 * service.c - a service as somebody else would write it: built by the tests outside of this tree,
 * with what pkg-config says of an installed libassent and nothing else, as C and as C++. It is a
 * participant in every mode, starts transactions in every mode whose branches are its own, prints
 * what became of them, and ends.
 *
 *	service CONNINFO COORDINATOR[,COORDINATOR...]
 */
#include <assent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const modes[][4] = {{"2pc", "prepare"},
                                       {"3pc", "pre_commit"},
                                       {"tcc", "try", "confirm", "cancel"},
                                       {"saga", "action", "compensate"}};

static void die(const char *what, const struct assent_error *err)
{
	fprintf(stderr, "%s: %s (%s)\n", what, err->text, assent_err_str(err->code));
	exit(1);
}

/* Writes down that it was done; {"refuse":true} is refused in the first phase. */
static enum assent_vote work(const struct assent_call *call, PGconn *conn,
                             struct assent_reply *reply, void *ctx)
{
	const char *values[3];
	PGresult *result;
	enum assent_vote vote = ASSENT_YES;

	(void)ctx;
	values[0] = assent_call_gid(call);
	values[1] = assent_call_op(call);
	values[2] = assent_call_body(call, NULL);
	result = PQexecParams(conn,
	                      "INSERT INTO done VALUES ($1, $2) RETURNING $3::json->>'refuse'", 3,
	                      NULL, values, NULL, NULL, 0);
	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		vote = assent_sql_failed(reply, result);
	else if (strcmp(PQgetvalue(result, 0, 0), "true") == 0)
		vote = assent_refuse(reply, "as it was asked to");
	PQclear(result);
	return vote;
}

static struct assent_server *serve(const char *database, const char *coordinators)
{
	struct assent_server_options options;
	struct assent_server *server;
	struct assent_error err;

	memset(&options, 0, sizeof(options));
	options.listen = "127.0.0.1:0";
	options.database = database;
	options.coordinators = coordinators;
	server = assent_server_new(&options, &err);
	if (!server)
		die("server", &err);
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		for (size_t j = 1; j < 4 && modes[i][j]; j++) {
			if (assent_server_on(server, "/work", modes[i][j], work, NULL, &err))
				die(modes[i][j], &err);
		}
	}
	if (assent_server_start(server, &err))
		die("start", &err);
	return server;
}

static struct assent_txn *transaction(const char *gid, const char *mode)
{
	struct assent_error err;
	struct assent_txn *txn = assent_txn_new(gid, mode, 20000, &err);

	if (!txn)
		die(gid, &err);
	return txn;
}

static void add(struct assent_txn *txn, const char *branch, const char *url, int refuse)
{
	struct assent_error err;
	char participant[300];

	snprintf(participant, sizeof(participant), "%s/work", url);
	if (assent_txn_add_branch(txn, branch, participant,
	                          refuse ? "{\"refuse\":true}" : "{\"refuse\":false}", &err))
		die(branch, &err);
}

static void submit(struct assent_client *client, const char *url, const char *mode, int refuse)
{
	struct assent_result result;
	struct assent_error err;
	struct assent_txn *txn;
	char gid[64];

	snprintf(gid, sizeof(gid), "%s-%s", mode, refuse ? "refused" : "whole");
	txn = transaction(gid, mode);
	add(txn, "one", url, 0);
	add(txn, "two", url, refuse);
	if (assent_submit(client, txn, 30000, &result, &err))
		die(gid, &err);
	printf("%s %s\n", gid, result.outcome);
	assent_txn_free(txn);
}

static void interact(struct assent_client *client, const char *url, const char *mode, int refuse)
{
	static const char *const branches[] = {"one", "two"};
	struct assent_result result;
	struct assent_error err;
	struct assent_txn *txn;
	char gid[64];
	int rc, yes = 1;

	snprintf(gid, sizeof(gid), "%s-%s", mode, refuse ? "taken-back" : "grown");
	txn = transaction(gid, mode);
	if (assent_begin(client, txn, NULL, &err))
		die(gid, &err);
	for (int i = 0; i < 2 && yes; i++) {
		add(txn, branches[i], url, refuse && i == 1);
		if (assent_enlist(client, txn, NULL, &err))
			die(gid, &err);
		if (strcmp(mode, "tcc") == 0)
			yes = assent_try(client, txn, 10000, NULL, &err) == ASSENT_YES;
	}
	rc = yes ? assent_request_commit(client, gid, 30000, &result, &err)
	         : assent_request_rollback(client, gid, 30000, &result, &err);
	if (rc || assent_wait(client, gid, 30000, &result, &err))
		die(gid, &err);
	printf("%s %s\n", gid, result.outcome);
	assent_txn_free(txn);
}

int main(int argc, char **argv)
{
	struct assent_server *server;
	struct assent_client *client;
	struct assent_error err;
	const char *url;

	if (argc != 3)
		return 2;
	server = serve(argv[1], argv[2]);
	url = assent_server_url(server);
	client = assent_client_new(argv[2], &err);
	if (!client)
		die("client", &err);
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		submit(client, url, modes[i][0], 0);
		submit(client, url, modes[i][0], 1);
	}
	for (int refuse = 0; refuse < 2; refuse++) {
		interact(client, url, "2pc", refuse);
		interact(client, url, "3pc", refuse);
		interact(client, url, "tcc", refuse);
	}
	assent_client_free(client);
	assent_server_stop(server);
	assent_server_run(server);
	assent_server_free(server);
	return 0;
}
