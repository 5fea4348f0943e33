-- What an operator has ended with COMMIT PREPARED. It was not the coordinator's decision: who comes with
-- one is told so, and it is remembered for as long as what a branch has decided by itself, since the
-- work must not be done again. And it is seen whatever the isolation of the session is.

-- As in 004.
CREATE OR REPLACE FUNCTION assent_participant.settle(
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
	-- A snapshot of the whole transaction may be older than a commit by hand. The key tells: to take
	-- it is refused then (40001), and waits for work that still runs.
	IF b.decision IS NULL AND NOT prepared AND NOT finished
	   AND current_setting('transaction_isolation') <> 'read committed' THEN
		PERFORM assent_participant.take(
			p_cluster, p_namespace, p_gid, p_branch, 'pre_commit', 'settle');
		PERFORM assent_participant.give_back(
			p_cluster, p_namespace, p_gid, p_branch, 'pre_commit');
	END IF;

	made := CASE
		WHEN b.decision IS NOT NULL THEN NULL
		WHEN finished THEN 'commit'
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
		-- The decision comes before COMMIT PREPARED: without one, it was somebody else's.
		IF finished THEN
			p_why := 'the prepared transaction was committed by hand';
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

INSERT INTO assent_participant.version (version) VALUES (7);
