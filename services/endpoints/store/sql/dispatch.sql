-- Kept plans are made while tables are small or their statistics young, so a subquery ends in OFFSET 0 or locks where it
-- must be looked up by index, once for each row to its left.

-- name: lock_events
-- Locks events by id; rows that refer to them may be written meanwhile.
SELECT id FROM events WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE

-- name: read_event_states
-- Reads how far events are.
SELECT id, state FROM events WHERE id = ANY($1::uuid[])

-- name: read_pending
-- Reads PENDING events without what they say.
SELECT id, event_id, environment_id, name, source, external_account_id, payload_type, priority
FROM events
WHERE id = ANY($1::uuid[]) AND state = 'PENDING'

-- name: read_contents
-- Reads what events say.
SELECT id, payload::text AS payload, context::text AS context FROM events WHERE id = ANY($1::uuid[])

-- name: find_listeners
-- Reads, each once, the dispatchers that listen to kinds of events, by their names and never by their environment.
SELECT dispatcher.id, dispatcher.external_account_id, listening.kinds, dispatcher.filter_bytes
FROM (
    SELECT listed.dispatcher_id, array_agg(kind.place) AS kinds
    FROM unnest($1::uuid[], $2::text[], $3::text[]) WITH ORDINALITY AS kind (environment_id, name, source, place)
    CROSS JOIN LATERAL (
        SELECT named.dispatcher_id
        FROM event_dispatcher_names AS named
        WHERE named.environment_id = kind.environment_id
            AND named.event_name = kind.name
            AND named.source = kind.source
        OFFSET 0
    ) AS listed
    GROUP BY listed.dispatcher_id
) AS listening
CROSS JOIN LATERAL (
    SELECT
        stored.id, stored.external_account_id,
        -- What is compressed may be a hundred times as long; how long it is would have to be read.
        pg_column_size(stored.payload_filter)
            * CASE WHEN pg_column_compression(stored.payload_filter) IS NULL THEN 1 ELSE 100 END
        + pg_column_size(stored.context_filter)
            * CASE WHEN pg_column_compression(stored.context_filter) IS NULL THEN 1 ELSE 100 END AS filter_bytes
    FROM event_dispatchers AS stored
    WHERE stored.id = listening.dispatcher_id AND stored.enabled AND NOT stored.operator_disabled AND NOT stored.manual
        AND (stored.external_account_id IS NULL OR stored.external_account_id = ANY($4::uuid[]))
    OFFSET 0
) AS dispatcher
ORDER BY dispatcher.id

-- name: read_filters
-- Reads the filters of dispatchers.
SELECT id, payload_filter::text AS payload_filter, context_filter::text AS context_filter
FROM event_dispatchers
WHERE id = ANY($1::uuid[])

-- name: insert_invocations
-- Writes the invocations that are not there yet.
INSERT INTO event_invocations (event_record_id, dispatcher_id, queue_job_id)
SELECT new.event_record_id, new.dispatcher_id, new.queue_job_id
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS new (event_record_id, dispatcher_id, queue_job_id)
ON CONFLICT (event_record_id, dispatcher_id) DO NOTHING
RETURNING queue_job_id

-- name: mark_delivered
-- Makes PENDING events DELIVERED.
UPDATE events SET
    state = 'DELIVERED',
    match_count = ($2::integer[])[array_position($1::uuid[], id)],
    delivered_at = clock_timestamp(),
    updated_at = clock_timestamp()
WHERE id = ANY($1::uuid[]) AND state = 'PENDING'

-- name: fail_events
-- Makes PENDING events FAILED.
UPDATE events SET state = 'FAILED', updated_at = clock_timestamp() WHERE id = ANY($1::uuid[]) AND state = 'PENDING'

-- name: cancel_events
-- Makes PENDING events CANCELLED.
UPDATE events SET state = 'CANCELLED', cancelled_at = clock_timestamp(), updated_at = clock_timestamp()
WHERE id = ANY($1::uuid[]) AND state = 'PENDING'

