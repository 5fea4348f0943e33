/*
 * crash.h - named places at which a test lets the process die as kill -9 would let it.
 *
 * crash_point(p) does nothing until crash_arm named that point; then its nth pass is a SIGKILL to
 * the process itself: no cleanup, nothing flushed. The points are compiled in always, so that what
 * is tested is what is delivered; who calls crash_arm sees to it that this is a test.
 *
 * A new point is a line here and a call where it belongs. test/trouble/test_crash_points.py walks
 * all that the binary lists, and fails for one that its load does not reach.
 *
 * The pure core has none: it does nothing that a crash could cut in two.
 */
#ifndef BASE_CRASH_H
#define BASE_CRASH_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* clang-format off */
/* symbol, place.moment, what has happened and what has not */
#define CRASH_POINTS(X) \
	X(FLUSH_BEFORE_SEND, "flush.before_send", "a flush was put together, nothing of it was sent") \
	X(FLUSH_BEFORE_SYNC, "flush.before_sync", "its statements are on their way, its commit is not") \
	X(FLUSH_SENT, "flush.sent", "its commit is on its way, too") \
	X(FLUSH_CONFIRMED, "flush.confirmed", "the commit was confirmed, nobody was told") \
	X(FLUSH_BETWEEN_REPORTS, "flush.between_reports", "of two durable records one was reported") \
	X(FLUSH_BEFORE_REFUSAL, "flush.before_refusal", "a record was refused, its owner was not told") \
	X(FLUSH_SPLIT, "flush.split", "a flush was refused and goes back into the queue") \
	X(SUBMIT_RECORDED, "submit.recorded", "a submission waits for its flush") \
	X(BEGIN_RECORDED, "begin.recorded", "the begin of an interactive transaction waits for its flush") \
	X(ENLIST_RECORDED, "enlist.recorded", "an enlisted branch waits for its flush") \
	X(COMMIT_RECORDED, "commit.recorded", "the initiator's commit waits for its flush") \
	X(ROLLBACK_RECORDED, "rollback.recorded", "the initiator's rollback waits for its flush") \
	X(DECISION_BEFORE_RECORD, "decision.before_record", "decided in memory, not recorded") \
	X(DECISION_RECORDED, "decision.recorded", "the decision waits for its flush") \
	X(PRE_COMMIT_RECORDED, "pre_commit.recorded", "that all can commit waits for its flush, nobody was asked to pre-commit") \
	X(INTENT_RECORDED, "intent.recorded", "the intent to abort waits for its flush, nobody has heard of it") \
	X(END_RECORDED, "end.recorded", "the end waits for its flush") \
	X(END_BEFORE_ANSWER, "end.before_answer", "all is done, who waits for the end was not answered") \
	X(EFFECTS_HELD_BACK, "effects.held_back", "the effects of a step wait for its record") \
	X(EFFECTS_BEFORE_RELEASE, "effects.before_release", "the record is durable, its effects begin") \
	X(EFFECTS_BETWEEN, "effects.between", "of two effects of one step one was carried out") \
	X(REPORT_BEFORE_ANSWERS, "report.before_answers", "a record is durable, who waits for it was not answered") \
	X(REPORT_ANSWERED, "report.answered", "they were answered, the effects are still held back") \
	X(FORGET_DONE, "forget.done", "an ended transaction has left the memory") \
	X(TIMER_BEFORE_STEP, "timer.before_step", "a deadline or a retry is due") \
	X(CALL_BEFORE_START, "call.before_start", "a participant is about to be called") \
	X(CALL_STARTED, "call.started", "the call is on its way") \
	X(CALL_REPLIED, "call.replied", "the participant answered, the answer was not looked at") \
	X(CALL_JUDGED, "call.judged", "the answer was judged, the transaction does not know") \
	X(CALL_STEPPED, "call.stepped", "the transaction took its step") \
	X(ALERT_PUT, "alert.put", "an alert waits for its flush") \
	X(ALERT_BEFORE_REPORT, "alert.before_report", "an alert is durable, log and metrics do not have it") \
	X(ALERT_CLOSED, "alert.closed", "the closing of an alert is durable") \
	X(ANSWER_BEFORE_SEND, "answer.before_send", "a client's answer is known, nothing of it was sent") \
	X(ANSWER_SENT, "answer.sent", "a client has its answer") \
	X(SHARDS_LOCKED, "shards.locked", "this session has all locks") \
	X(SHARDS_BEFORE_UNLOCK, "shards.before_unlock", "another one has some locks, ours are given back") \
	X(SHARDS_EPOCHS_SENT, "shards.epochs_sent", "the epochs are being raised") \
	X(SHARDS_EPOCHS_RAISED, "shards.epochs_raised", "the epochs are raised, nothing is loaded") \
	X(SHARDS_BEFORE_GIVE_UP, "shards.before_give_up", "the session is lost, memory still knows all") \
	X(SHARDS_GIVEN_UP, "shards.given_up", "memory has forgotten all transactions") \
	X(RECOVER_BEFORE_PAGE, "recover.before_page", "unfinished transactions are asked for") \
	X(RECOVER_PAGE_CAME, "recover.page_came", "they came, none was resumed") \
	X(RECOVER_BETWEEN_ROWS, "recover.between_rows", "of two of them one was resumed") \
	X(RECOVER_LAST_PAGE_DONE, "recover.last_page_done", "all were resumed, the node does not serve") \
	X(RECOVER_DONE, "recover.done", "the node serves again") \
	X(PARK_RECORDED, "park.recorded", "a parking waits for its flush") \
	X(PARK_DURABLE, "park.durable", "a transaction is parked, memory still has it") \
	X(UNPARK_BEFORE_PAGE, "unpark.before_page", "parked transactions are asked for") \
	X(UNPARK_PAGE_CAME, "unpark.page_came", "they came, none was taken back") \
	X(UNPARK_RESUMED, "unpark.resumed", "one was taken back and is called") \
	X(PARTITIONS_MADE, "partitions.made", "the partitions of the history were made") \
	X(PURGE_PAGE_DONE, "purge.page_done", "a page of old transactions was purged") \
	X(PURGE_ALERTS_DONE, "purge.alerts_done", "old alerts that are closed were purged") \
	X(PURGE_OTHER_DONE, "purge.other_done", "old history outside of the partitions was purged") \
	X(PURGE_DAY_DONE, "purge.day_done", "a day of history was looked for, and dropped if it is old") \
	X(DRAIN_BEGUN, "drain.begun", "SIGTERM came, nothing new is taken on") \
	X(DRAIN_BEFORE_LAST_FLUSH, "drain.before_last_flush", "who waits was answered, lazy records are in memory") \
	X(DRAIN_FLUSHED, "drain.flushed", "the last flush is durable") \
	X(DRAIN_HUNG_UP, "drain.hung_up", "the sessions to the database are closed") \
	X(RELOAD_APPLIED, "reload.applied", "SIGHUP came, the new configuration counts") \
	X(MIGRATE_BEFORE_STEP, "migrate.before_step", "a migration is about to be applied") \
	X(MIGRATE_WITHIN_STEP, "migrate.within_step", "between two statements of a migration's transaction") \
	X(MIGRATE_AFTER_STEP, "migrate.after_step", "a migration is committed") \
	X(DEV_INITDB_DONE, "dev.initdb_done", "--dev: a new cluster is not in its place yet") \
	X(DEV_CLUSTER_MADE, "dev.cluster_made", "--dev: it is in its place, not started") \
	X(DEV_LAUNCHED, "dev.launched", "--dev: PostgreSQL is starting, nobody waits for it") \
	X(DEV_ANSWERING, "dev.answering", "--dev: it answers, and may have no database for assentd") \
	X(DEV_RELAUNCHED, "dev.relaunched", "--dev: PostgreSQL was gone and is starting again") \
	X(DEV_STOPPING, "dev.stopping", "--dev: PostgreSQL was told to stop") \
	X(DEV_STOPPED, "dev.stopped", "--dev: PostgreSQL is gone, its directory still locked")
/* clang-format on */

enum crash_point {
	CRASH_NONE,
#define CRASH_SYMBOL(symbol, name, what) CRASH_##symbol,
	CRASH_POINTS(CRASH_SYMBOL)
#undef CRASH_SYMBOL
	CRASH_MAX
};

/* For crash_point alone. */
extern enum crash_point crash_armed;
void crash_pass(void);

static inline void crash_point(enum crash_point p)
{
	if (__builtin_expect(crash_armed == p, 0))
		crash_pass();
}

/* "name" or "name:nth", counted from 1. ERR_INVALID with one line about what is wrong. */
int crash_arm(const char *spec, char *why, size_t size) MUSTCHECK;

const char *crash_name(enum crash_point p);
/* What has happened there and what has not; one short sentence. */
const char *crash_what(enum crash_point p);

#endif /* BASE_CRASH_H */
