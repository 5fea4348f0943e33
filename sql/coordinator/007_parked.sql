-- Transactions at rest that wait for a broken participant are parked: forgotten by the node, and read
-- again when it is their turn. These columns say for whom, until when at the latest, and what is
-- known of the calls so far (txn_memo in coordinator/core/txn.h). They stay as they are when the
-- transaction is taken back: what is in its owner's memory is not parked, and a new owner, whose
-- memory is empty, finds it parked. So a transaction that is never parked costs nothing here.
ALTER TABLE assent.txn ADD COLUMN parked_for text COLLATE "C";
ALTER TABLE assent.txn ADD COLUMN parked_until timestamptz;
ALTER TABLE assent.txn ADD COLUMN parked_calls bytea;

CREATE INDEX txn_parked ON assent.txn (parked_for, parked_until, gid)
	WHERE parked_for IS NOT NULL AND ended_at IS NULL;
CREATE INDEX txn_parked_age ON assent.txn (parked_for, created_at, gid)
	WHERE parked_for IS NOT NULL AND ended_at IS NULL;

-- What a new owner loads at once, the oldest first. Instead of, not beside, the index by shard.
CREATE INDEX txn_awake ON assent.txn (created_at, gid)
	WHERE ended_at IS NULL AND parked_for IS NULL;
DROP INDEX assent.txn_unfinished;
