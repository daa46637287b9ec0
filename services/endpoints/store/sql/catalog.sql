-- Lists from the caller are compared with `NOT IN (SELECT …)` and `(… IN (SELECT …)) IS TRUE` on purpose: PostgreSQL keeps
-- these as hashed subplans. Written as joins, they become nested loops over the whole list when an endpoint is new and the
-- statistics expect one row of it: 2,000 jobs then take 0.5 s instead of 0.04 s, and 10,000 jobs 25 times that. For the same
-- reason a subquery ends in OFFSET 0 where it must be looked up by index, once for each row to its left.

-- name: move_latest_aliases
-- Points `latest` of each (job, environment) at its numerically greatest ACTIVE version; without one it stays.
INSERT INTO job_aliases (job_id, environment_id, name, version_id, value)
SELECT t.job_id, t.environment_id, 'latest', v.id, v.version
FROM unnest($1::uuid[], $2::uuid[]) AS t (job_id, environment_id)
CROSS JOIN LATERAL (
    SELECT v.id, v.version
    FROM job_versions v
    WHERE v.job_id = t.job_id AND v.environment_id = t.environment_id AND v.state = 'ACTIVE'
    ORDER BY v.version_numbers DESC, v.version DESC
    LIMIT 1
) AS v
ORDER BY t.job_id, t.environment_id
ON CONFLICT (job_id, environment_id, name) DO UPDATE SET version_id = excluded.version_id, value = excluded.value
    WHERE job_aliases.version_id <> excluded.version_id

-- name: rewrite_job_dispatchers
-- Rewrites the INDEX dispatcher of each (job, environment) from its greatest ACTIVE version and stops what no longer holds.
WITH touched AS MATERIALIZED (
    SELECT t.id, t.job_id, t.environment_id
    FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS t (id, job_id, environment_id)
), latest AS MATERIALIZED (
    SELECT t.id, t.job_id, t.environment_id, v.id AS version_id, v.trigger, v.trigger ->> 'type' AS type
    FROM touched t
    CROSS JOIN LATERAL (
        SELECT v.id, v.trigger
        FROM job_versions v
        WHERE v.job_id = t.job_id AND v.environment_id = t.environment_id AND v.state = 'ACTIVE'
        ORDER BY v.version_numbers DESC, v.version DESC
        LIMIT 1
    ) AS v
    WHERE v.trigger ->> 'type' IN ('static', 'scheduled')
), stopped_dispatchers AS (
    UPDATE event_dispatchers d SET enabled = false, updated_at = now()
    FROM touched t
    CROSS JOIN LATERAL (
        SELECT o.id
        FROM event_dispatchers o
        WHERE o.environment_id = t.environment_id AND o.dispatchable_id = t.job_id AND o.origin = 'INDEX' AND o.enabled
        OFFSET 0
    ) AS o
    WHERE d.id = o.id AND t.id NOT IN (SELECT l.id FROM latest l)
), stopped_schedules AS (
    UPDATE schedule_sources s SET active = false, updated_at = now()
    FROM touched t
    CROSS JOIN LATERAL (
        SELECT o.id
        FROM schedule_sources o
        WHERE o.job_id = t.job_id AND o.environment_id = t.environment_id AND o.active
        OFFSET 0
    ) AS o
    WHERE s.id = o.id AND t.id NOT IN (SELECT l.id FROM latest l WHERE l.type = 'scheduled')
)
INSERT INTO event_dispatchers (
    id, origin, event_names, source, payload_filter, context_filter, manual, enabled, dispatchable_type,
    dispatchable_id, job_version_id, environment_id
)
SELECT
    l.id, 'INDEX',
    CASE l.type
        WHEN 'static' THEN ARRAY(SELECT jsonb_array_elements_text(l.trigger -> 'rule' -> 'event'))
        ELSE ARRAY['dev.trigger.scheduled']
    END,
    coalesce(l.trigger -> 'rule' ->> 'source', 'trigger.dev'),
    coalesce(l.trigger -> 'rule' -> 'payload', '{}'),
    coalesce(l.trigger -> 'rule' -> 'context', '{}'),
    l.type = 'scheduled', true, 'JOB_VERSION', l.job_id, l.version_id, l.environment_id
