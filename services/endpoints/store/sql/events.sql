-- name: add_accounts
-- Inserts the accounts that an environment does not have, by identifier, and touches no other.
INSERT INTO external_accounts (id, identifier, organization_id, environment_id)
SELECT given.id, given.identifier, environment.organization_id, environment.id
FROM unnest($2::uuid[], $3::text[]) AS given (id, identifier)
CROSS JOIN (SELECT id, organization_id FROM runtime_environments WHERE id = $1) AS environment
WHERE NOT EXISTS (
    SELECT FROM external_accounts AS known
    WHERE known.environment_id = environment.id AND known.identifier = given.identifier
)
ORDER BY given.identifier
ON CONFLICT (environment_id, identifier) DO NOTHING

-- name: write
-- Inserts the events whose event ids are free, by event id, and the queue job of each in the order they were given.
WITH clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now
), given AS MATERIALIZED (
    SELECT
        place, id, event_id, name, source, payload, context, payload_type, event_time, account, deliver_at, deliver_in,
        priority, is_test, queue_job_id, lane
    FROM unnest(
        $2::integer[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::json[], $8::json[], $9::text[],
        $10::timestamptz[], $11::text[], $12::timestamptz[], $13::interval[], $14::smallint[], $15::boolean[],
        $16::uuid[], $17::text[]
    ) AS given (
        place, id, event_id, name, source, payload, context, payload_type, event_time, account, deliver_at, deliver_in,
        priority, is_test, queue_job_id, lane
    )
), written AS (
    INSERT INTO events (
        id, event_id, name, source, payload, context, payload_type, event_time, external_account_id, deliver_at,
        priority, queue_job_id, is_test, environment_id, organization_id, project_id, created_at, updated_at
    )
    SELECT
        given.id, given.event_id, given.name, given.source, given.payload, given.context, given.payload_type,
        coalesce(given.event_time, clock.now), account.id,
        greatest(given.deliver_at, clock.now + given.deliver_in, clock.now),
        given.priority, given.queue_job_id, given.is_test, environment.id, environment.organization_id,
        environment.project_id,
        -- A microsecond apart, so that the order they were given in can be read back.
        clock.now + given.place * interval '1 microsecond', clock.now + given.place * interval '1 microsecond'
    FROM given
    CROSS JOIN clock
    CROSS JOIN (SELECT id, organization_id, project_id FROM runtime_environments WHERE id = $1) AS environment
    LEFT JOIN external_accounts AS account
        ON account.environment_id = environment.id AND account.identifier = given.account
    ORDER BY given.event_id
    ON CONFLICT (environment_id, event_id) DO NOTHING
    RETURNING id, environment_id, event_time, deliver_at, priority, queue_job_id, created_at
), enqueued AS (
    INSERT INTO queue_jobs (
        id, environment_id, kind, args, queue, lane, priority, max_attempts, run_at, state, trace_context
    )
    SELECT
        written.queue_job_id, written.environment_id, $18, jsonb_build_object('id', written.id), $19, given.lane,
        written.priority, $20, written.deliver_at,
        CASE WHEN written.deliver_at > clock.now THEN 'SCHEDULED' ELSE 'AVAILABLE' END, $21
    FROM written
    JOIN given ON given.id = written.id
    CROSS JOIN clock
    ORDER BY given.place
)
SELECT id, event_time, deliver_at, created_at FROM written

-- name: get
-- Reads one event.
SELECT
    events.id, events.event_id, events.environment_id, events.name, events.source, events.payload::text AS payload,
    events.context::text AS context, events.payload_type, account.identifier AS account, events.event_time,
    events.state, events.deliver_at, events.priority, events.match_count, events.queue_job_id, events.replay_of,
    events.is_test, events.created_at, events.updated_at, events.delivered_at, events.cancelled_at
FROM events
LEFT JOIN external_accounts AS account ON account.id = events.external_account_id
WHERE events.id = $1

-- name: find
-- Reads events of an environment by their event ids.
SELECT
    events.id, events.event_id, events.environment_id, events.name, events.source, events.payload::text AS payload,
    events.context::text AS context, events.payload_type, account.identifier AS account, events.event_time,
    events.state, events.deliver_at, events.priority, events.match_count, events.queue_job_id, events.replay_of,
    events.is_test, events.created_at, events.updated_at, events.delivered_at, events.cancelled_at
FROM unnest($2::text[]) AS wanted (event_id)
JOIN events ON events.environment_id = $1 AND events.event_id = wanted.event_id
LEFT JOIN external_accounts AS account ON account.id = events.external_account_id

-- name: read_sizes
-- Reads how long events of an environment are, by their event ids.
SELECT
    events.event_id,
    -- What is compressed may be a hundred times as long; how long it is would have to be read.
    pg_column_size(events.payload) * CASE WHEN pg_column_compression(events.payload) IS NULL THEN 1 ELSE 100 END
    + pg_column_size(events.context) * CASE WHEN pg_column_compression(events.context) IS NULL THEN 1 ELSE 100 END AS bytes
FROM unnest($2::text[]) AS wanted (event_id)
JOIN events ON events.environment_id = $1 AND events.event_id = wanted.event_id

-- name: lock
-- Locks one event.
SELECT id FROM events WHERE id = $1 FOR UPDATE

-- name: replace
-- Gives an event that is not due yet other content and another time.
WITH clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now
)
UPDATE events SET
    name = $2, source = $3, payload = $4::json, context = $5::json, payload_type = $6,
    event_time = coalesce($7::timestamptz, clock.now),
    external_account_id = (
        SELECT account.id FROM external_accounts AS account
        WHERE account.environment_id = events.environment_id AND account.identifier = $8
    ),
    deliver_at = greatest($9::timestamptz, clock.now + $10::interval, clock.now),
    priority = $11, is_test = $12, updated_at = clock.now
