-- name: ring_lag
-- Reads by queue how long the queue job has been due that waits longest in a lane nobody has rung, of 10,000 per queue.
SELECT
    wanted.queue,
    coalesce(greatest(extract(epoch FROM statement_timestamp() - unrung.oldest), 0), 0)::float8 AS seconds
FROM unnest(ARRAY['default', 'execution', 'events', 'maintenance']) AS wanted (queue)
CROSS JOIN LATERAL (
    SELECT min(due.run_at) AS oldest
    FROM (
        SELECT run_at, lane FROM queue_jobs
        WHERE queue = wanted.queue AND state = 'AVAILABLE' AND priority > 0
        LIMIT 10000
    ) AS due
    WHERE NOT EXISTS (
        SELECT FROM queue_lanes AS rung WHERE rung.queue = wanted.queue AND rung.lane = due.lane
    )
) AS unrung

-- name: oldest_snapshot
-- Reads how long the oldest snapshot of this database has kept rows from being cleaned up, as far as this role may see.
SELECT
    coalesce(greatest(extract(epoch FROM max(statement_timestamp() - coalesce(xact_start, query_start))), 0), 0)::float8
        AS seconds
FROM pg_stat_activity
WHERE backend_xmin IS NOT NULL AND datname = current_database() AND pid <> pg_backend_pid()

-- name: endpoint_states
-- Counts the endpoints of each state, of 10,000 per state.
SELECT
    wanted.state,
    (SELECT count(*) FROM (SELECT FROM endpoints WHERE endpoints.state = wanted.state LIMIT 10000) AS kept) AS endpoints
FROM unnest(ARRAY['HEALTHY', 'FAILING', 'SUSPENDED']) AS wanted (state)
