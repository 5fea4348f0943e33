-- What lists and retention need. Everything a list is asked for is found by an index or by a
-- bounded walk along created_at; no column that changes before the end is indexed, so that the
-- second and later writes of a transaction stay HOT.

-- Signs the cursors of lists.
ALTER TABLE assent.cluster ADD COLUMN cursor_key bytea NOT NULL
	DEFAULT sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));

-- Two small halves instead of one index: what is unfinished is found among millions that are not,
-- and a transaction is in one half at a time.
CREATE INDEX txn_open ON assent.txn (created_at, gid) WHERE ended_at IS NULL;
CREATE INDEX txn_ended ON assent.txn (created_at, gid) WHERE ended_at IS NOT NULL;

-- The first 8 bytes of the SHA-256 of each participant's address, one after the other: 16 bytes
-- for two branches, where an index on addresses would cost more than the rest of the row.
ALTER TABLE assent.txn ADD COLUMN participants bytea NOT NULL DEFAULT ''::bytea;

-- One row per label; nothing for a transaction without.
CREATE TABLE assent.label (
	gid text COLLATE "C" NOT NULL,
	name text COLLATE "C" NOT NULL,
	value text COLLATE "C" NOT NULL,
	created_at timestamptz NOT NULL,
	PRIMARY KEY (gid, name)
);
CREATE INDEX label_value ON assent.label (name, value, created_at, gid);

-- What is there already.
INSERT INTO assent.label (gid, name, value, created_at)
SELECT t.gid, l.key, l.value, t.created_at
FROM assent.txn t CROSS JOIN LATERAL json_each_text(
	coalesce(assent.readable(t.submission) -> 'labels', '{}')) AS l
ON CONFLICT DO NOTHING;
UPDATE assent.txn t SET participants = coalesce((
	SELECT string_agg(substr(sha256(convert_to(b.value ->> 'participant', 'UTF8')), 1, 8), ''::bytea)
	FROM json_array_elements(assent.readable(t.submission) -> 'branches') AS b), '');

ALTER TABLE assent.enlisted ADD COLUMN participant bytea NOT NULL DEFAULT ''::bytea;
UPDATE assent.enlisted SET participant =
	substr(sha256(convert_to(assent.readable(branch) ->> 'participant', 'UTF8')), 1, 8);

-- Drops the history of days (UTC) that ended before `cutoff`, one partition per call, the oldest
-- first, and says whether there was one. It waits for nobody longer than 100 ms: whoever writes
-- history waits behind it meanwhile.
CREATE FUNCTION assent.history_drop(cutoff timestamptz) RETURNS boolean LANGUAGE plpgsql
SET lock_timeout = '100ms' AS $$
DECLARE
	oldest text;
BEGIN
	SELECT c.relname INTO oldest FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
	WHERE i.inhparent = 'assent.history'::regclass AND c.relname ~ '^history_[0-9]{8}$'
	AND (to_date(substr(c.relname, 9), 'YYYYMMDD') + 1)::timestamp AT TIME ZONE 'UTC' < cutoff
	ORDER BY c.relname LIMIT 1;
	IF oldest IS NULL THEN
		RETURN false;
	END IF;
	EXECUTE format('DROP TABLE assent.%I', oldest);
	RETURN true;
END $$;