FROM latest l
ORDER BY l.environment_id, l.job_id
ON CONFLICT (environment_id, dispatchable_id) WHERE origin = 'INDEX' DO UPDATE SET
    event_names = excluded.event_names,
    source = excluded.source,
    payload_filter = excluded.payload_filter,
    context_filter = excluded.context_filter,
    manual = excluded.manual,
    enabled = true,
    job_version_id = excluded.job_version_id,
    updated_at = now()
    WHERE
        (
            event_dispatchers.event_names, event_dispatchers.source, event_dispatchers.payload_filter,
            event_dispatchers.context_filter, event_dispatchers.manual, event_dispatchers.enabled,
            event_dispatchers.job_version_id
        ) IS DISTINCT FROM (
            excluded.event_names, excluded.source, excluded.payload_filter, excluded.context_filter, excluded.manual,
            true, excluded.job_version_id
        )

-- name: rewrite_job_schedules
-- Rewrites the schedule of each (job, environment) whose greatest ACTIVE version has one; an unchanged one keeps its phase.
INSERT INTO schedule_sources (id, key, schedule, metadata, active, job_id, dispatcher_id, environment_id)
SELECT
    t.id, j.slug,
    jsonb_build_object('type', v.schedule -> 'type', 'options', v.schedule -> 'options'),
    v.schedule -> 'metadata', true, t.job_id, d.id, t.environment_id
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS t (id, job_id, environment_id)
JOIN jobs j ON j.id = t.job_id
CROSS JOIN LATERAL (
    SELECT v.trigger -> 'schedule' AS schedule, v.trigger ->> 'type' AS type
    FROM job_versions v
    WHERE v.job_id = t.job_id AND v.environment_id = t.environment_id AND v.state = 'ACTIVE'
    ORDER BY v.version_numbers DESC, v.version DESC
    LIMIT 1
) AS v
JOIN event_dispatchers d
    ON d.environment_id = t.environment_id AND d.dispatchable_id = t.job_id AND d.origin = 'INDEX'
WHERE v.type = 'scheduled'
ORDER BY t.environment_id, j.slug COLLATE "C"
ON CONFLICT (environment_id, dynamic_trigger_id, key) DO UPDATE SET
    schedule = excluded.schedule,
    metadata = excluded.metadata,
    active = true,
    job_id = excluded.job_id,
    dispatcher_id = excluded.dispatcher_id,
    next_event_at = CASE
        WHEN schedule_sources.active AND schedule_sources.schedule = excluded.schedule
            THEN schedule_sources.next_event_at
    END,
    updated_at = now()
    WHERE
        (
            schedule_sources.schedule, schedule_sources.metadata, schedule_sources.active, schedule_sources.job_id,
            schedule_sources.dispatcher_id
        ) IS DISTINCT FROM (
            excluded.schedule, excluded.metadata, true, excluded.job_id, excluded.dispatcher_id
        )

-- name: lock_offered_jobs
-- Locks, by (project, slug), the jobs $2 and those of which the endpoint $1 has an ACTIVE version.
SELECT j.id
FROM (
    SELECT found.id
    FROM endpoints e
    CROSS JOIN unnest($2::text[]) AS o (slug)
    CROSS JOIN LATERAL (SELECT j.id FROM jobs j WHERE j.project_id = e.project_id AND j.slug = o.slug OFFSET 0) AS found
    WHERE e.id = $1
    UNION
    SELECT v.job_id FROM job_versions v WHERE v.endpoint_id = $1 AND v.state = 'ACTIVE'
) AS wanted
JOIN jobs j ON j.id = wanted.id
ORDER BY j.project_id, j.slug COLLATE "C"
FOR NO KEY UPDATE OF j

-- name: lock_sources
-- Locks, by (environment, key), the enabled sources of the endpoint $1.
SELECT s.id
FROM trigger_sources s
WHERE s.endpoint_id = $1 AND s.enabled
ORDER BY s.environment_id, s.key COLLATE "C"
FOR NO KEY UPDATE OF s

