-- Three-phase commit, and what it takes to finish a branch that nobody finishes.
--
-- What a branch has come to is said by its row, and by the prepared transaction:
--
--   decision   prepared   vouched_at
--   NULL       no                      asked, or working: nothing is promised that counts
--   NULL       yes        NULL         pre-committed
--   NULL       yes        set          vouched: a peer was told so, and may commit because of it
--   commit     yes, no                 committed; carried out as soon as the name is gone
--   abort      yes, no                 aborted, for ever
--
-- Each step from one line to another is made by `settle`, under the lock of the row, and committed
-- before it is carried out and before anybody hears of it. A transaction that is to be prepared never
-- touches this row: a poll would have to wait for it.

ALTER TABLE assent_participant.branch
	ADD COLUMN decision text COLLATE "C" CHECK (decision IN ('commit', 'abort')),
	ADD COLUMN decided_at timestamptz,
	ADD COLUMN heuristic text,      -- decided without the coordinator: why, and whom it reached
	ADD COLUMN vouched_at timestamptz,
	ADD COLUMN due_at timestamptz,  -- when the sweep looks at it; NULL under 2pc: vote_deadline_at
	ADD COLUMN peers text,          -- id=url,... of the other branches; NULL: not known
	ADD COLUMN on_timeout text COLLATE "C";

CREATE INDEX branch_by_name ON assent_participant.branch (prepared_name);
CREATE INDEX branch_by_due ON assent_participant.branch (due_at)
 WHERE mode = '3pc' AND decision IS NULL;