-- name: reopen_events
-- Makes FAILED events PENDING.
UPDATE events SET state = 'PENDING', updated_at = clock_timestamp() WHERE id = ANY($1::uuid[]) AND state = 'FAILED'

-- name: lock_invocations
-- Locks invocations by event and dispatcher.
SELECT locked.event_record_id
FROM (
    SELECT sorted.event_record_id, sorted.dispatcher_id
    FROM unnest($1::uuid[], $2::uuid[]) AS sorted (event_record_id, dispatcher_id)
    ORDER BY sorted.event_record_id, sorted.dispatcher_id
    OFFSET 0
) AS wanted
CROSS JOIN LATERAL (
    SELECT stored.event_record_id
    FROM event_invocations AS stored
    WHERE stored.event_record_id = wanted.event_record_id AND stored.dispatcher_id = wanted.dispatcher_id
    FOR NO KEY UPDATE
) AS locked

-- name: read_invocation_states
-- Reads how far invocations are.
SELECT stored.event_record_id, stored.dispatcher_id, stored.state
FROM unnest($1::uuid[], $2::uuid[]) AS wanted (event_record_id, dispatcher_id)
CROSS JOIN LATERAL (
    SELECT invocation.event_record_id, invocation.dispatcher_id, invocation.state
    FROM event_invocations AS invocation
    WHERE invocation.event_record_id = wanted.event_record_id AND invocation.dispatcher_id = wanted.dispatcher_id
    OFFSET 0
) AS stored

-- name: read_dispatchers
-- Reads dispatchers, each with the dynamic trigger it starts.
SELECT
    dispatcher.id, dispatcher.enabled AND NOT dispatcher.operator_disabled AS enabled, dispatcher.dispatchable_type,
    trigger.slug AS trigger_slug, coalesce(trigger.enabled, true) AS trigger_enabled
FROM event_dispatchers AS dispatcher
LEFT JOIN dynamic_triggers AS trigger ON trigger.id = dispatcher.dynamic_trigger_id
WHERE dispatcher.id = ANY($1::uuid[])

-- name: read_targets
-- Reads the jobs that dispatchers start, by slug, each with the version its alias `latest` names in their environment.
SELECT
    named.dispatcher_id, named.job_slug, named.job_id, latest.version_id, latest.version_endpoint_id, latest.version,
    coalesce(latest.state = 'ACTIVE', false) AS active
FROM (
    SELECT dispatcher.id AS dispatcher_id, dispatcher.environment_id, job.slug AS job_slug, job.id AS job_id
    FROM event_dispatchers AS dispatcher
    JOIN job_versions AS registered ON registered.id = dispatcher.job_version_id
    JOIN jobs AS job ON job.id = registered.job_id
    WHERE dispatcher.id = ANY($1::uuid[])
    UNION ALL
    SELECT dispatcher.id AS dispatcher_id, dispatcher.environment_id, attached.job_slug, job.id AS job_id
    FROM event_dispatchers AS dispatcher
    JOIN dynamic_triggers AS trigger ON trigger.id = dispatcher.dynamic_trigger_id
    JOIN endpoints AS endpoint ON endpoint.id = trigger.endpoint_id
    JOIN dynamic_trigger_jobs AS attached ON attached.dynamic_trigger_id = trigger.id
    LEFT JOIN jobs AS job
        ON job.project_id = endpoint.project_id AND job.slug = attached.job_slug
        AND ( -- its own, or one that it offers and another endpoint registered since
            EXISTS (
                SELECT
                FROM job_versions AS own
                WHERE own.job_id = job.id AND own.environment_id = dispatcher.environment_id
                    AND own.endpoint_id IS NOT DISTINCT FROM trigger.endpoint_id
            )
            OR EXISTS (
                SELECT
                FROM displaced_items AS offered
                WHERE offered.job_id = job.id AND offered.endpoint_id = trigger.endpoint_id
            )
        )
    WHERE dispatcher.id = ANY($1::uuid[])
) AS named
LEFT JOIN LATERAL (
    SELECT version.id AS version_id, version.endpoint_id AS version_endpoint_id, version.version, version.state
    FROM job_aliases AS alias
    JOIN job_versions AS version ON version.id = alias.version_id
    WHERE alias.job_id = named.job_id AND alias.environment_id = named.environment_id AND alias.name = 'latest'
    OFFSET 0
) AS latest ON true
ORDER BY named.dispatcher_id, named.job_slug COLLATE "C"