-- name: renumber_unchanged
-- Gives the number $2 to every enabled item of the endpoint $1 that has the offered content.
WITH offered AS MATERIALIZED (
    SELECT o.kind, o.key, o.version, o.content_hash
    FROM unnest($3::text[], $4::text[], $5::text[], $6::bytea[]) AS o (kind, key, version, content_hash)
), same_jobs AS MATERIALIZED (
    SELECT v.id, j.slug
    FROM job_versions v
    JOIN jobs j ON j.id = v.job_id
    WHERE
        v.endpoint_id = $1 AND v.state = 'ACTIVE' AND v.index_sequence <= $2
        AND (
            (j.slug, v.version, v.content_hash)
            IN (SELECT o.key, o.version, o.content_hash FROM offered o WHERE o.kind = 'JOB')
        ) IS TRUE
    ORDER BY v.job_id, v.environment_id, v.version COLLATE "C"
    FOR NO KEY UPDATE OF v
), same_sources AS MATERIALIZED (
    SELECT s.id, s.key
    FROM trigger_sources s
    WHERE
        s.endpoint_id = $1 AND s.enabled AND s.index_sequence <= $2
        AND (
            (s.key, s.content_hash) IN (SELECT o.key, o.content_hash FROM offered o WHERE o.kind = 'SOURCE')
        ) IS TRUE
    ORDER BY s.environment_id, s.key COLLATE "C"
    FOR NO KEY UPDATE OF s
), numbered_jobs AS (
    UPDATE job_versions v SET index_sequence = $2 FROM same_jobs r WHERE v.id = r.id RETURNING r.slug
), numbered_sources AS (
    UPDATE trigger_sources s SET index_sequence = $2 FROM same_sources r WHERE s.id = r.id RETURNING r.key
), numbered_triggers AS (
    UPDATE dynamic_triggers d SET index_sequence = $2
    WHERE
        d.endpoint_id = $1 AND d.enabled AND d.index_sequence <= $2
        AND (
            (CASE d.type WHEN 'EVENT' THEN 'DYNAMIC_TRIGGER' ELSE 'DYNAMIC_SCHEDULE' END, d.slug, d.content_hash)
            IN (SELECT o.kind, o.key, o.content_hash FROM offered o)
        ) IS TRUE
    RETURNING CASE d.type WHEN 'EVENT' THEN 'DYNAMIC_TRIGGER' ELSE 'DYNAMIC_SCHEDULE' END AS kind, d.slug AS key
)
SELECT 'JOB' AS kind, slug AS key FROM numbered_jobs
UNION ALL
SELECT 'SOURCE' AS kind, key FROM numbered_sources
UNION ALL
SELECT kind, key FROM numbered_triggers

-- name: lock_endpoint
-- Locks an endpoint that is about to be deleted, so that no registration adds to it.
SELECT id FROM endpoints WHERE id = $1 FOR UPDATE

-- name: lock_absent_jobs
-- Locks, by (project, slug), the jobs of which the endpoint $1 has an ACTIVE version and which are not among $2.
SELECT j.id
FROM (SELECT DISTINCT v.job_id FROM job_versions v WHERE v.endpoint_id = $1 AND v.state = 'ACTIVE') AS held
JOIN jobs j ON j.id = held.job_id
WHERE j.slug NOT IN (SELECT o.slug FROM unnest($2::text[]) AS o (slug))
ORDER BY j.project_id, j.slug COLLATE "C"
FOR NO KEY UPDATE OF j

-- name: disable_jobs
-- Disables the ACTIVE versions the endpoint $1 has of the jobs $2; they keep the number $3, or theirs when it is null.
UPDATE job_versions v SET state = 'DISABLED', index_sequence = coalesce($3, v.index_sequence), updated_at = now()
FROM (
    SELECT o.id, j.slug
    FROM unnest($2::uuid[]) AS t (job_id)
    JOIN jobs j ON j.id = t.job_id
    CROSS JOIN LATERAL (
        SELECT o.id FROM job_versions o
        WHERE
            o.job_id = t.job_id
            AND (o.endpoint_id, o.state) IS NOT DISTINCT FROM ($1, 'ACTIVE') -- by no index of these, which have many jobs
        OFFSET 0
    ) AS o
) AS held
WHERE v.id = held.id AND v.state = 'ACTIVE' AND v.index_sequence <= coalesce($3, v.index_sequence)
RETURNING v.job_id, v.environment_id, held.slug

-- name: lock_all_jobs
-- Locks, by (project, slug), the jobs of which the endpoint $1 has any version.
SELECT j.id
FROM (SELECT DISTINCT v.job_id FROM job_versions v WHERE v.endpoint_id = $1) AS held
JOIN jobs j ON j.id = held.job_id
ORDER BY j.project_id, j.slug COLLATE "C"
FOR NO KEY UPDATE OF j

