-- When an index is asked for, or asked for again, without which something that the endpoint offers may stay disabled: until
-- it has answered one. Null: it is owed none. `next_index_at` is by schedule only, and as good as now where it was at once.
ALTER TABLE endpoints ADD COLUMN owed_index_at timestamptz;
CREATE INDEX endpoints_owed_index ON endpoints (owed_index_at) WHERE owed_index_at IS NOT NULL;
UPDATE endpoints e SET
    owed_index_at = clock_timestamp(), next_index_at = CASE WHEN n.type = 'PRODUCTION' THEN clock_timestamp() END
FROM runtime_environments n
WHERE n.id = e.environment_id AND e.next_index_at = '-infinity';
