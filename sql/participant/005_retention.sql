-- Clearing away what is known of branches that ended long ago.
--
-- How long ago is not said by created_at: the row of a branch that was prepared for a week, and has
-- just been committed, is a week old, and its commit may be repeated. Nothing is written when a
-- transaction ends. So now and then a mark keeps what had ended by then, as a snapshot, and a row
-- goes when it was visible to a mark that is old enough.

CREATE INDEX barrier_by_age ON assent_participant.barrier (created_at);
CREATE INDEX branch_by_age ON assent_participant.branch (created_at);

CREATE TABLE assent_participant.mark (
	at timestamptz PRIMARY KEY, -- not before the snapshot
	seen pg_snapshot NOT NULL
);

-- Clears away at most p_batch branches of which nothing has happened for p_older_than_s seconds, and
-- says how many there were; p_batch when there may be more. What stays, however old:
--   a branch that is prepared: its row is not to be seen, and its facts lead to it
--   a try that was neither confirmed nor cancelled: the cancel would find nothing to give back
--   a branch of a three-phase commit without a decision, or with one that it took by itself: a
--   coordinator that was away for longer still has to hear of it, and would have the work done again
-- All rows of a branch go together: without its try, a repeated confirm would be told that there was
-- none. One at a time does it, others do nothing.
CREATE FUNCTION assent_participant.purge(p_older_than_s int, p_batch int) RETURNS int
LANGUAGE plpgsql AS $$
DECLARE
	edge timestamptz := now() - p_older_than_s * interval '1 s';
	-- Rows know 32 bits of their transaction's number: age() counts back from this one.
	latest bigint := pg_current_xact_id()::text::bigint;
	old pg_snapshot;
	n int;
	n_facts int;
BEGIN
	IF NOT pg_try_advisory_xact_lock(4702111234474983746) THEN
		RETURN 0;
	END IF;
	-- What is lost of it in a crash is done again.
	PERFORM set_config('synchronous_commit', 'off', true);
	-- A batch takes less time than to compile it.
	PERFORM set_config('jit', 'off', true);
	-- The latest that is old enough, and no more than some twenty that will be.
	SELECT m.seen INTO old FROM assent_participant.mark m
	 WHERE m.at <= edge ORDER BY m.at DESC LIMIT 1;
	DELETE FROM assent_participant.mark WHERE at <
		(SELECT max(m.at) FROM assent_participant.mark m WHERE m.at <= edge);
	INSERT INTO assent_participant.mark (at, seen)
	SELECT clock_timestamp(), pg_current_snapshot()
	 WHERE NOT EXISTS (SELECT FROM assent_participant.mark m
	                    WHERE m.at > now() - p_older_than_s * interval '1 s' / 20);
	IF old IS NULL THEN
		RETURN 0;
	END IF;

	-- Subqueries of one value, because they are never answered by reading the whole table.
	WITH picked AS MATERIALIZED (
		SELECT b.cluster, b.namespace, b.gid, b.branch
		  FROM assent_participant.barrier b
		 WHERE b.created_at < edge
		   AND (b.op <> 'try' OR b.made_by <> 'try'
		        OR (SELECT true FROM assent_participant.barrier o
		             WHERE (o.cluster, o.namespace, o.gid, o.branch)
		                 = (b.cluster, b.namespace, b.gid, b.branch)
		               AND o.op IN ('confirm', 'cancel')
		             LIMIT 1))
		   AND (SELECT true FROM assent_participant.barrier o
		         WHERE (o.cluster, o.namespace, o.gid, o.branch)
		             = (b.cluster, b.namespace, b.gid, b.branch)
		           AND (o.created_at >= edge OR NOT pg_visible_in_snapshot(
		                greatest(3, latest - age(o.xmin))::text::xid8, old))
		         LIMIT 1) IS NULL
		   AND (SELECT true FROM assent_participant.branch o
		         WHERE (o.cluster, o.namespace, o.gid, o.branch)
		             = (b.cluster, b.namespace, b.gid, b.branch)
		           AND o.mode = '3pc'
		           AND (o.decision IS NULL OR o.heuristic IS NOT NULL)) IS NULL
		 ORDER BY b.created_at LIMIT p_batch
	), gone AS MATERIALIZED (
		SELECT DISTINCT p.cluster, p.namespace, p.gid, p.branch FROM picked p
	), facts AS (
		DELETE FROM assent_participant.branch f USING gone g
		 WHERE (f.cluster, f.namespace, f.gid, f.branch)
		     = (g.cluster, g.namespace, g.gid, g.branch)
	), rows AS (
		DELETE FROM assent_participant.barrier b USING gone g
		 WHERE (b.cluster, b.namespace, b.gid, b.branch)
		     = (g.cluster, g.namespace, g.gid, g.branch)
	)
	SELECT CASE WHEN (SELECT count(*) FROM picked) = p_batch THEN p_batch
	            ELSE (SELECT count(*) FROM gone) END INTO n;

	-- Facts without a row: what was refused, only read, or aborted under 3pc. The names are looked
	-- at first: a branch that is committed between the two has a row, or will have.
	WITH names AS MATERIALIZED (
		SELECT x.gid AS name FROM pg_prepared_xacts x WHERE x.database = current_database()
	), gone AS (
		SELECT f.cluster, f.namespace, f.gid, f.branch
		  FROM assent_participant.branch f
		 WHERE f.created_at < edge AND pg_visible_in_snapshot(
			greatest(3, latest - age(f.xmin))::text::xid8, old)
		   AND f.prepared_name NOT IN (SELECT name FROM names)
		   AND (f.mode <> '3pc' OR (f.decision IS NOT NULL AND f.heuristic IS NULL))
		   AND (SELECT true FROM assent_participant.barrier b
		         WHERE (b.cluster, b.namespace, b.gid, b.branch)
		             = (f.cluster, f.namespace, f.gid, f.branch)
		         LIMIT 1) IS NULL
		 ORDER BY f.created_at LIMIT p_batch
	)
	DELETE FROM assent_participant.branch f USING gone g
	 WHERE (f.cluster, f.namespace, f.gid, f.branch)
	     = (g.cluster, g.namespace, g.gid, g.branch);
	GET DIAGNOSTICS n_facts = ROW_COUNT;
	RETURN greatest(n, n_facts);
END $$;

INSERT INTO assent_participant.version (version) VALUES (5);