-- name: delete_disabled_versions
-- Deletes at most $2 DISABLED versions of an endpoint that is to be deleted, of which nothing is left to others.
--
-- That is one on which nothing hangs, and any of a job that only this endpoint has and offers no more.
DELETE FROM job_versions
WHERE ctid = ANY(ARRAY(
    SELECT v.ctid
    FROM job_versions v
    WHERE
        v.endpoint_id = $1 AND v.state = 'DISABLED'
        AND (
            NOT EXISTS (
                SELECT FROM job_aliases a WHERE a.version_id = v.id
                UNION ALL
                SELECT FROM event_dispatchers d WHERE d.job_version_id = v.id
                UNION ALL
                SELECT FROM displaced_items d WHERE d.job_version_id = v.id
                OFFSET 0
            )
            OR NOT EXISTS (
                SELECT
                FROM job_versions o
                WHERE
                    o.job_id = v.job_id AND o.environment_id = v.environment_id
                    AND (o.endpoint_id, o.state) IS DISTINCT FROM ($1, 'DISABLED')
                OFFSET 0
            )
        )
    LIMIT $2
    FOR UPDATE OF v SKIP LOCKED
))

-- name: leave_to_others
-- Points dispatchers and aliases of the versions of the endpoint $1 at the best version another endpoint has of their job.
WITH replaced AS MATERIALIZED (
    SELECT v.id, left_over.id AS other_id, left_over.version
    FROM job_versions v
    CROSS JOIN LATERAL (
        SELECT o.id, o.version
        FROM job_versions o
        WHERE o.job_id = v.job_id AND o.environment_id = v.environment_id AND o.endpoint_id IS DISTINCT FROM $1
        ORDER BY o.state, o.version_numbers DESC, o.version DESC -- ACTIVE comes before DISABLED
        LIMIT 1
    ) AS left_over
    WHERE v.endpoint_id = $1
), aliases AS (
    UPDATE job_aliases a SET version_id = held.other_id, value = held.version
    FROM (
        SELECT named.job_id, named.environment_id, named.name, r.other_id, r.version
        FROM replaced r
        CROSS JOIN LATERAL (
            SELECT o.job_id, o.environment_id, o.name FROM job_aliases o WHERE o.version_id = r.id OFFSET 0
        ) AS named
    ) AS held
    WHERE a.job_id = held.job_id AND a.environment_id = held.environment_id AND a.name = held.name
)
UPDATE event_dispatchers d SET job_version_id = held.other_id, updated_at = now()
FROM (
    SELECT pointing.id, r.other_id
    FROM replaced r
    CROSS JOIN LATERAL (SELECT o.id FROM event_dispatchers o WHERE o.job_version_id = r.id OFFSET 0) AS pointing
) AS held
WHERE d.id = held.id

-- name: disable_absent_items
-- Disables the sources, dynamic triggers and dynamic schedules of the endpoint $1 that are not offered.
WITH offered AS MATERIALIZED (
    SELECT o.kind, o.key FROM unnest($2::text[], $3::text[]) AS o (kind, key)
), absent_sources AS MATERIALIZED (
    SELECT s.id
    FROM trigger_sources s
    WHERE
        s.endpoint_id = $1 AND s.enabled AND s.index_sequence <= coalesce($4, s.index_sequence)
        AND s.key NOT IN (SELECT o.key FROM offered o WHERE o.kind = 'SOURCE')
    ORDER BY s.environment_id, s.key COLLATE "C"
    FOR NO KEY UPDATE OF s
), disabled_sources AS (
    UPDATE trigger_sources s
    SET enabled = false, index_sequence = coalesce($4, s.index_sequence), updated_at = now()
    FROM absent_sources a
    WHERE s.id = a.id
    RETURNING s.id, s.key
), disabled_triggers AS (
    UPDATE dynamic_triggers d
    SET enabled = false, index_sequence = coalesce($4, d.index_sequence), updated_at = now()
    WHERE
        d.endpoint_id = $1 AND d.enabled AND d.index_sequence <= coalesce($4, d.index_sequence)
        AND (CASE d.type WHEN 'EVENT' THEN 'DYNAMIC_TRIGGER' ELSE 'DYNAMIC_SCHEDULE' END, d.slug)
        NOT IN (SELECT o.kind, o.key FROM offered o)
    RETURNING d.id, d.environment_id, d.slug, d.type
), stopped_dispatchers AS (
    UPDATE event_dispatchers e SET enabled = false, updated_at = now()
    FROM disabled_triggers d
    WHERE e.environment_id = d.environment_id AND e.dispatchable_id = d.id AND e.origin = 'INDEX' AND e.enabled
)
SELECT 'SOURCE' AS kind, key, id AS source_id FROM disabled_sources
UNION ALL
SELECT CASE type WHEN 'EVENT' THEN 'DYNAMIC_TRIGGER' ELSE 'DYNAMIC_SCHEDULE' END AS kind, slug AS key, NULL AS source_id
FROM disabled_triggers

