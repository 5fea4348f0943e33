/*
 * purge.c - forgetting branches that ended long ago; the rules are in sql/participant/.
 */
#include <stdio.h>
#include <stdlib.h>

#include "internal.h"

#define BATCH_MAX 10000

int assent_participant_purge(PGconn *conn, int older_than_s, int batch, int *n_branch,
                             struct assent_error *err)
{
	char age[16], limit[16];
	const char *const values[] = {age, limit};
	PGresult *result;
	int rc = 0;

	if (!n_branch)
		return sdk_fail(err, ASSENT_E_INVALID, "n_branch is NULL");
	*n_branch = 0;
	if (older_than_s < SDK_KEEP_MIN_S || batch < 1 || batch > BATCH_MAX)
		return sdk_fail(err, ASSENT_E_INVALID,
		                "branches are kept for at least %d s, longer than the coordinator "
		                "keeps them, and forgotten up to %d at a time",
		                SDK_KEEP_MIN_S, BATCH_MAX);
	if (PQtransactionStatus(conn) == PQTRANS_INTRANS ||
	    PQtransactionStatus(conn) == PQTRANS_INERROR)
		return sdk_fail(err, ASSENT_E_INVALID,
		                "the connection is inside a transaction block");
	snprintf(age, sizeof(age), "%d", older_than_s);
	snprintf(limit, sizeof(limit), "%d", batch);
	result = PQexecParams(conn, "SELECT assent_participant.purge($1, $2)", 2, NULL, values,
	                      NULL, NULL, 0);
	if (sdk_pg_ok(result))
		*n_branch = (int)strtol(PQgetvalue(result, 0, 0), NULL, 10);
	else
		rc = sdk_fail_pg(err, conn, result);
	PQclear(result);
	return rc;
}
