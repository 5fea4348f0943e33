/*
 * sql.h - every SQL statement of the daemon, in one place.
 *
 * Two sessions: the journal's (the one that holds the shards' locks and the only one that
 * writes) and the readers'. Column order of each statement is stated beside it in sql.c.
 */
#ifndef IO_SQL_H
#define IO_SQL_H

#include <stddef.h>

#include "io/pg.h"

enum sql_write {
	SQL_CREATE = 0,     /* new transactions */
	SQL_CREATE_LABELED, /* the same, when some have labels */
	SQL_UPDATE,         /* their later states */
	SQL_PARK,           /* of those that are set aside: until when */
	SQL_ENLIST,         /* branches that join later */
	SQL_RESULT,         /* of steps */
	SQL_HISTORY,        /* calls made */
	SQL_ALERT_RAISE,
	SQL_ALERT_CLOSE,
	SQL_ALERT_COUNTS, /* open ones by kind */
	SQL_LOCK,         /* try every shard's lock */
	SQL_UNLOCK,       /* give all of them back */
	SQL_TAKE,         /* raise the epochs */
	SQL_HELLO,        /* who is this database, what time is it there */
	SQL_LOAD,         /* one page of unfinished transactions that are not parked */
	SQL_LANES,        /* how many are parked, and for whom */
	SQL_TAKE_BACK,    /* one page of those parked for one participant */
	SQL_PARKED_NEXT,  /* when the next one is due */
	SQL_PARTITIONS,   /* history partitions of the next days */
	SQL_FIND,         /* one transaction, as its owner has it */
	SQL_WRITE_MAX,
};

enum sql_read {
	SQL_GET = 0,       /* one transaction */
	SQL_BRANCH_CALLS,  /* calls per branch, and the newest failure */
	SQL_EXISTS,        /* is there such a transaction */
	SQL_ATTEMPTS,      /* its history */
	SQL_ALERTS_ANY,    /* alerts, newest first */
	SQL_ALERTS_OPEN,   /* those that are open */
	SQL_OWNERS,        /* who took the shards */
	SQL_PARKED_OLDEST, /* the oldest parked for each of these participants */
	SQL_PING,
	SQL_READ_MAX,
};

/* Lists have a session of their own: a long one holds up no other answer. */
enum sql_list {
	SQL_LIST_KEY = 0, /* what signs the cursors */
	SQL_LIST_WALK,    /* along the time of creation */
	SQL_LIST_LABEL,   /* along the transactions with one label */
	SQL_LIST_MAX,
};

/* And so has the purge, which writes. */
enum sql_purge {
	SQL_PURGE_PAGE = 0, /* transactions */
	SQL_PURGE_ALERTS,   /* closed alerts */
	SQL_PURGE_DAY,      /* one partition of the history */
	SQL_PURGE_OTHER,    /* history outside the partitions */
	SQL_PURGE_MAX,
};

extern const struct pg_statement sql_list_statement[SQL_LIST_MAX];
extern const struct pg_statement sql_purge_statement[SQL_PURGE_MAX];
extern const char *const sql_list_setup[];
extern const char *const sql_purge_setup[];

extern const struct pg_statement sql_write_statement[SQL_WRITE_MAX];
extern const struct pg_statement sql_read_statement[SQL_READ_MAX];

/* Settings of each kind of session; end with NULL. */
extern const char *const sql_write_setup[];
extern const char *const sql_read_setup[];

#endif /* IO_SQL_H */
