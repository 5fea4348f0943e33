-- What a person should look at. An alert stands for one cause (kind, participant and error); its
-- members are the branches concerned. It closes itself when its last open member is through, unless
-- it is lasting: then only a person closes it.
--
-- Written by the journal, in the flush that carries the record which the alert is about: neither
-- can be in the database without the other.

CREATE TABLE assent.alert (
	id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
	kind text NOT NULL,
	severity text NOT NULL CHECK (severity IN ('warning', 'error', 'critical')),
	participant text NOT NULL,
	error text NOT NULL,
	gid text COLLATE "C" NOT NULL, -- of the newest occurrence, like branch and detail
	branch text COLLATE "C" NOT NULL,
	detail text,
	count bigint NOT NULL,
	n_open bigint NOT NULL CHECK (n_open >= 0),
	first_at timestamptz NOT NULL,
	last_at timestamptz NOT NULL,
	closed_at timestamptz
) WITH (fillfactor = 50);
-- One open alert per cause. It finds the open ones among the many that are closed, too.
CREATE UNIQUE INDEX alert_open ON assent.alert (kind, participant, error) WHERE closed_at IS NULL;

CREATE TABLE assent.alert_member (
	gid text COLLATE "C" NOT NULL,
	branch text COLLATE "C" NOT NULL,
	kind text NOT NULL,
	alert bigint NOT NULL,
	lasting boolean NOT NULL,
	raised_at timestamptz NOT NULL,
	closed_at timestamptz,
	PRIMARY KEY (gid, branch, kind)
);
CREATE INDEX alert_member_open ON assent.alert_member (alert, raised_at) WHERE closed_at IS NULL;
CREATE INDEX alert_member_all ON assent.alert_member (alert, raised_at);
