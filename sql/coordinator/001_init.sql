-- The coordinator's tables. Applied by `assentd migrate` inside one transaction.
--
-- Numbers in mode, state, outcome and branch_state are those of coordinator/core/step.h and never
-- change; assent.name gives their names, the views at the end use them.

CREATE TABLE assent.cluster (
	only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
	id text NOT NULL CHECK (id ~ '^[0-9a-f]{8}$')
);
INSERT INTO assent.cluster (id) VALUES (substr(replace(gen_random_uuid()::text, '-', ''), 1, 8));

-- A node owns a shard while it holds the advisory lock on it in the session it writes with. The
-- epoch is raised at each take-over and joined by every statement of the owner, so that a former
-- owner writes nothing, also after a fail-over that lost the lock.
CREATE TABLE assent.shard (
	shard smallint PRIMARY KEY,
	epoch bigint NOT NULL DEFAULT 0,
	node text,
	taken_at timestamptz
);
INSERT INTO assent.shard (shard) SELECT generate_series(0, 63);

-- One row per global transaction: its submission as it came, byte for byte, and what is decided.
-- The second and later writes are HOT as long as ended_at stays NULL: no index sees them.
CREATE TABLE assent.txn (
	gid text COLLATE "C" PRIMARY KEY,
	shard smallint NOT NULL,
	epoch bigint NOT NULL,
	mode smallint NOT NULL,
	state smallint NOT NULL,
	outcome smallint NOT NULL,
	created_at timestamptz NOT NULL,
	deadline_at timestamptz NOT NULL,
	decided_at timestamptz,
	ended_at timestamptz,
	branch_state bytea NOT NULL,
	body_sha256 bytea NOT NULL,
	submission bytea NOT NULL
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX txn_unfinished ON assent.txn (shard, gid) WHERE ended_at IS NULL;

-- One row per call to a participant. Written lazily: a crash may lose the last 20 ms of it.
CREATE TABLE assent.history (
	gid text COLLATE "C" NOT NULL,
	branch text COLLATE "C" NOT NULL,
	op smallint NOT NULL,
	attempt integer NOT NULL,
	started_at timestamptz NOT NULL,
	ended_at timestamptz NOT NULL,
	status smallint,
	verdict smallint NOT NULL,
	error text,
	node text NOT NULL
) PARTITION BY RANGE (started_at);
CREATE INDEX history_gid ON assent.history (gid, started_at);
CREATE TABLE assent.history_other PARTITION OF assent.history DEFAULT;

-- Makes the partitions of today (UTC) and the next `ahead` days. A day for which rows already lie
-- in the default partition is left to it.
CREATE FUNCTION assent.history_prepare(ahead integer) RETURNS void LANGUAGE plpgsql
SET lock_timeout = '500ms' AS $$
DECLARE
	day date;
	name text;
BEGIN
	FOR i IN 0 .. ahead LOOP
		day := (now() AT TIME ZONE 'UTC')::date + i;
		name := 'history_' || to_char(day, 'YYYYMMDD');
		CONTINUE WHEN to_regclass('assent.' || name) IS NOT NULL;
		CONTINUE WHEN EXISTS (SELECT FROM assent.history_other
			WHERE started_at >= day::timestamp AT TIME ZONE 'UTC'
			AND started_at < (day + 1)::timestamp AT TIME ZONE 'UTC');
		EXECUTE format('CREATE TABLE assent.%I PARTITION OF assent.history FOR VALUES FROM (%L) TO (%L)',
			name, day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
	END LOOP;
END $$;

CREATE TABLE assent.name (
	kind text NOT NULL,
	number smallint NOT NULL,
	name text NOT NULL,
	PRIMARY KEY (kind, number)
);
INSERT INTO assent.name (kind, number, name) VALUES
	('mode', 1, '2pc'),
	('state', 1, 'active'),
	('state', 2, 'preparing'),
	('state', 3, 'committing'),
	('state', 4, 'aborting'),
	('state', 5, 'committed'),
	('state', 6, 'aborted'),
	('state', 7, 'mixed'),
	('state', 8, 'one_phase'),
	('state', 9, 'arbitrating'),
	('outcome', 0, 'pending'),
	('outcome', 1, 'committed'),
	('outcome', 2, 'aborted'),
	('outcome', 3, 'mixed'),
	('branch', 0, 'pending'),
	('branch', 1, 'prepared'),
	('branch', 2, 'read_only'),
	('branch', 3, 'refused'),
	('branch', 4, 'committed'),
	('branch', 5, 'aborted'),
	('branch', 6, 'heuristic_committed'),
	('branch', 7, 'heuristic_aborted'),
	('op', 1, 'prepare'),
	('op', 2, 'commit'),
	('op', 3, 'rollback'),
	('verdict', 1, 'yes'),
	('verdict', 2, 'read_only'),
	('verdict', 3, 'no'),
	('verdict', 4, 'done'),
	('verdict', 5, 'found_committed'),
	('verdict', 6, 'found_aborted'),
	('verdict', 7, 'working'),
	('verdict', 8, 'unknown'),
	('verdict', 9, 'contract');

CREATE VIEW assent.transactions AS
SELECT t.gid, m.name AS mode, s.name AS state, o.name AS outcome,
	t.created_at, t.deadline_at, t.decided_at, t.ended_at, t.shard
FROM assent.txn t
LEFT JOIN assent.name m ON m.kind = 'mode' AND m.number = t.mode
LEFT JOIN assent.name s ON s.kind = 'state' AND s.number = t.state
LEFT JOIN assent.name o ON o.kind = 'outcome' AND o.number = t.outcome;

-- A payload may hold \u0000 or half a surrogate pair, which PostgreSQL's json functions refuse: they
-- are replaced first. No identifier and no address contains them.
CREATE VIEW assent.branches AS
SELECT t.gid, (b.n - 1)::smallint AS n, b.value ->> 'id' AS branch,
	b.value ->> 'participant' AS participant, s.name AS state
FROM assent.txn t
CROSS JOIN LATERAL json_array_elements(regexp_replace(convert_from(t.submission, 'UTF8'),
	'(?<!\\)((?:\\\\)*)\\u(?:0000|[dD][89a-fA-F][0-9a-fA-F]{2})', '\1?', 'g')::json -> 'branches')
	WITH ORDINALITY AS b(value, n)
LEFT JOIN assent.name s ON s.kind = 'branch' AND s.number = get_byte(t.branch_state, (b.n - 1)::integer);

CREATE VIEW assent.attempts AS
SELECT h.gid, h.branch, o.name AS op, h.attempt, h.started_at, h.ended_at, h.status,
	v.name AS verdict, h.error, h.node
FROM assent.history h
LEFT JOIN assent.name o ON o.kind = 'op' AND o.number = h.op
LEFT JOIN assent.name v ON v.kind = 'verdict' AND v.number = h.verdict;