-- name: hold_endpoints
-- Locks endpoints by id against their deletion, passing by those that are being deleted.
SELECT id FROM endpoints WHERE id = ANY($1::uuid[]) ORDER BY id FOR KEY SHARE SKIP LOCKED

-- name: lock_counters
-- Inserts the counters that are new and locks all of them by job; who holds one may give numbers to runs of its job.
INSERT INTO job_counters (job_id)
SELECT wanted.job_id FROM unnest($1::uuid[]) AS wanted (job_id) ORDER BY wanted.job_id
ON CONFLICT (job_id) DO UPDATE SET last_number = job_counters.last_number WHERE false

-- name: insert_runs
-- Writes the runs that are missing, each with the next number of its job, and raises the counters by as many.
WITH missing AS MATERIALIZED (
    SELECT
        wanted.id, wanted.event_record_id, wanted.dispatcher_id, wanted.version_id, version.job_id, version.endpoint_id,
        version.queue_id, version.preprocess_runs, version.environment_id, version.organization_id, version.project_id,
        event.external_account_id, event.is_test,
        row_number() OVER (PARTITION BY version.job_id ORDER BY wanted.position) AS place
    FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[])
        WITH ORDINALITY AS wanted (id, event_record_id, dispatcher_id, version_id, position)
    JOIN job_versions AS version ON version.id = wanted.version_id
    JOIN events AS event ON event.id = wanted.event_record_id
    WHERE NOT EXISTS (
        SELECT
        FROM job_runs AS made
        WHERE made.event_record_id = wanted.event_record_id
            AND made.dispatcher_id = wanted.dispatcher_id
            AND made.version_id IS NOT DISTINCT FROM wanted.version_id -- not by the index of versions, which have many runs
        OFFSET 0
    )
), raised AS (
    UPDATE job_counters SET last_number = job_counters.last_number + given.numbers
    FROM (SELECT missing.job_id, count(*) AS numbers FROM missing GROUP BY missing.job_id) AS given
    WHERE job_counters.job_id = given.job_id
)
INSERT INTO job_runs (
    id, number, job_id, version_id, event_record_id, dispatcher_id, endpoint_id, queue_id, external_account_id,
    preprocess, is_test, environment_id, organization_id, project_id
)
SELECT
    missing.id, counter.last_number + missing.place, missing.job_id, missing.version_id, missing.event_record_id,
    missing.dispatcher_id, missing.endpoint_id, missing.queue_id, missing.external_account_id, missing.preprocess_runs,
    missing.is_test, missing.environment_id, missing.organization_id, missing.project_id
FROM missing
JOIN job_counters AS counter ON counter.job_id = missing.job_id
RETURNING event_record_id, dispatcher_id

-- name: settle_invocations
-- Ends PENDING invocations that are locked, so that they stay where they were found.
UPDATE event_invocations SET
    state = settled.state, run_count = event_invocations.run_count + settled.runs, reason = settled.reason,
    updated_at = clock_timestamp()
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::integer[], $5::text[])
    AS settled (event_record_id, dispatcher_id, state, runs, reason)
