-- The barrier for Try-Confirm-Cancel and sagas as well. Programs that were built before this file go
-- on calling the function `enter` of 001, with six parameters.

-- Takes the key of an operation for the call `p_by`: NULL when it was free, or whose call has it.
-- Waits for a transaction that is about to have it, up to lock_timeout.
CREATE FUNCTION assent_participant.take(
	p_cluster text, p_namespace text, p_gid text, p_branch text, p_op text, p_by text
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	maker text;
BEGIN
	LOOP
		INSERT INTO assent_participant.barrier (cluster, namespace, gid, branch, op, made_by)
		VALUES (p_cluster, p_namespace, p_gid, p_branch, p_op, p_by)
		ON CONFLICT DO NOTHING;
		IF FOUND THEN
			RETURN NULL;
		END IF;
		SELECT b.made_by INTO maker FROM assent_participant.barrier b
		 WHERE (b.cluster, b.namespace, b.gid, b.branch, b.op)
		     = (p_cluster, p_namespace, p_gid, p_branch, p_op);
		IF FOUND THEN
			RETURN maker;
		END IF;
	END LOOP;
END $$;

-- Gives back a key that this call has taken: what it refuses leaves no row.
CREATE FUNCTION assent_participant.give_back(
	p_cluster text, p_namespace text, p_gid text, p_branch text, p_op text
) RETURNS void LANGUAGE sql AS $$
	DELETE FROM assent_participant.barrier
	 WHERE (cluster, namespace, gid, branch, op)
	     = (p_cluster, p_namespace, p_gid, p_branch, p_op);
$$;

-- The barrier in one round trip, called inside the transaction that does the work. Whoever is at
-- the same branch is waited for, at most lock_ms. Returns:
--   run         the rows are made: do the work in this transaction
--   duplicate   done before: answer with status and body
--   empty       undoing what was never done: nothing to do, and it never will be done
--   shut_out    undone before it came: refuse
--   missing     a confirm whose try was not done: refuse
--   late        a first phase after its deadline, without a trace of it: refuse. Its row may have
--               been cleared away, and the work would be done twice
--   committed   a cancel of what was confirmed, and must not have been: refuse
-- confirmed tells a cancel that may come after a confirm, and runs, that the confirm had run.
-- Keys are taken in the order of the operations, so that no two calls wait for each other.
CREATE FUNCTION assent_participant.enter(
	p_cluster text, p_namespace text, p_gid text, p_branch text, p_op text, p_lock_ms int,
	p_late boolean, p_may_be_confirmed boolean,
	OUT verdict text, OUT status int, OUT body bytea, OUT confirmed boolean
) LANGUAGE plpgsql AS $$
DECLARE
	lock_before text := current_setting('lock_timeout');
	-- A one-phase commit is a prepare that ends committed: it takes the key that a rollback takes.
	own text := CASE p_op WHEN 'commit' THEN 'prepare' ELSE p_op END;
	first text := CASE p_op WHEN 'confirm' THEN 'try' WHEN 'cancel' THEN 'try'
	                        WHEN 'compensate' THEN 'action' END;
	maker text;
	done boolean := true;
BEGIN
	confirmed := false;
	PERFORM set_config('lock_timeout', p_lock_ms || 'ms', true);
	IF first IS NOT NULL THEN
		maker := assent_participant.take(p_cluster, p_namespace, p_gid, p_branch, first, p_op);
		done := coalesce(maker = first, false);
	END IF;
	IF p_op = 'confirm' AND NOT done THEN
		verdict := CASE WHEN maker IS NULL THEN 'missing' ELSE 'shut_out' END;
		IF maker IS NULL THEN
			PERFORM assent_participant.give_back(p_cluster, p_namespace, p_gid, p_branch, first);
		END IF;
	ELSIF p_op = 'cancel' AND done THEN
		-- Shuts out a confirm that comes later, and finds one that came before.
		maker := assent_participant.take(
			p_cluster, p_namespace, p_gid, p_branch, 'confirm', p_op);
		confirmed := coalesce(maker = 'confirm', false);
		IF confirmed AND NOT p_may_be_confirmed THEN
			verdict := 'committed';
		END IF;
	END IF;
	IF verdict IS NULL THEN
		maker := assent_participant.take(p_cluster, p_namespace, p_gid, p_branch, own, p_op);
		IF maker IS NULL AND p_late THEN
			PERFORM assent_participant.give_back(p_cluster, p_namespace, p_gid, p_branch, own);
			verdict := 'late';
		ELSIF maker IS NULL THEN
			verdict := CASE WHEN done THEN 'run' ELSE 'empty' END;
		ELSIF maker <> p_op AND maker IN ('rollback', 'cancel', 'compensate') THEN
			verdict := 'shut_out';
		ELSE
			verdict := 'duplicate';
			SELECT b.status, b.body INTO status, body FROM assent_participant.barrier b
			 WHERE (b.cluster, b.namespace, b.gid, b.branch, b.op)
			     = (p_cluster, p_namespace, p_gid, p_branch, own);
		END IF;
	END IF;
	PERFORM set_config('lock_timeout', lock_before, true);
END $$;

INSERT INTO assent_participant.version (version) VALUES (2);
