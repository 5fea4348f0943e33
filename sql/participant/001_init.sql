-- What libassent needs in a service's own database. Applied by assent_participant_install(), or
-- by hand inside one transaction: it registers itself at its end.

CREATE SCHEMA assent_participant;

CREATE TABLE assent_participant.version (
	version int PRIMARY KEY,
	applied_at timestamptz NOT NULL DEFAULT now()
);

-- The barrier: one row per operation of a branch that has been done or shut out. made_by is the
-- operation whose call inserted the row: where it undoes (cancel, compensate, rollback), the
-- operation named by op was not done and never will be. status and body are the stored reply of
-- a call that is repeated; NULL stands for 200 and an empty body.
CREATE TABLE assent_participant.barrier (
	cluster text COLLATE "C" NOT NULL,
	namespace text COLLATE "C" NOT NULL,
	gid text COLLATE "C" NOT NULL,
	branch text COLLATE "C" NOT NULL,
	op text COLLATE "C" NOT NULL,
	made_by text COLLATE "C" NOT NULL,
	status int,
	body bytea,
	created_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (cluster, namespace, gid, branch, op)
);

-- Facts about a branch of a two-phase commit, committed before its work: the barrier row made
-- inside a prepared transaction is invisible until the end, these are not. prepared_name leads
-- from pg_prepared_xacts back to the gid (long names are hashed).
CREATE TABLE assent_participant.branch (
	cluster text COLLATE "C" NOT NULL,
	namespace text COLLATE "C" NOT NULL,
	gid text COLLATE "C" NOT NULL,
	branch text COLLATE "C" NOT NULL,
	mode text COLLATE "C" NOT NULL,
	prepared_name text COLLATE "C" NOT NULL,
	vote_deadline_at timestamptz NOT NULL,
	hold_ms int NOT NULL,
	result bytea,
	created_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (cluster, namespace, gid, branch)
);

-- The barrier in one round trip, called inside the transaction that does the work. A concurrent
-- duplicate waits in the INSERT for the end of that transaction, at most lock_ms. Returns:
--   run         the rows are made: do the work in this transaction
--   duplicate   done before: answer with status and body
--   empty       undoing what was never done: nothing to do, and it never will be done
--   shut_out    undone before it came: refuse
--   missing     a confirm whose try was not done: refuse
-- confirmed tells a cancel that runs that the confirm had run.
CREATE FUNCTION assent_participant.enter(
	p_cluster text, p_namespace text, p_gid text, p_branch text, p_op text, p_lock_ms int,
	OUT verdict text, OUT status int, OUT body bytea, OUT confirmed boolean
) LANGUAGE plpgsql AS $$
DECLARE
	lock_before text := current_setting('lock_timeout');
	-- A one-phase commit is a prepare that ends committed: it takes the key that a rollback takes.
	own text := CASE p_op WHEN 'commit' THEN 'prepare' ELSE p_op END;
	undone text := CASE p_op WHEN 'cancel' THEN 'try' WHEN 'compensate' THEN 'action' END;
	maker text;
	empty boolean := false;
BEGIN
	confirmed := false;
	IF p_op = 'confirm' THEN
		SELECT b.made_by INTO maker FROM assent_participant.barrier b
		 WHERE (b.cluster, b.namespace, b.gid, b.branch, b.op)
		     = (p_cluster, p_namespace, p_gid, p_branch, 'try');
		IF maker IS DISTINCT FROM 'try' THEN
			verdict := 'missing';
			RETURN;
		END IF;
	END IF;

	PERFORM set_config('lock_timeout', p_lock_ms || 'ms', true);
	IF undone IS NOT NULL THEN
		-- The undone operation's key comes before the own one: whoever holds it is either done
		-- when this INSERT returns, or finds it taken.
		INSERT INTO assent_participant.barrier (cluster, namespace, gid, branch, op, made_by)
		VALUES (p_cluster, p_namespace, p_gid, p_branch, undone, p_op)
		ON CONFLICT DO NOTHING;
		empty := FOUND;
	END IF;
	IF p_op = 'cancel' THEN
		INSERT INTO assent_participant.barrier (cluster, namespace, gid, branch, op, made_by)
		VALUES (p_cluster, p_namespace, p_gid, p_branch, 'confirm', p_op)
		ON CONFLICT DO NOTHING;
		confirmed := NOT FOUND;
	END IF;
	INSERT INTO assent_participant.barrier (cluster, namespace, gid, branch, op, made_by)
	VALUES (p_cluster, p_namespace, p_gid, p_branch, own, p_op)
	ON CONFLICT DO NOTHING;
	IF FOUND THEN
		verdict := CASE WHEN empty THEN 'empty' ELSE 'run' END;
	ELSE
		SELECT b.made_by, b.status, b.body INTO STRICT maker, status, body
		  FROM assent_participant.barrier b
		 WHERE (b.cluster, b.namespace, b.gid, b.branch, b.op)
		     = (p_cluster, p_namespace, p_gid, p_branch, own);
		verdict := 'duplicate';
		IF maker <> p_op AND maker IN ('rollback', 'cancel', 'compensate') THEN
			verdict := 'shut_out';
		END IF;
	END IF;
	PERFORM set_config('lock_timeout', lock_before, true);
