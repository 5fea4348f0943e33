-- The names of three-phase commit.
INSERT INTO assent.name (kind, number, name) VALUES
	('mode', 4, '3pc'),
	('state', 15, 'asking'),
	('state', 16, 'pre_committing'),
	('state', 17, 'pre_aborting'),
	('branch', 11, 'can_commit'),
	('branch', 12, 'pre_committed'),
	('branch', 13, 'vouched'),
	('op', 9, 'can_commit'),
	('op', 10, 'pre_commit'),
	('op', 11, 'do_commit'),
	('op', 12, 'abort'),
	('op', 13, 'pre_abort'),
	('verdict', 16, 'vouched');
