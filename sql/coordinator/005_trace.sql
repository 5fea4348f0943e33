-- The submission's trace context (W3C traceparent), which its calls carry also after a restart.
ALTER TABLE assent.txn ADD COLUMN traceparent text COLLATE "C";