END $$;

-- The reply to give to repetitions of the call that `enter` let run.
CREATE FUNCTION assent_participant.store(
	p_cluster text, p_namespace text, p_gid text, p_branch text, p_op text,
	p_status int, p_body bytea
) RETURNS void LANGUAGE sql AS $$
	UPDATE assent_participant.barrier SET status = p_status, body = p_body
	 WHERE (cluster, namespace, gid, branch, op) = (p_cluster, p_namespace, p_gid, p_branch,
		CASE p_op WHEN 'commit' THEN 'prepare' ELSE p_op END);
$$;

-- How a prepare finds its branch, outside a transaction block: prepared, or decided (made_by),
-- or new, and then its facts are recorded. They need no flush of their own: the flush of the
-- PREPARE TRANSACTION that follows covers everything before it in the log.
CREATE FUNCTION assent_participant.begin_branch(
	p_cluster text, p_namespace text, p_gid text, p_branch text, p_mode text,
	p_name text, p_timeout_ms int, p_hold_ms int,
	OUT prepared boolean, OUT made_by text, OUT body bytea
) LANGUAGE plpgsql AS $$
BEGIN
	prepared := EXISTS (SELECT FROM pg_prepared_xacts x
	                     WHERE x.gid = p_name AND x.database = current_database());
	IF prepared THEN
		SELECT b.result INTO body FROM assent_participant.branch b
		 WHERE (b.cluster, b.namespace, b.gid, b.branch)
		     = (p_cluster, p_namespace, p_gid, p_branch);
		RETURN;
	END IF;
	SELECT b.made_by, b.body INTO made_by, body FROM assent_participant.barrier b
	 WHERE (b.cluster, b.namespace, b.gid, b.branch, b.op)
	     = (p_cluster, p_namespace, p_gid, p_branch, 'prepare');
	IF FOUND OR p_timeout_ms <= 0 THEN
		RETURN;
	END IF;
	PERFORM set_config('synchronous_commit', 'off', true);
	INSERT INTO assent_participant.branch
		(cluster, namespace, gid, branch, mode, prepared_name, vote_deadline_at, hold_ms)
	VALUES (p_cluster, p_namespace, p_gid, p_branch, p_mode, p_name,
		now() + p_timeout_ms * interval '1 ms', p_hold_ms)
	ON CONFLICT DO NOTHING;
END $$;

-- A rollback's tombstone: takes the prepare's key, or tells who had it. Waits at most lock_ms for
-- a transaction that holds it, because a prepared one would hold it for ever.
CREATE FUNCTION assent_participant.bury(
	p_cluster text, p_namespace text, p_gid text, p_branch text, p_lock_ms int
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	maker text;
BEGIN
	PERFORM set_config('lock_timeout', p_lock_ms || 'ms', true);
	INSERT INTO assent_participant.barrier (cluster, namespace, gid, branch, op, made_by)
	VALUES (p_cluster, p_namespace, p_gid, p_branch, 'prepare', 'rollback')
	ON CONFLICT DO NOTHING;
	SELECT b.made_by INTO STRICT maker FROM assent_participant.barrier b
	 WHERE (b.cluster, b.namespace, b.gid, b.branch, b.op)
	     = (p_cluster, p_namespace, p_gid, p_branch, 'prepare');
	RETURN maker;
END $$;

INSERT INTO assent_participant.version (version) VALUES (1);
