#include "node/migrate.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/crash.h"
#include "io/pg.h"

/* Generated from sql/coordinator/. */
extern const char *const coordinator_sql[];
extern const unsigned coordinator_sql_n;

/* Held for the whole run, so that two who migrate at once take turns. */
#define LOCK_SQL "SELECT pg_advisory_xact_lock(1634956148, -1)"

static const char begin_sql[] =
    "BEGIN; " LOCK_SQL "; CREATE SCHEMA IF NOT EXISTS assent;"
    " CREATE TABLE IF NOT EXISTS assent.migration (version integer PRIMARY KEY,"
    " applied_at timestamptz NOT NULL DEFAULT now());";

static int ask(const char *conninfo, const char *sql, unsigned *answer, char *why, size_t why_size)
{
	struct buf value = BUF_INIT;
	int rc = pg_run(conninfo, &sql, 1, &value, why, why_size);

	*answer = value.data ? (unsigned)strtoul(value.data, NULL, 10) : 0;
	buf_release(&value);
	return rc;
}

/* 0 for a database that was never migrated. */
static int read_version(const char *conninfo, unsigned *version, char *why, size_t why_size)
{
	int rc = ask(conninfo, "SELECT count(to_regclass('assent.migration'))", version, why,
	             why_size);

	if (rc < 0 || *version == 0)
		return rc;
	return ask(conninfo, "SELECT coalesce(max(version), 0) FROM assent.migration", version, why,
	           why_size);
}

static int refuse_newer(unsigned version, char *why, size_t why_size)
{
	if (version <= coordinator_sql_n)
		return 0;
	(void)snprintf(
	    why, why_size,
	    "the database has schema version %u, this assentd knows only up to %u: install a "
	    "newer assentd",
	    version, coordinator_sql_n);
	return ERR_STATE;
}

int migrate_check(const char *conninfo, char *why, size_t why_size)
{
	unsigned version;
	int rc = read_version(conninfo, &version, why, why_size);

	if (rc == 0)
		rc = refuse_newer(version, why, why_size);
	if (rc == 0 && version < coordinator_sql_n) {
		(void)snprintf(why, why_size,
		               "the database has schema version %u, this assentd needs %u: run "
		               "`assentd migrate` with the same --database",
		               version, coordinator_sql_n);
		rc = ERR_STATE;
	}
	return rc;
}

/* The version is read again under the lock: somebody else may have been first. */
static int apply(const char *conninfo, unsigned version, char *why, size_t why_size)
{
	char guard[256];
	const char *sql[5];

	(void)snprintf(guard, sizeof guard, "INSERT INTO assent.migration (version) VALUES (%u)",
	               version);
	sql[0] = begin_sql;
	sql[1] = guard;
	sql[2] = coordinator_sql[version - 1];
	sql[3] = "COMMIT";
	return pg_run(conninfo, sql, 4, NULL, why, why_size);
}

int migrate_run(const char *conninfo, unsigned *applied, char *why, size_t why_size)
{
	unsigned version;
	int rc = read_version(conninfo, &version, why, why_size);

	*applied = 0;
	if (rc == 0)
		rc = refuse_newer(version, why, why_size);
	while (rc == 0 && version < coordinator_sql_n) {
		char ignored[256]; /* `why` says why this one failed */
		unsigned now;

		crash_point(CRASH_MIGRATE_BEFORE_STEP);
		rc = apply(conninfo, version + 1, why, why_size);
		if (rc == 0) {
			crash_point(CRASH_MIGRATE_AFTER_STEP);
			++*applied;
			version++;
		} else if (read_version(conninfo, &now, ignored, sizeof ignored) == 0 &&
		           now > version) {
			/* The version's key was taken meanwhile: another one applied it. */
			version = now;
			rc = 0;
		}
	}
	return rc;
}