-- name: list_jobs
-- Reads a page of an environment's jobs by slug, each with the version its alias `latest` names, $7 bytes or one.
WITH page AS MATERIALIZED (
    SELECT j.id, j.slug, j.title, j.internal, j.created_at, j.updated_at, a.environment_id, a.version_id
    FROM jobs j
    JOIN job_aliases a ON a.job_id = j.id AND a.environment_id = $1 AND a.name = 'latest'
    WHERE
        j.project_id = (SELECT n.project_id FROM runtime_environments n WHERE n.id = $1) AND j.slug > $2
        AND (
            $3::uuid IS NULL
            OR EXISTS (SELECT FROM job_versions v WHERE v.id = a.version_id AND v.endpoint_id = $3)
        )
        AND ($4::text IS NULL OR j.slug = $4)
        AND ($5::text IS NULL OR j.title = $5)
    ORDER BY j.slug
    LIMIT $6
), measured AS (
    SELECT
        p.id, p.slug, p.title, p.internal, p.environment_id, p.created_at, p.updated_at, v.id AS version_id, v.version,
        v.state, v.endpoint_id, v.queue_id, v.trigger ->> 'type' AS trigger_type,
        ARRAY(SELECT jsonb_array_elements_text(v.event_specification -> 'name')) AS event_names, v.start_position,
        v.preprocess_runs, v.concurrency_limit::text AS concurrency_limit, v.created_at AS version_created_at,
        v.updated_at AS version_updated_at, json.trigger, json.event_specification, json.properties, json.integrations,
        json.examples, size.bytes, sum(size.bytes) OVER (ORDER BY p.slug) AS bytes_so_far, count(*) OVER () AS found
    FROM page p
    JOIN job_versions v ON v.id = p.version_id
    CROSS JOIN LATERAL (
        SELECT
            v.trigger::text AS trigger, v.event_specification::text AS event_specification, v.properties::text AS properties,
            (
                SELECT coalesce(
                    jsonb_agg(
                        jsonb_build_object(
                            'key', r.key, 'slug', i.slug, 'title', i.title, 'definition_id', i.definition_id,
                            'definition_name', i.definition_name, 'auth_source', i.auth_source,
                            'setup_status', i.setup_status
                        ) ORDER BY r.key
                    ),
                    '[]'
                )
                FROM job_integrations r
                JOIN integrations i ON i.id = r.integration_id
                WHERE r.version_id = v.id
            )::text AS integrations,
            (
                SELECT coalesce(
                    jsonb_agg(
                        jsonb_build_object('slug', x.slug, 'name', x.name, 'icon', x.icon, 'payload_json', x.payload::text)
                        ORDER BY x.slug
                    ),
                    '[]'
                )
                FROM event_examples x
                WHERE x.job_version_id = v.id
            )::text AS examples
        OFFSET 0
    ) AS json
    CROSS JOIN LATERAL (
        SELECT
            octet_length(p.slug) + octet_length(p.title) + octet_length(json.trigger)
            + octet_length(json.event_specification) + coalesce(octet_length(json.properties), 0)
            + octet_length(json.integrations) + octet_length(json.examples) AS bytes
    ) AS size
)
SELECT
    j.found, j.id, j.slug, j.title, j.internal, j.environment_id, j.created_at, j.updated_at, j.version_id, j.version,
    j.state, j.endpoint_id, e.slug AS endpoint_slug, j.trigger, j.trigger_type, j.event_specification, j.event_names,
    j.properties, j.start_position, j.preprocess_runs, j.concurrency_limit, q.name AS queue_name,
    q.max_jobs AS queue_max_jobs, j.version_created_at, j.version_updated_at, j.integrations, j.examples