-- Whether this database has a prepared transaction of that name, at this moment: it is looked up in
-- shared memory, whatever the snapshot.
CREATE FUNCTION assent_participant.is_prepared(p_name text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
	RETURN EXISTS (SELECT FROM pg_prepared_xacts x
	                WHERE x.gid = p_name AND x.database = current_database());
END $$;

-- Whether the work has been committed: its barrier row is inside the prepared transaction.
CREATE FUNCTION assent_participant.has_committed(
	p_cluster text, p_namespace text, p_gid text, p_branch text
) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
	RETURN EXISTS (SELECT FROM assent_participant.barrier b
	                WHERE (b.cluster, b.namespace, b.gid, b.branch, b.op)
	                    = (p_cluster, p_namespace, p_gid, p_branch, 'pre_commit'));
END $$;

-- How can_commit and pre_commit find their branch, and record its facts. The sweep may look at it
-- in p_due_ms. Returns as `state`:
--   open            go on. It needs no flush: that of PREPARE TRANSACTION covers everything before
--                   it in the log, and a promise without it binds nobody
--   pre_committed   the same call was there before; its result is `body`
--   committed, aborted
--   late            after its deadline, and without a trace: refuse
CREATE FUNCTION assent_participant.open_branch(
	p_cluster text, p_namespace text, p_gid text, p_branch text, p_name text, p_lock_ms int,
	p_timeout_ms int, p_hold_ms int, p_due_ms int, p_on_timeout text, p_peers text,
	OUT state text, OUT heuristic text, OUT body bytea
) LANGUAGE plpgsql AS $$
DECLARE
	b assent_participant.branch;
	-- Before the row: whoever decides after this sees the name, too.
	prepared boolean := assent_participant.is_prepared(p_name);
BEGIN
	PERFORM set_config('lock_timeout', p_lock_ms || 'ms', true);
	PERFORM set_config('synchronous_commit', 'off', true);
	LOOP
		SELECT * INTO b FROM assent_participant.branch f
		 WHERE (f.cluster, f.namespace, f.gid, f.branch)
		     = (p_cluster, p_namespace, p_gid, p_branch) FOR UPDATE;
		heuristic := b.heuristic;
		IF b.decision IS NOT NULL THEN
			state := CASE b.decision WHEN 'commit' THEN 'committed' ELSE 'aborted' END;
		ELSIF prepared THEN
			state := 'pre_committed';
			body := b.result;
		ELSIF assent_participant.has_committed(p_cluster, p_namespace, p_gid, p_branch) THEN
			state := 'committed';
		ELSIF p_timeout_ms <= 0 THEN
			state := 'late';
		END IF;
		EXIT WHEN state IS NOT NULL;
		INSERT INTO assent_participant.branch AS f
			(cluster, namespace, gid, branch, mode, prepared_name, vote_deadline_at,
			 hold_ms, due_at, on_timeout, peers)
		VALUES (p_cluster, p_namespace, p_gid, p_branch, '3pc', p_name,
			now() + p_timeout_ms * interval '1 ms', p_hold_ms,
			now() + p_due_ms * interval '1 ms', p_on_timeout, p_peers)
		ON CONFLICT (cluster, namespace, gid, branch) DO UPDATE
		SET vote_deadline_at = excluded.vote_deadline_at, hold_ms = excluded.hold_ms,
		    due_at = greatest(f.due_at, excluded.due_at), on_timeout = excluded.on_timeout,
		    peers = coalesce(excluded.peers, f.peers)
		WHERE f.decision IS NULL;
		IF FOUND THEN
			state := 'open';
			RETURN;
		END IF;
	END LOOP;
END $$;

-- Everything that is decided about a branch, and everything that excludes something else, one after
-- the other under the lock of its row. p_wish is
--   keep     pre_commit, right after PREPARE TRANSACTION: yes, unless it was aborted meanwhile. The
--            hold time runs from here; p_result is kept for the call's repetition
--   commit   by decision; or, with p_why, without one
--   abort    by decision; or, with p_why, without one
--   intent   the coordinator would like to abort, and a branch that has vouched will not
--   poll     a peer asks: what is not pre-committed aborts, and what is vouches, before it answers
--   expire   nothing came after can_commit
-- What is not prepared has no other way than to abort, whatever the wish: a PREPARE TRANSACTION that
-- comes after the look at the name finds the decision when it wants to keep. Returns as `state`
-- committed, aborted, vouched or pre_committed; `prepared`: the name is there and still to be
-- finished; `finished`: the committed work has been seen.
CREATE FUNCTION assent_participant.settle(
	p_cluster text, p_namespace text, p_gid text, p_branch text, p_name text, p_lock_ms int,
	p_wish text, p_why text, p_result bytea,
	OUT state text, OUT heuristic text, OUT prepared boolean, OUT finished boolean
) LANGUAGE plpgsql AS $$
DECLARE
	b assent_participant.branch;
	made text;
BEGIN
	PERFORM set_config('lock_timeout', p_lock_ms || 'ms', true);
	LOOP
		SELECT * INTO b FROM assent_participant.branch f
		 WHERE (f.cluster, f.namespace, f.gid, f.branch)
		     = (p_cluster, p_namespace, p_gid, p_branch) FOR UPDATE;
		EXIT WHEN FOUND;
		INSERT INTO assent_participant.branch
			(cluster, namespace, gid, branch, mode, prepared_name, vote_deadline_at, hold_ms)
		VALUES (p_cluster, p_namespace, p_gid, p_branch, '3pc', p_name, now(), 0)
		ON CONFLICT DO NOTHING;
	END LOOP;
	prepared := assent_participant.is_prepared(p_name);
	finished := NOT prepared
	        AND assent_participant.has_committed(p_cluster, p_namespace, p_gid, p_branch);

	made := CASE
		WHEN b.decision IS NOT NULL THEN NULL
		WHEN finished THEN 'commit' -- by hand
		WHEN NOT prepared THEN 'abort'
		WHEN p_wish IN ('commit', 'abort') THEN p_wish
		WHEN p_wish = 'intent' AND b.vouched_at IS NULL THEN 'abort'
	END;
	IF made IS NOT NULL THEN
		-- A decision of the coordinator's to commit is durable there, and here with the COMMIT
		-- PREPARED that follows.
		IF made = 'commit' AND prepared AND p_why IS NULL THEN
			PERFORM set_config('synchronous_commit', 'off', true);
		END IF;
		b.decision := made;
		b.heuristic := p_why;
		-- Whoever decides carries it out; the sweep, if he dies.
		UPDATE assent_participant.branch f
		   SET decision = made, heuristic = p_why, decided_at = now(),
		       due_at = now() + interval '1 s'
		 WHERE (f.cluster, f.namespace, f.gid, f.branch)
		     = (p_cluster, p_namespace, p_gid, p_branch);
	ELSIF p_wish = 'poll' AND b.decision IS NULL AND b.vouched_at IS NULL THEN
		b.vouched_at := now();
		UPDATE assent_participant.branch f SET vouched_at = now()
		 WHERE (f.cluster, f.namespace, f.gid, f.branch)
		     = (p_cluster, p_namespace, p_gid, p_branch);
	ELSIF p_wish = 'keep' AND b.decision IS NULL THEN
		PERFORM set_config('synchronous_commit', 'off', true);
		UPDATE assent_participant.branch f
		   SET due_at = now() + f.hold_ms * interval '1 ms', result = p_result
		 WHERE (f.cluster, f.namespace, f.gid, f.branch)
		     = (p_cluster, p_namespace, p_gid, p_branch);
	END IF;
	heuristic := b.heuristic;
	state := CASE WHEN b.decision = 'commit' THEN 'committed'
	              WHEN b.decision = 'abort' THEN 'aborted'
	              WHEN b.vouched_at IS NOT NULL THEN 'vouched'
	              ELSE 'pre_committed' END;
END $$;

-- What is to be looked at now, at most p_limit branches, of one cluster or (NULL) of all: asked and
-- not gone on with in time; prepared and past its time; decided, and still prepared. Nobody else is
-- given them before p_retry_ms have passed.
CREATE FUNCTION assent_participant.claim_due(p_cluster text, p_limit int, p_retry_ms int)
RETURNS TABLE (
	cluster text, namespace text, gid text, branch text, mode text, decision text,
	prepared boolean, on_timeout text, peers text
) LANGUAGE sql AS $$
	WITH there AS MATERIALIZED (
		SELECT x.gid AS name FROM pg_prepared_xacts x
		 WHERE x.database = current_database() AND x.gid LIKE 'assent:%'
	), due AS (
		SELECT f.cluster, f.namespace, f.gid, f.branch, f.due_at AS at
		  FROM assent_participant.branch f
		 WHERE f.mode = '3pc' AND f.decision IS NULL AND f.due_at <= now()
		   AND f.cluster = coalesce(p_cluster, f.cluster)
		UNION
		SELECT f.cluster, f.namespace, f.gid, f.branch, coalesce(f.due_at, f.vote_deadline_at)
		  FROM there JOIN assent_participant.branch f ON f.prepared_name = there.name
		 WHERE coalesce(f.due_at, f.vote_deadline_at) <= now()
		   AND f.cluster = coalesce(p_cluster, f.cluster)
		 ORDER BY 5
		 LIMIT p_limit
	), mine AS (
		SELECT f.cluster, f.namespace, f.gid, f.branch
		  FROM assent_participant.branch f JOIN due USING (cluster, namespace, gid, branch)
		 WHERE coalesce(f.due_at, f.vote_deadline_at) <= now()
		   FOR UPDATE OF f SKIP LOCKED
	)
	UPDATE assent_participant.branch f SET due_at = now() + p_retry_ms * interval '1 ms'
	  FROM mine m
	 WHERE (f.cluster, f.namespace, f.gid, f.branch) = (m.cluster, m.namespace, m.gid, m.branch)
	RETURNING f.cluster, f.namespace, f.gid, f.branch, f.mode, f.decision,
		EXISTS (SELECT FROM there WHERE there.name = f.prepared_name), f.on_timeout, f.peers;
$$;

-- Prepared transactions in this database that bear our name, and that no row knows. The names come
-- first: a row is committed before its transaction is prepared.
CREATE FUNCTION assent_participant.orphans(p_cluster text) RETURNS SETOF text
LANGUAGE plpgsql AS $$
DECLARE
	names text[] := ARRAY(SELECT x.gid FROM pg_prepared_xacts x
	                       WHERE x.database = current_database()
	                         AND x.gid LIKE 'assent:' || coalesce(p_cluster, '%') || ':%');
BEGIN
	RETURN QUERY SELECT name FROM unnest(names) AS name
	 WHERE NOT EXISTS (SELECT FROM assent_participant.branch f WHERE f.prepared_name = name);
END $$;

INSERT INTO assent_participant.version (version) VALUES (4);
