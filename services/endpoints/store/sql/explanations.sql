-- name: invocations
-- Reads what came of giving an event to some dispatchers.
SELECT
    stored.event_record_id, stored.dispatcher_id, stored.queue_job_id, stored.state, stored.run_count, stored.reason,
    stored.created_at, stored.updated_at
FROM unnest($2::uuid[]) AS wanted (dispatcher_id)
CROSS JOIN LATERAL (
    SELECT event_record_id, dispatcher_id, queue_job_id, state, run_count, reason, created_at, updated_at
    FROM event_invocations
    WHERE event_record_id = $1 AND dispatcher_id = wanted.dispatcher_id
    OFFSET 0
) AS stored

-- name: count_invocations
-- Counts the invocations of an event by state, and their runs.
SELECT
    count(*) FILTER (WHERE state = 'PENDING') AS pending,
    count(*) FILTER (WHERE state = 'COMPLETED') AS completed,
    count(*) FILTER (WHERE state = 'SKIPPED') AS skipped,
    count(*) FILTER (WHERE state = 'FAILED') AS failed,
    coalesce(sum(run_count), 0) AS runs
FROM event_invocations
WHERE event_record_id = $1