CROSS JOIN LATERAL (
    SELECT stored.ctid
    FROM event_invocations AS stored
    WHERE stored.event_record_id = settled.event_record_id AND stored.dispatcher_id = settled.dispatcher_id
    OFFSET 0
) AS locked
WHERE event_invocations.ctid = locked.ctid AND event_invocations.state = 'PENDING'

-- name: reopen_invocations
-- Makes ended invocations PENDING that are locked.
UPDATE event_invocations SET state = 'PENDING', reason = NULL, updated_at = clock_timestamp()
FROM unnest($1::uuid[], $2::uuid[]) AS reopened (event_record_id, dispatcher_id)
CROSS JOIN LATERAL (
    SELECT stored.ctid
    FROM event_invocations AS stored
    WHERE stored.event_record_id = reopened.event_record_id AND stored.dispatcher_id = reopened.dispatcher_id
    OFFSET 0
) AS locked
WHERE event_invocations.ctid = locked.ctid
    AND event_invocations.state IN ('COMPLETED', 'SKIPPED', 'FAILED')

-- name: get_run
-- Reads one run.
SELECT
    run.id, run.number, run.environment_id, run.state, job.slug AS job_slug, run.version_id, version.version,
    run.event_record_id, event.event_id, run.dispatcher_id, run.endpoint_id, account.identifier AS account, run.is_test,
    run.created_at, run.updated_at
FROM job_runs AS run
JOIN jobs AS job ON job.id = run.job_id
JOIN job_versions AS version ON version.id = run.version_id
JOIN events AS event ON event.id = run.event_record_id
LEFT JOIN external_accounts AS account ON account.id = run.external_account_id
WHERE run.id = $1