FROM clock
WHERE events.id = $1 AND events.state = 'PENDING' AND events.deliver_at > clock.now
RETURNING events.deliver_at

-- name: list_events
-- Reads events without payloads, newest first; the bounds on ids, which begin with a time, are wider than those on times.
SELECT
    events.id, events.event_id, events.environment_id, events.name, events.source, NULL::text AS payload,
    NULL::text AS context, events.payload_type, account.identifier AS account, events.event_time,
    events.state, events.deliver_at, events.priority, events.match_count, events.queue_job_id, events.replay_of,
    events.is_test, events.created_at, events.updated_at, events.delivered_at, events.cancelled_at
FROM events
LEFT JOIN external_accounts AS account ON account.id = events.external_account_id
WHERE events.environment_id = $1
    AND ($2::text IS NULL OR events.name = $2)
    AND ($3::text IS NULL OR events.source = $3)
    AND ($4::text IS NULL OR events.state = $4)
    AND (
        $5::text IS NULL
        OR events.external_account_id = (
            SELECT wanted.id FROM external_accounts AS wanted
            WHERE wanted.environment_id = $1 AND wanted.identifier = $5
        )
    )
    AND ($6::timestamptz IS NULL OR events.created_at >= $6)
    AND ($7::timestamptz IS NULL OR events.created_at < $7)
    AND events.id >= $8 AND events.id < $9
ORDER BY events.id DESC
LIMIT $10

-- name: of_ids
-- Reads which of some events an environment has, oldest first.
SELECT id, event_id, pg_column_size(payload) + pg_column_size(context) AS bytes
FROM events
WHERE id = ANY($2::uuid[]) AND environment_id = $1
ORDER BY created_at, id

-- name: matching
-- Reads which events match, oldest first, by the index that has them in this order: `priority > 0` names it.
SELECT id, event_id, pg_column_size(payload) + pg_column_size(context) AS bytes
FROM events
WHERE environment_id = $1 AND priority > 0
    AND ($2::text IS NULL OR name = $2)
    AND ($3::text IS NULL OR source = $3)
    AND created_at >= $4 AND created_at < $5
ORDER BY created_at, id
LIMIT $6

-- name: replay
-- Inserts copies of events, due now, and the queue job of each, in the order they were given.
WITH clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now
), given AS MATERIALIZED (
    SELECT place, id, event_id, queue_job_id, lane, original_id
    FROM unnest($2::integer[], $3::uuid[], $4::text[], $5::uuid[], $6::text[], $7::uuid[])
        AS given (place, id, event_id, queue_job_id, lane, original_id)
), written AS (
    INSERT INTO events (
        id, event_id, name, source, payload, context, payload_type, event_time, external_account_id, deliver_at,
        priority, queue_job_id, replay_of, is_test, environment_id, organization_id, project_id, created_at, updated_at
    )
    SELECT
        given.id, given.event_id, original.name, original.source, original.payload, original.context,
        original.payload_type, original.event_time, original.external_account_id, clock.now, original.priority,
        given.queue_job_id, original.id, original.is_test, original.environment_id, original.organization_id,
        original.project_id,
        clock.now + given.place * interval '1 microsecond', clock.now + given.place * interval '1 microsecond'
    FROM given
    CROSS JOIN clock
    JOIN events AS original ON original.id = given.original_id AND original.environment_id = $1
    ORDER BY given.event_id
    RETURNING id, environment_id, deliver_at, priority, queue_job_id
)
INSERT INTO queue_jobs (
    id, environment_id, kind, args, queue, lane, priority, max_attempts, run_at, state, trace_context
)
SELECT
    written.queue_job_id, written.environment_id, $8, jsonb_build_object('id', written.id), $9, given.lane,
    written.priority, $10, written.deliver_at, 'AVAILABLE', $11
FROM written
JOIN given ON given.id = written.id
ORDER BY given.place

-- name: between
-- Reads events of an environment without payloads, by id.
SELECT
    events.id, events.event_id, events.environment_id, events.name, events.source, NULL::text AS payload,
    NULL::text AS context, events.payload_type, account.identifier AS account, events.event_time,
    events.state, events.deliver_at, events.priority, events.match_count, events.queue_job_id, events.replay_of,
    events.is_test, events.created_at, events.updated_at, events.delivered_at, events.cancelled_at
FROM events
LEFT JOIN external_accounts AS account ON account.id = events.external_account_id
WHERE events.environment_id = $1 AND events.id BETWEEN $2 AND $3
ORDER BY events.id
