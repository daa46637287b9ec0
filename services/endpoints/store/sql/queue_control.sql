-- name: get
-- Reads one queue job.
SELECT
    id, environment_id, kind, args::text AS args, queue, lane, priority, state, run_at, attempt, max_attempts, rescues,
    errors::text AS errors, cancel_requested_at, created_at, started_at, finalized_at
FROM queue_jobs
WHERE id = $1

-- name: list_of_all
-- Reads everybody's queue jobs of every state, newest first, each with its last error and without its args.
SELECT
    id, environment_id, kind, NULL::text AS args, queue, lane, priority, state, run_at, attempt, max_attempts, rescues,
    jsonb_path_query_array(errors, '$[last]')::text AS errors, cancel_requested_at, created_at, started_at, finalized_at
FROM queue_jobs
WHERE ($1::text IS NULL OR queue = $1)
    AND ($2::text IS NULL OR kind = $2)
    AND ($3::text IS NULL OR lane = $3)
    AND ($4::timestamptz IS NULL OR created_at >= $4)
    AND ($5::timestamptz IS NULL OR created_at < $5)
    AND ($6::uuid IS NULL OR id < $6)
ORDER BY id DESC
LIMIT $7

-- name: list_by_environment
-- Reads queue jobs with their last error and without args, newest first, by environment and state as their index has:
-- those of one environment, of an organization's or, with nulls, of all and of upkeep. Pages are bounded and sorted by
-- all three columns of that index, which the primary key cannot stand in for.
WITH environment AS (
    SELECT id FROM runtime_environments
    WHERE ($9::uuid IS NULL OR id = $9) AND ($10::uuid IS NULL OR organization_id = $10)
    UNION ALL
    SELECT '00000000-0000-0000-0000-000000000000' WHERE $9::uuid IS NULL AND $10::uuid IS NULL
),
chosen AS (
    SELECT found.id
    FROM environment
    CROSS JOIN unnest(
        CASE
            WHEN $2::text IS NULL
                THEN ARRAY['SCHEDULED', 'AVAILABLE', 'RUNNING', 'COMPLETED', 'DISCARDED', 'CANCELLED']
            ELSE ARRAY[$2::text]
        END
    ) AS wanted (state)
    CROSS JOIN LATERAL (
        SELECT queue_jobs.id
        FROM queue_jobs
        WHERE (queue_jobs.environment_id, queue_jobs.state, queue_jobs.id)
            < (environment.id, wanted.state, coalesce($7::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
            AND (queue_jobs.environment_id, queue_jobs.state) >= (environment.id, wanted.state)
            AND ($1::text IS NULL OR queue = $1)
            AND ($3::text IS NULL OR kind = $3)
            AND ($4::text IS NULL OR lane = $4)
            AND ($5::timestamptz IS NULL OR created_at >= $5)
            AND ($6::timestamptz IS NULL OR created_at < $6)
        ORDER BY queue_jobs.environment_id DESC, queue_jobs.state DESC, queue_jobs.id DESC
        LIMIT $8
    ) AS found
    ORDER BY found.id DESC
    LIMIT $8
)
SELECT
    id, environment_id, kind, NULL::text AS args, queue, lane, priority, state, run_at, attempt, max_attempts, rescues,
    jsonb_path_query_array(errors, '$[last]')::text AS errors, cancel_requested_at, created_at, started_at, finalized_at
FROM queue_jobs
WHERE id IN (SELECT chosen.id FROM chosen)
ORDER BY id DESC

-- name: matching
-- Reads which queue jobs of a state match, oldest first, by environment as their index has them:
-- those of one environment, of an organization's or, with nulls, of all and of upkeep.
WITH environment AS (
    SELECT id FROM runtime_environments
    WHERE ($8::uuid IS NULL OR id = $8) AND ($9::uuid IS NULL OR organization_id = $9)
    UNION ALL
    SELECT '00000000-0000-0000-0000-000000000000' WHERE $8::uuid IS NULL AND $9::uuid IS NULL
)
SELECT found.id
FROM environment
CROSS JOIN LATERAL (
    SELECT queue_jobs.id
    FROM queue_jobs
    WHERE (queue_jobs.environment_id, queue_jobs.state) >= (environment.id, $2::text)
        AND (queue_jobs.environment_id, queue_jobs.state) <= (environment.id, $2::text)
        AND ($1::text IS NULL OR queue = $1)
        AND ($3::text IS NULL OR kind = $3)
        AND ($4::text IS NULL OR lane = $4)
        AND ($5::timestamptz IS NULL OR created_at >= $5)
        AND ($6::timestamptz IS NULL OR created_at < $6)
    ORDER BY queue_jobs.environment_id, queue_jobs.state, queue_jobs.id
    LIMIT $7
) AS found
ORDER BY found.id
LIMIT $7

-- name: read
-- Reads the first queue jobs by id, up to the one with which their args come to $2 bytes.
SELECT id, kind, args::text AS args, environment_id, state
FROM (
    SELECT
        id, kind, args, environment_id, state,
        sum(pg_column_size(args)) OVER (ORDER BY id) - pg_column_size(args) AS bytes_before
    FROM queue_jobs
    WHERE id = ANY($1::uuid[])
) AS together
WHERE bytes_before < $2
ORDER BY id

-- name: lock
-- Locks queue jobs by id.
SELECT id, state FROM queue_jobs WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE

-- name: retry
-- Lets queue jobs run again now: final ones with a fresh set of attempts, waiting ones with those they have left.
UPDATE queue_jobs SET
    state = 'AVAILABLE',
    run_at = clock_timestamp(),
    attempt = CASE WHEN state = 'SCHEDULED' THEN attempt ELSE 0 END,
    rescues = CASE WHEN state = 'SCHEDULED' THEN rescues ELSE 0 END,
    unended = CASE WHEN state = 'SCHEDULED' THEN unended ELSE 0 END,
    started_at = CASE WHEN state = 'SCHEDULED' THEN started_at END,
    cancel_requested_at = NULL,
    finalized_at = NULL
WHERE id = ANY($1::uuid[]) AND state IN ('SCHEDULED', 'COMPLETED', 'DISCARDED', 'CANCELLED')
RETURNING id

-- name: pause
-- Pauses a queue or a lane; one that is paused already stays as it is.
INSERT INTO queue_pauses (queue, lane, environment_id, paused_by, reason) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (queue, lane) DO UPDATE SET created_at = queue_pauses.created_at
RETURNING queue, lane, created_at, paused_by, reason

-- name: resume
-- Ends a pause.
DELETE FROM queue_pauses WHERE queue = $1 AND lane IS NOT DISTINCT FROM $2 RETURNING queue

-- name: forget_lane
-- Ends the pauses of a lane in every queue.
DELETE FROM queue_pauses WHERE lane = $1

-- name: pauses
-- Reads the pauses of whole queues and those of the lanes of some environments, or with nulls all of them.
SELECT queue, lane, created_at, paused_by, reason
FROM queue_pauses
WHERE lane IS NULL
    OR ($1::uuid IS NULL AND $2::uuid IS NULL)
    OR environment_id IN (
        SELECT id FROM runtime_environments
        WHERE ($1::uuid IS NULL OR id = $1) AND ($2::uuid IS NULL OR organization_id = $2)
    )
ORDER BY queue, lane NULLS FIRST

-- name: open_lanes
-- Counts open lanes by queue.
SELECT queue, count(*) AS lanes
FROM queue_lanes
WHERE ($1::uuid IS NULL AND $2::uuid IS NULL)
    OR environment_id IN (
        SELECT id FROM runtime_environments
        WHERE ($1::uuid IS NULL OR id = $1) AND ($2::uuid IS NULL OR organization_id = $2)
    )
GROUP BY queue

-- name: sample_of_all
-- Counts everybody's queue jobs by queue and state, up to $2 of a state and $3 of the completed ones, and rates over $4.
WITH counted AS (
    SELECT
        wanted.queue, 'AVAILABLE' AS state, due.queue_jobs, due.queue_jobs >= $2::bigint AS is_capped, due.oldest,
        due.unknown_kinds, 0::bigint AS finished, NULL::timestamptz AS finished_from
    FROM unnest(ARRAY['default', 'execution', 'events', 'maintenance']) AS wanted (queue)
    CROSS JOIN LATERAL (
        SELECT
            count(*) AS queue_jobs, min(run_at) AS oldest,
            count(*) FILTER (WHERE kind <> ALL($1::text[])) AS unknown_kinds
        FROM (
            SELECT run_at, kind FROM queue_jobs
            WHERE queue = wanted.queue AND state = 'AVAILABLE' AND priority > 0
            LIMIT $2::bigint
        ) AS first
    ) AS due
    UNION ALL
    SELECT
        queue, 'SCHEDULED', count(*), sum(count(*)) OVER () >= $2::bigint, NULL,
        count(*) FILTER (WHERE kind <> ALL($1::text[])), 0, NULL
    FROM (
        SELECT queue, kind FROM queue_jobs
        WHERE state = 'SCHEDULED' AND priority > 0
        ORDER BY run_at
        LIMIT $2::bigint
    ) AS next
    GROUP BY queue
    UNION ALL
    SELECT queue, 'RUNNING', count(*), sum(count(*)) OVER () >= $2::bigint, NULL, 0, 0, NULL
    FROM (SELECT queue FROM queue_jobs WHERE state = 'RUNNING' AND seq > 0 LIMIT $2::bigint) AS called
    GROUP BY queue
    UNION ALL
    SELECT
        queue, 'COMPLETED', count(*), sum(count(*)) OVER () >= $3::bigint, NULL, 0,
        count(*) FILTER (WHERE finalized_at > statement_timestamp() - $4::interval),
        min(finalized_at) FILTER (WHERE finalized_at > statement_timestamp() - $4::interval)
    FROM (
        SELECT queue, finalized_at FROM queue_jobs
        WHERE state = 'COMPLETED' AND finalized_at IS NOT NULL
        ORDER BY finalized_at DESC
        LIMIT $3::bigint
    ) AS last
    GROUP BY queue
    UNION ALL
    SELECT
        queue, 'DISCARDED', count(*), sum(count(*)) OVER () >= $2::bigint, NULL, 0,
        count(*) FILTER (WHERE finalized_at > statement_timestamp() - $4::interval),
        min(finalized_at) FILTER (WHERE finalized_at > statement_timestamp() - $4::interval)
    FROM (
        SELECT queue, finalized_at FROM queue_jobs
        WHERE state = 'DISCARDED' AND finalized_at IS NOT NULL
        ORDER BY finalized_at DESC
        LIMIT $2::bigint
    ) AS last
    GROUP BY queue
    UNION ALL
    SELECT queue, 'CANCELLED', count(*), sum(count(*)) OVER () >= $2::bigint, NULL, 0, 0, NULL
    FROM (
        SELECT queue FROM queue_jobs
        WHERE state = 'CANCELLED' AND finalized_at IS NOT NULL
        ORDER BY finalized_at DESC
        LIMIT $2::bigint
    ) AS last
    GROUP BY queue
),
latency AS (
    SELECT
        queue,
        count(*) AS measured,
        percentile_disc(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY started_at - run_at) AS percentiles
    FROM (
        (
            SELECT queue, started_at, run_at FROM queue_jobs
            WHERE state = 'COMPLETED' AND finalized_at > statement_timestamp() - $4::interval
            ORDER BY finalized_at DESC
            LIMIT $3::bigint
        )
        UNION ALL
        (
            SELECT queue, started_at, run_at FROM queue_jobs
            WHERE state = 'DISCARDED' AND finalized_at > statement_timestamp() - $4::interval
            ORDER BY finalized_at DESC
            LIMIT $3::bigint
        )
    ) AS ended
    WHERE started_at >= run_at
    GROUP BY queue
)
SELECT
    queue, state, queue_jobs, is_capped,
    greatest(extract(epoch FROM statement_timestamp() - oldest), 0)::float8 AS oldest_seconds,
    unknown_kinds,
    -- Over that time, or over what was counted of it.
    finished / CASE
        WHEN is_capped AND sum(finished) OVER of_state = sum(queue_jobs) OVER of_state THEN
            greatest(extract(epoch FROM statement_timestamp() - min(finished_from) OVER of_state), 0.001)::float8
        ELSE extract(epoch FROM $4::interval)::float8
    END AS per_second,
    latency.measured, latency.percentiles
FROM counted
LEFT JOIN latency USING (queue)
WINDOW of_state AS (PARTITION BY state)

-- name: sample_of_environments
-- Counts the queue jobs of one environment or of an organization's, which share the numbers evenly, and rates over $6.
WITH environment AS MATERIALIZED (
    SELECT id FROM runtime_environments
    WHERE ($4::uuid IS NULL OR id = $4) AND ($5::uuid IS NULL OR organization_id = $5)
),
share AS MATERIALIZED (
    SELECT
        greatest($2::bigint / greatest(count(*), 1), 100) AS of_a_state,
        greatest($3::bigint / greatest(count(*), 1), 100) AS of_completed
    FROM environment
),
counted AS (
    SELECT
        environment.id AS environment_id, waiting.queue, wanted.state, waiting.queue_jobs, waiting.is_capped,
        waiting.oldest, waiting.unknown_kinds, 0::bigint AS finished, NULL::timestamptz AS finished_from
    FROM environment
    CROSS JOIN share
    CROSS JOIN unnest(ARRAY['SCHEDULED', 'AVAILABLE', 'RUNNING']) AS wanted (state)
    CROSS JOIN LATERAL (
        SELECT
            queue, count(*) AS queue_jobs, sum(count(*)) OVER () >= share.of_a_state AS is_capped,
            min(run_at) FILTER (WHERE wanted.state = 'AVAILABLE') AS oldest,
            count(*) FILTER (WHERE wanted.state <> 'RUNNING' AND kind <> ALL($1::text[])) AS unknown_kinds
        FROM (
            SELECT queue, run_at, kind FROM queue_jobs
            WHERE queue_jobs.environment_id = environment.id AND queue_jobs.state = wanted.state
            ORDER BY queue_jobs.id
            LIMIT share.of_a_state
        ) AS first
        GROUP BY queue
    ) AS waiting
    UNION ALL
    SELECT
        environment.id, ended.queue, wanted.state, ended.queue_jobs, ended.is_capped, NULL, 0, ended.finished,
        ended.finished_from
    FROM environment
    CROSS JOIN LATERAL (
        SELECT 'COMPLETED' AS state, of_completed AS most FROM share
        UNION ALL
        SELECT 'DISCARDED', of_a_state FROM share
        UNION ALL
        SELECT 'CANCELLED', of_a_state FROM share
    ) AS wanted
    CROSS JOIN LATERAL (
        SELECT
            queue, count(*) AS queue_jobs, sum(count(*)) OVER () >= wanted.most AS is_capped,
            count(*) FILTER (WHERE finalized_at > statement_timestamp() - $6::interval) AS finished,
            min(finalized_at) FILTER (WHERE finalized_at > statement_timestamp() - $6::interval) AS finished_from
        FROM (
            SELECT queue, finalized_at FROM queue_jobs
            WHERE queue_jobs.environment_id = environment.id AND queue_jobs.state = wanted.state
            ORDER BY queue_jobs.id DESC
            LIMIT wanted.most
        ) AS last
        GROUP BY queue
    ) AS ended
),
latency AS (
    SELECT
        last.queue,
        count(*) AS measured,
        percentile_disc(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY last.started_at - last.run_at) AS percentiles
    FROM environment
    CROSS JOIN share
    CROSS JOIN unnest(ARRAY['COMPLETED', 'DISCARDED']) AS wanted (state)
    CROSS JOIN LATERAL (
        SELECT queue, started_at, run_at, finalized_at FROM queue_jobs
        WHERE queue_jobs.environment_id = environment.id AND queue_jobs.state = wanted.state
        ORDER BY queue_jobs.id DESC
        LIMIT share.of_completed
    ) AS last
    WHERE last.finalized_at > statement_timestamp() - $6::interval AND last.started_at >= last.run_at
    GROUP BY last.queue
),
together AS (
    SELECT
        queue, state, sum(queue_jobs)::bigint AS queue_jobs, bool_or(is_capped) AS is_capped, min(oldest) AS oldest,
        sum(unknown_kinds)::bigint AS unknown_kinds, sum(per_second) AS per_second
    FROM (
        SELECT
            queue, state, queue_jobs, is_capped, oldest, unknown_kinds,
            -- Over that time, or over what was counted of it in this environment.
            finished / CASE
                WHEN is_capped AND sum(finished) OVER of_state = sum(queue_jobs) OVER of_state THEN
                    greatest(extract(epoch FROM statement_timestamp() - min(finished_from) OVER of_state), 0.001)::float8
                ELSE extract(epoch FROM $6::interval)::float8
            END AS per_second
        FROM counted
        WINDOW of_state AS (PARTITION BY environment_id, state)
    ) AS apart
    GROUP BY queue, state
)
SELECT
    queue, state, queue_jobs, is_capped,
    greatest(extract(epoch FROM statement_timestamp() - oldest), 0)::float8 AS oldest_seconds,
    unknown_kinds, per_second, latency.measured, latency.percentiles
FROM together
LEFT JOIN latency USING (queue)
