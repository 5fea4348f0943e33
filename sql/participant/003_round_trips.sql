-- What a prepare asks before its work, for a branch of which there is no trace yet. Both are sent
-- at once: the facts are committed by themselves, then a transaction begins and takes the key. If it
-- does not get the key, the branch is not new, and begin_branch tells what is known.

-- The facts, as begin_branch records them. They need no flush of their own.
CREATE FUNCTION assent_participant.note_branch(
	p_cluster text, p_namespace text, p_gid text, p_branch text, p_mode text,
	p_name text, p_timeout_ms int, p_hold_ms int
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	ignored text;
BEGIN
	ignored := set_config('synchronous_commit', 'off', true);
	INSERT INTO assent_participant.branch
		(cluster, namespace, gid, branch, mode, prepared_name, vote_deadline_at, hold_ms)
	VALUES (p_cluster, p_namespace, p_gid, p_branch, p_mode, p_name,
		now() + p_timeout_ms * interval '1 ms', p_hold_ms)
	ON CONFLICT DO NOTHING;
END $$;

-- Takes the prepare's key in the transaction that has just begun, waiting at most lock_ms, and sets
-- the limits of the work that follows. False: somebody has the key already.
CREATE FUNCTION assent_participant.take_prepare(
	p_cluster text, p_namespace text, p_gid text, p_branch text, p_lock_ms int, p_work_ms int
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	ignored text;
BEGIN
	ignored := set_config('lock_timeout', p_lock_ms::text, true);
	INSERT INTO assent_participant.barrier (cluster, namespace, gid, branch, op, made_by)
	VALUES (p_cluster, p_namespace, p_gid, p_branch, 'prepare', 'prepare')
	ON CONFLICT DO NOTHING;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	ignored := set_config('lock_timeout', p_work_ms::text, true);
	ignored := set_config('statement_timeout', p_work_ms::text, true);
	RETURN true;
END $$;

INSERT INTO assent_participant.version (version) VALUES (3);
