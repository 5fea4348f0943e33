-- The names of try-confirm-cancel.
INSERT INTO assent.name (kind, number, name) VALUES
	('mode', 2, 'tcc'),
	('state', 10, 'trying'),
	('state', 11, 'confirming'),
	('state', 12, 'cancelling'),
	('branch', 8, 'tried'),
	('branch', 9, 'confirmed'),
	('op', 4, 'try'),
	('op', 5, 'confirm'),
	('op', 6, 'cancel');
