-- The names of sagas, and the results of steps that later steps are built from: each is written in
-- the flush that says that its step is done. Numbered like the branches, from 0.
INSERT INTO assent.name (kind, number, name) VALUES
	('mode', 3, 'saga'),
	('state', 13, 'running'),
	('state', 14, 'compensating'),
	('branch', 10, 'done'),
	('op', 7, 'action'),
	('op', 8, 'compensate');

CREATE TABLE assent.result (
	gid text COLLATE "C" NOT NULL,
	n smallint NOT NULL,
	body bytea NOT NULL,
	PRIMARY KEY (gid, n)
);

-- All of them in one value: each with its number (2 bytes) and its length (4 bytes, both in network
-- order) before it. NULL for none.
CREATE FUNCTION assent.results_of(wanted text) RETURNS bytea LANGUAGE sql STABLE AS $$
	SELECT string_agg(int2send(n) || int4send(length(body)) || body, ''::bytea ORDER BY n)
	FROM assent.result WHERE gid = wanted COLLATE "C"
$$;
