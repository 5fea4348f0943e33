-- What is closed is forgotten after the retention, like the transactions that it was about. Finding it
-- must not cost a walk over all alerts.
CREATE INDEX alert_closed ON assent.alert (closed_at) WHERE closed_at IS NOT NULL;