-- name: list_runs
-- Reads runs, newest first: those of an event, else of a job, else of the environment, each by the index that has them.
-- Pages of a job are bounded and sorted by all three columns of that index, which the primary key cannot stand in for.
WITH of_event AS MATERIALIZED (
    SELECT made.id, made.environment_id, made.job_id, made.state, made.created_at
    FROM job_runs AS made
    WHERE made.event_record_id = $3
), of_job AS MATERIALIZED (
    SELECT job.id
    FROM jobs AS job
    WHERE job.project_id = (SELECT environment.project_id FROM runtime_environments AS environment WHERE environment.id = $1)
        AND job.slug = $2
), chosen AS MATERIALIZED (
    (
        SELECT made.id
        FROM of_event AS made
        WHERE made.environment_id = $1
            AND ($2::text IS NULL OR made.job_id = (SELECT of_job.id FROM of_job))
            AND ($4::text IS NULL OR made.state = $4)
            AND ($5::timestamptz IS NULL OR made.created_at >= $5)
            AND ($6::timestamptz IS NULL OR made.created_at < $6)
            AND ($7::uuid IS NULL OR made.id < $7)
        ORDER BY made.id DESC
        LIMIT $8
    )
    UNION ALL
    (
        SELECT page.id
        FROM of_job
        CROSS JOIN LATERAL (
            SELECT made.id
            FROM job_runs AS made
            WHERE (made.job_id, made.environment_id, made.id)
                < (of_job.id, $1, coalesce($7::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
                AND (made.job_id, made.environment_id) >= (of_job.id, $1)
                AND ($4::text IS NULL OR made.state = $4)
                AND ($5::timestamptz IS NULL OR made.created_at >= $5)
                AND ($6::timestamptz IS NULL OR made.created_at < $6)
            ORDER BY made.job_id DESC, made.environment_id DESC, made.id DESC
            LIMIT $8
        ) AS page
        WHERE $3::uuid IS NULL
    )
    UNION ALL
    (
        SELECT made.id
        FROM job_runs AS made
        WHERE $3::uuid IS NULL
            AND $2::text IS NULL
            AND (made.environment_id, made.id) < ($1, coalesce($7::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
            AND made.environment_id >= $1
            AND ($4::text IS NULL OR made.state = $4)
            AND ($5::timestamptz IS NULL OR made.created_at >= $5)
            AND ($6::timestamptz IS NULL OR made.created_at < $6)
        ORDER BY made.environment_id DESC, made.id DESC
        LIMIT $8
    )
)
SELECT
    run.id, run.number, run.environment_id, run.state, job.slug AS job_slug, run.version_id, version.version,
    run.event_record_id, event.event_id, run.dispatcher_id, run.endpoint_id, account.identifier AS account, run.is_test,
    run.created_at, run.updated_at
FROM chosen
CROSS JOIN LATERAL (
    SELECT
        made.id, made.number, made.environment_id, made.state, made.job_id, made.version_id, made.event_record_id,
        made.dispatcher_id, made.endpoint_id, made.external_account_id, made.is_test, made.created_at, made.updated_at
    FROM job_runs AS made
    WHERE made.id = chosen.id
    OFFSET 0
) AS run
CROSS JOIN LATERAL (SELECT sent.event_id FROM events AS sent WHERE sent.id = run.event_record_id OFFSET 0) AS event
JOIN jobs AS job ON job.id = run.job_id
JOIN job_versions AS version ON version.id = run.version_id
LEFT JOIN external_accounts AS account ON account.id = run.external_account_id
ORDER BY run.id DESC

-- name: lock_old_events
-- Locks events that ended long ago and wait for nothing any more, the oldest first.
SELECT old.id
FROM events AS old
WHERE old.updated_at < (SELECT clock_timestamp()) - $1::interval
    AND old.state <> 'PENDING'
    AND NOT EXISTS (
        SELECT
        FROM event_invocations AS waiting
        WHERE waiting.event_record_id = old.id AND waiting.state = 'PENDING'
        OFFSET 0
    )
ORDER BY old.updated_at
LIMIT $2
FOR UPDATE OF old SKIP LOCKED

-- name: delete_runs
-- Deletes at most $2 runs of events, in the order of these; an event with very many goes over several times.
DELETE FROM job_runs
WHERE ctid = ANY(ARRAY(
    SELECT run.ctid
    FROM unnest($1::uuid[]) AS old (id)
    CROSS JOIN LATERAL (SELECT made.ctid FROM job_runs AS made WHERE made.event_record_id = old.id OFFSET 0) AS run
    LIMIT $2
))

-- name: delete_runs_of_endpoint
-- Deletes at most $2 runs that would go with an endpoint: its own, then those of versions that came to it with theirs.
DELETE FROM job_runs
WHERE ctid = ANY(ARRAY(
    SELECT own.ctid FROM job_runs AS own WHERE own.endpoint_id = $1
    UNION ALL
    SELECT inherited.ctid
    FROM job_versions AS version
    CROSS JOIN LATERAL (
        SELECT made.ctid, made.endpoint_id FROM job_runs AS made WHERE made.version_id = version.id OFFSET 0
    ) AS inherited
    WHERE version.endpoint_id = $1 AND inherited.endpoint_id <> $1
    LIMIT $2
))

-- name: delete_invocations
-- Deletes at most $2 invocations of events, in the order of these.
DELETE FROM event_invocations
WHERE ctid = ANY(ARRAY(
    SELECT invocation.ctid
    FROM unnest($1::uuid[]) AS old (id)
    CROSS JOIN LATERAL (
        SELECT stored.ctid FROM event_invocations AS stored WHERE stored.event_record_id = old.id OFFSET 0
    ) AS invocation
    LIMIT $2
))

-- name: delete_emptied_events
-- Deletes those of the events that have no invocations and no runs left.
DELETE FROM events
WHERE id = ANY($1::uuid[])
    AND NOT EXISTS (SELECT FROM event_invocations AS stored WHERE stored.event_record_id = events.id OFFSET 0)
    AND NOT EXISTS (SELECT FROM job_runs AS made WHERE made.event_record_id = events.id OFFSET 0)
