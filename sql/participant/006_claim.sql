-- claim_due reads no more branches than it takes: after an outage thousands may be due at once, and
-- each batch looked at all of them.

CREATE OR REPLACE FUNCTION assent_participant.claim_due(p_cluster text, p_limit int, p_retry_ms int)
RETURNS TABLE (
	cluster text, namespace text, gid text, branch text, mode text, decision text,
	prepared boolean, on_timeout text, peers text
) LANGUAGE sql AS $$
	WITH there AS MATERIALIZED (
		SELECT x.gid AS name FROM pg_prepared_xacts x
		 WHERE x.database = current_database() AND x.gid LIKE 'assent:%'
	), due AS (
		(SELECT f.cluster, f.namespace, f.gid, f.branch, f.due_at AS at
		   FROM assent_participant.branch f
		  WHERE f.mode = '3pc' AND f.decision IS NULL AND f.due_at <= now()
		    AND f.cluster = coalesce(p_cluster, f.cluster)
		  ORDER BY f.due_at LIMIT p_limit)
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

INSERT INTO assent_participant.version (version) VALUES (6);