FROM measured j
JOIN endpoints e ON e.id = j.endpoint_id
LEFT JOIN job_queues q ON q.id = j.queue_id
WHERE j.bytes_so_far <= $7 OR j.bytes_so_far = j.bytes
ORDER BY j.slug

-- name: list_sources
-- Reads a page of an environment's sources by key, at most $5 bytes or one.
WITH page AS MATERIALIZED (
    SELECT s.id, s.key
    FROM trigger_sources s
    WHERE s.environment_id = $1 AND s.key > $2 AND ($3::uuid IS NULL OR s.endpoint_id = $3)
    ORDER BY s.key
    LIMIT $4
), measured AS MATERIALIZED (
    SELECT p.id, m.bytes, sum(m.bytes) OVER (ORDER BY p.key) AS bytes_so_far, count(*) OVER () AS found
    FROM page p
    CROSS JOIN LATERAL (
        SELECT
            octet_length(p.key) + coalesce(octet_length(s.params::text), 0)
            + (
                SELECT coalesce(sum(octet_length(o.name) + octet_length(o.value)), 0)
                FROM trigger_source_options o
                WHERE o.source_id = s.id
            ) AS bytes
        FROM trigger_sources s
        WHERE s.id = p.id
        OFFSET 0
    ) AS m
)
SELECT
    p.found, s.id, s.key, s.version, s.channel, s.params::text AS params, s.active, s.enabled,
    i.slug AS integration_slug, s.register_source_job::text AS register_source_job, s.endpoint_id, s.environment_id, s.created_at, s.updated_at,
    ARRAY(SELECT o.name FROM trigger_source_options o WHERE o.source_id = s.id ORDER BY o.name, o.value)
        AS option_names,
    ARRAY(SELECT o.value FROM trigger_source_options o WHERE o.source_id = s.id ORDER BY o.name, o.value)
        AS option_values
FROM measured p
JOIN trigger_sources s ON s.id = p.id
JOIN integrations i ON i.id = s.integration_id
WHERE p.bytes_so_far <= $5 OR p.bytes_so_far = p.bytes
ORDER BY s.key

-- name: list_dynamic_triggers
-- Reads a page of an environment's dynamic triggers and dynamic schedules, oldest first, at most $5 bytes or one.
WITH page AS MATERIALIZED (
    SELECT d.id
    FROM dynamic_triggers d
    WHERE d.environment_id = $1 AND d.id > $2 AND ($3::uuid IS NULL OR d.endpoint_id = $3)
    ORDER BY d.id
    LIMIT $4
), measured AS MATERIALIZED (
    SELECT p.id, m.bytes, sum(m.bytes) OVER (ORDER BY p.id) AS bytes_so_far, count(*) OVER () AS found
    FROM page p
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(octet_length(r.job_slug) + octet_length(r.job_version)), 0) AS bytes
        FROM dynamic_trigger_jobs r
        WHERE r.dynamic_trigger_id = p.id
        OFFSET 0
    ) AS m
)
SELECT
    p.found, d.id, d.type, d.slug, d.enabled, d.register_source_job::text AS register_source_job, d.endpoint_id,
    d.environment_id, d.created_at, d.updated_at,
    ARRAY(SELECT r.job_slug FROM dynamic_trigger_jobs r WHERE r.dynamic_trigger_id = d.id ORDER BY r.job_slug)
        AS job_slugs,
    ARRAY(SELECT r.job_version FROM dynamic_trigger_jobs r WHERE r.dynamic_trigger_id = d.id ORDER BY r.job_slug)
        AS job_versions
FROM measured p
JOIN dynamic_triggers d ON d.id = p.id
WHERE p.bytes_so_far <= $5 OR p.bytes_so_far = p.bytes
ORDER BY d.id

-- name: list_schedules
-- Reads a page of an environment's schedules, oldest first.
SELECT
    s.id, s.key, s.schedule::text AS schedule, s.active, s.job_id, j.slug AS job_slug, s.dynamic_trigger_id,
    d.slug AS dynamic_schedule_slug, s.environment_id, s.last_event_at, s.next_event_at, s.created_at, s.updated_at
FROM schedule_sources s
LEFT JOIN jobs j ON j.id = s.job_id
LEFT JOIN dynamic_triggers d ON d.id = s.dynamic_trigger_id
WHERE s.environment_id = $1 AND s.id > $2 AND ($3::boolean IS NULL OR s.active = $3)
ORDER BY s.id
LIMIT $4
