-- Interactive transactions: branches that join after the creation, each as its request's body
-- came, byte for byte. Numbered from 0, behind those of the submission.
CREATE TABLE assent.enlisted (
	gid text COLLATE "C" NOT NULL,
	n smallint NOT NULL,
	branch bytea NOT NULL,
	PRIMARY KEY (gid, n)
);

-- All of them in one value: each with its length (4 bytes, network order) before it. NULL for none.
CREATE FUNCTION assent.enlisted_of(wanted text) RETURNS bytea LANGUAGE sql STABLE AS $$
	SELECT string_agg(int4send(length(branch)) || branch, ''::bytea ORDER BY n)
	FROM assent.enlisted WHERE gid = wanted COLLATE "C"
$$;

-- For people: a stored body as json. A payload may hold \u0000 or half a surrogate pair, which
-- PostgreSQL will not decode; they are shown as question marks.
CREATE FUNCTION assent.readable(body bytea) RETURNS json LANGUAGE sql IMMUTABLE AS $$
	SELECT regexp_replace(convert_from(body, 'UTF8'),
		'(?<!\\)((?:\\\\)*)\\u(?:0000|[dD][89a-fA-F][0-9a-fA-F]{2})', '\1?', 'g')::json
$$;

CREATE OR REPLACE VIEW assent.branches AS
SELECT b.gid, b.n, b.value ->> 'id' AS branch, b.value ->> 'participant' AS participant,
	s.name AS state
FROM (
	SELECT t.gid, t.branch_state, (e.n - 1)::smallint AS n, e.value
	FROM assent.txn t
	CROSS JOIN LATERAL json_array_elements(assent.readable(t.submission) -> 'branches')
		WITH ORDINALITY AS e(value, n)
	UNION ALL
	SELECT t.gid, t.branch_state, (e.n + coalesce(
			json_array_length(assent.readable(t.submission) -> 'branches'), 0))::smallint,
		assent.readable(e.branch)
	FROM assent.txn t
	JOIN assent.enlisted e ON e.gid = t.gid
) AS b
LEFT JOIN assent.name s ON s.kind = 'branch' AND s.number = get_byte(b.branch_state, b.n::integer);
