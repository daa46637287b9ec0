-- name: lock_endpoints
-- Locks the endpoints of a batch against deletion, by id.
SELECT id, environment_id, organization_id, project_id, index_sequence
FROM endpoints
WHERE id = ANY ($1::uuid[])
ORDER BY id
FOR KEY SHARE

-- name: read_newest_answers
-- Reads the greatest number under which each of the endpoints $1 has answered with an index.
SELECT endpoint_id, max(answered_sequence) AS sequence
FROM endpoint_indexes
WHERE endpoint_id = ANY ($1::uuid[]) AND answered_sequence IS NOT NULL
GROUP BY endpoint_id

-- name: lock_jobs
-- Inserts the jobs that are new and locks all of them by (project, slug); who holds a job may write what hangs on it.
INSERT INTO jobs (id, slug, title, internal, organization_id, project_id)
SELECT w.id, w.slug, w.title, w.internal, w.organization_id, w.project_id
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::boolean[], $5::uuid[], $6::uuid[])
    AS w (id, slug, title, internal, organization_id, project_id)
ORDER BY w.project_id, w.slug COLLATE "C"
ON CONFLICT (project_id, slug) DO UPDATE SET title = jobs.title WHERE false

-- name: insert_integrations
-- Inserts the integrations that are new; one that exists stays as its organization set it up.
INSERT INTO integrations (
    id, slug, title, definition_id, definition_name, instructions, auth_source, connection_type, setup_status,
    organization_id
)
SELECT
    w.id, w.slug, CASE w.auth_source WHEN 'HOSTED' THEN w.slug ELSE w.definition_name END, w.definition_id,
    w.definition_name, w.instructions, w.auth_source,
    CASE w.auth_source WHEN 'RESOLVER' THEN 'EXTERNAL' ELSE 'DEVELOPER' END,
    CASE w.auth_source WHEN 'HOSTED' THEN 'MISSING_FIELDS' ELSE 'COMPLETE' END,
    w.organization_id
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::uuid[])
    AS w (id, slug, definition_id, definition_name, instructions, auth_source, organization_id)
ORDER BY w.organization_id, w.slug COLLATE "C"
ON CONFLICT (organization_id, slug) DO NOTHING

-- name: upsert_queues
-- Inserts the queues that are new and gives the others the limit their job declares, if it declares one.
WITH wanted AS MATERIALIZED (
    SELECT w.id, w.name, w.environment_id, w.max_jobs
    FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::integer[]) AS w (id, name, environment_id, max_jobs)
), changed AS MATERIALIZED (
    SELECT q.id, w.max_jobs
    FROM wanted w
    JOIN job_queues q ON q.environment_id = w.environment_id AND q.name = w.name
    WHERE q.max_jobs <> w.max_jobs
    ORDER BY q.environment_id, q.name COLLATE "C"
    FOR NO KEY UPDATE OF q
), limited AS (
    UPDATE job_queues q SET max_jobs = c.max_jobs, updated_at = now()
    FROM changed c
    WHERE q.id = c.id
)
INSERT INTO job_queues (id, name, environment_id, max_jobs)
SELECT w.id, w.name, w.environment_id, coalesce(w.max_jobs, 100)
FROM wanted w
ORDER BY w.environment_id, w.name COLLATE "C"
ON CONFLICT (environment_id, name) DO NOTHING

-- name: read_job_versions
-- Reads what is stored of a batch of jobs, in the order given, with the newest number their endpoint left on any version.
SELECT
    j.id AS job_id, v.endpoint_id, v.state = 'ACTIVE' AS is_enabled, v.content_hash,
    EXISTS (SELECT FROM displaced_items d WHERE d.job_id = j.id) AS is_shared,
    (
        SELECT max(o.index_sequence)
        FROM job_versions o
        WHERE o.job_id = j.id AND o.environment_id = w.environment_id
            AND o.endpoint_id IS NOT DISTINCT FROM w.endpoint_id -- not by the index of endpoints, which have many jobs
    ) AS newest_sequence
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::uuid[])
    WITH ORDINALITY AS w (project_id, slug, version, environment_id, endpoint_id, position)
JOIN jobs j ON j.project_id = w.project_id AND j.slug = w.slug
LEFT JOIN job_versions v ON v.job_id = j.id AND v.version = w.version AND v.environment_id = w.environment_id
ORDER BY w.position

-- name: upsert_job_versions
-- Writes the versions of a batch, one per (job, environment), and disables the endpoints' other versions of those jobs.
WITH wanted AS MATERIALIZED (
    SELECT
        w.id, w.job_id, w.version, w.environment_id, w.endpoint_id, w.organization_id, w.project_id,
        w.payload::jsonb AS payload, w.content_hash, w.index_sequence
    FROM unnest(
        $1::uuid[], $2::uuid[], $3::text[], $4::uuid[], $5::uuid[], $6::uuid[], $7::uuid[], $8::text[], $9::bytea[],
        $10::bigint[]
    ) AS w (
        id, job_id, version, environment_id, endpoint_id, organization_id, project_id, payload, content_hash,
        index_sequence
    )
), titled AS (
    UPDATE jobs j SET title = w.title, internal = w.internal, updated_at = now()
    FROM (
        SELECT o.job_id, o.payload ->> 'name' AS title, (o.payload -> 'internal' = 'true') IS TRUE AS internal FROM wanted o
    ) AS w
    WHERE j.id = w.job_id AND (j.title, j.internal) IS DISTINCT FROM (w.title, w.internal)
), disabled AS (
    UPDATE job_versions v SET state = 'DISABLED', index_sequence = w.index_sequence, updated_at = now()
    FROM wanted w
    WHERE
        v.job_id = w.job_id AND v.environment_id = w.environment_id
        AND (v.endpoint_id, v.state) IS NOT DISTINCT FROM (w.endpoint_id, 'ACTIVE') -- by no index of these
        AND v.version <> w.version
)
INSERT INTO job_versions (
    id, job_id, version, environment_id, endpoint_id, organization_id, project_id, queue_id, event_specification,
    trigger, properties, start_position, preprocess_runs, concurrency_limit, state, content_hash, index_sequence
)
SELECT
    w.id, w.job_id, w.version, w.environment_id, w.endpoint_id, w.organization_id, w.project_id, q.id,
    (w.payload -> 'event') - 'examples', w.payload -> 'trigger', w.payload -> 'trigger' -> 'properties',
    CASE w.payload ->> 'startPosition' WHEN 'initial' THEN 'INITIAL' ELSE 'LATEST' END,
    coalesce((w.payload ->> 'preprocessRuns')::boolean, false), w.payload -> 'concurrencyLimit', 'ACTIVE',
    w.content_hash, w.index_sequence
FROM wanted w
LEFT JOIN job_queues q ON q.environment_id = w.environment_id AND q.name = w.payload -> 'queue' ->> 'name'
ORDER BY w.job_id, w.environment_id, w.version COLLATE "C"
ON CONFLICT (job_id, version, environment_id) DO UPDATE SET
    endpoint_id = excluded.endpoint_id,
    queue_id = excluded.queue_id,
    event_specification = excluded.event_specification,
    trigger = excluded.trigger,
    properties = excluded.properties,
    start_position = excluded.start_position,
    preprocess_runs = excluded.preprocess_runs,
    concurrency_limit = excluded.concurrency_limit,
    state = 'ACTIVE',
    content_hash = excluded.content_hash,
    index_sequence = excluded.index_sequence,
    updated_at = now()
RETURNING id, job_id, environment_id

-- name: replace_event_examples
-- Makes the examples of the versions $1 exactly the given ones.
WITH wanted AS MATERIALIZED (
    SELECT w.id, w.job_version_id, w.slug, w.name, w.icon, w.payload::jsonb AS payload
    FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[])
        AS w (id, job_version_id, slug, name, icon, payload)
), dropped AS (
    DELETE FROM event_examples e
    WHERE
        e.job_version_id = ANY ($1::uuid[])
        AND (e.job_version_id, e.slug) NOT IN (SELECT w.job_version_id, w.slug FROM wanted w)
)
INSERT INTO event_examples (id, job_version_id, slug, name, icon, payload)
SELECT w.id, w.job_version_id, w.slug, w.name, w.icon, w.payload
FROM wanted w
ON CONFLICT (job_version_id, slug) DO UPDATE
    SET name = excluded.name, icon = excluded.icon, payload = excluded.payload, updated_at = now()
    WHERE (event_examples.name, event_examples.icon, event_examples.payload)
        IS DISTINCT FROM (excluded.name, excluded.icon, excluded.payload)

-- name: replace_job_integrations
-- Makes the integrations of the versions $1 exactly the given ones.
WITH wanted AS MATERIALIZED (
    SELECT w.version_id, w.key, w.job_id, i.id AS integration_id
    FROM unnest($2::uuid[], $3::text[], $4::uuid[], $5::uuid[], $6::text[])
        AS w (version_id, key, job_id, organization_id, slug)
    JOIN integrations i ON i.organization_id = w.organization_id AND i.slug = w.slug
), dropped AS (
    DELETE FROM job_integrations r
    WHERE
        r.version_id = ANY ($1::uuid[])
        AND (r.version_id, r.key) NOT IN (SELECT w.version_id, w.key FROM wanted w)
)
INSERT INTO job_integrations (version_id, key, job_id, integration_id)
SELECT w.version_id, w.key, w.job_id, w.integration_id
FROM wanted w
ON CONFLICT (version_id, key) DO UPDATE SET integration_id = excluded.integration_id, updated_at = now()
    WHERE job_integrations.integration_id <> excluded.integration_id

-- name: read_sources
-- Reads what is stored of the sources of a batch, in the order given.
SELECT s.endpoint_id, s.enabled AS is_enabled, s.content_hash, s.index_sequence
FROM unnest($1::uuid[], $2::text[]) WITH ORDINALITY AS w (environment_id, key, position)
LEFT JOIN trigger_sources s ON s.environment_id = w.environment_id AND s.key = w.key
ORDER BY w.position

-- name: upsert_sources
-- Writes the sources of a batch, one per (environment, key), except where the same endpoint left a newer number.
INSERT INTO trigger_sources (
    id, key, version, channel, params, register_source_job, integration_id, endpoint_id, environment_id,
    organization_id, project_id, content_hash, index_sequence
)
SELECT
    w.id, w.payload ->> 'key', w.payload ->> 'version', w.payload ->> 'channel', w.payload -> 'params',
    w.payload -> 'registerSourceJob', i.id, w.endpoint_id, w.environment_id, w.organization_id, w.project_id,
    w.content_hash, w.index_sequence
FROM (
    SELECT
        r.id, r.payload::jsonb AS payload, r.endpoint_id, r.environment_id, r.organization_id, r.project_id,
        r.content_hash, r.index_sequence
    FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::uuid[], $5::uuid[], $6::uuid[], $7::bytea[], $8::bigint[])
        AS r (id, payload, endpoint_id, environment_id, organization_id, project_id, content_hash, index_sequence)
) AS w
JOIN integrations i
    ON i.organization_id = w.organization_id AND i.slug = w.payload -> 'integration' ->> 'id'
ORDER BY w.environment_id, (w.payload ->> 'key') COLLATE "C"
ON CONFLICT (environment_id, key) DO UPDATE SET
    version = excluded.version,
    channel = excluded.channel,
    params = excluded.params,
    enabled = true,
    register_source_job = excluded.register_source_job,
    integration_id = excluded.integration_id,
    endpoint_id = excluded.endpoint_id,
    content_hash = excluded.content_hash,
    index_sequence = excluded.index_sequence,
    updated_at = now()
    WHERE
        trigger_sources.endpoint_id <> excluded.endpoint_id
        OR trigger_sources.index_sequence <= excluded.index_sequence
RETURNING id, environment_id, key, xmax = 0 AS is_new

-- name: replace_source_options
-- Makes the options of the sources $1 exactly the given ones; those that stay keep what is known of them.
WITH wanted AS MATERIALIZED (
    SELECT w.source_id, w.name, w.value
    FROM unnest($2::uuid[], $3::text[], $4::text[]) AS w (source_id, name, value)
), dropped AS (
    DELETE FROM trigger_source_options o
    WHERE
        o.source_id = ANY ($1::uuid[])
        AND (o.source_id, o.name, o.value) NOT IN (SELECT w.source_id, w.name, w.value FROM wanted w)
)
INSERT INTO trigger_source_options (source_id, name, value)
SELECT w.source_id, w.name, w.value
FROM wanted w
ON CONFLICT (source_id, name, value) DO NOTHING

-- name: insert_source_secrets
-- Gives a sealed secret to the sources that have none.
INSERT INTO trigger_source_secrets (source_id, ciphertext)
SELECT w.source_id, w.ciphertext
FROM unnest($1::uuid[], $2::bytea[]) AS w (source_id, ciphertext)
ON CONFLICT (source_id) DO NOTHING

-- name: read_dynamic_triggers
-- Reads what is stored of the dynamic triggers of a batch, in the order given.
SELECT d.endpoint_id, d.enabled AS is_enabled, d.content_hash, d.index_sequence
FROM unnest($1::uuid[], $2::text[], $3::text[]) WITH ORDINALITY AS w (endpoint_id, slug, type, position)
LEFT JOIN dynamic_triggers d ON d.endpoint_id = w.endpoint_id AND d.slug = w.slug AND d.type = w.type
ORDER BY w.position

-- name: upsert_dynamic_triggers
-- Writes the dynamic triggers of a batch, one per (endpoint, slug, type), except where there is a newer number.
INSERT INTO dynamic_triggers (
    id, type, slug, endpoint_id, environment_id, register_source_job, content_hash, index_sequence
)
SELECT
    w.id, w.type, w.slug, w.endpoint_id, w.environment_id, w.register_source_job::jsonb, w.content_hash,
    w.index_sequence
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::uuid[], $6::text[], $7::bytea[], $8::bigint[])
    AS w (id, type, slug, endpoint_id, environment_id, register_source_job, content_hash, index_sequence)
ORDER BY w.endpoint_id, w.slug COLLATE "C", w.type COLLATE "C"
ON CONFLICT (endpoint_id, slug, type) DO UPDATE SET
    register_source_job = excluded.register_source_job,
    enabled = true,
    content_hash = excluded.content_hash,
    index_sequence = excluded.index_sequence,
    updated_at = now()
    WHERE dynamic_triggers.index_sequence <= excluded.index_sequence
RETURNING id, endpoint_id, slug, type, environment_id, xmax = 0 AS is_new

-- name: replace_dynamic_trigger_jobs
-- Makes the jobs of the dynamic triggers $1 exactly the given ones, whether those jobs are stored yet or not.
WITH wanted AS MATERIALIZED (
    SELECT w.dynamic_trigger_id, w.job_slug, w.job_version
    FROM unnest($2::uuid[], $3::text[], $4::text[]) AS w (dynamic_trigger_id, job_slug, job_version)
), dropped AS (
    DELETE FROM dynamic_trigger_jobs r
    WHERE
        r.dynamic_trigger_id = ANY ($1::uuid[])
        AND (r.dynamic_trigger_id, r.job_slug) NOT IN (SELECT w.dynamic_trigger_id, w.job_slug FROM wanted w)
)
INSERT INTO dynamic_trigger_jobs (dynamic_trigger_id, job_slug, job_version)
SELECT w.dynamic_trigger_id, w.job_slug, w.job_version
FROM wanted w
ON CONFLICT (dynamic_trigger_id, job_slug) DO UPDATE SET job_version = excluded.job_version
    WHERE dynamic_trigger_jobs.job_version <> excluded.job_version

-- name: rewrite_schedule_dispatchers
-- Gives each dynamic schedule the dispatcher that its schedules will use.
INSERT INTO event_dispatchers (
    id, origin, event_names, source, manual, enabled, dispatchable_type, dispatchable_id, dynamic_trigger_id,
    environment_id
)
SELECT
    w.id, 'INDEX', ARRAY['dev.trigger.scheduled'], 'trigger.dev', true, true, 'DYNAMIC_TRIGGER', w.dynamic_trigger_id,
    w.dynamic_trigger_id, w.environment_id
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS w (id, dynamic_trigger_id, environment_id)
ORDER BY w.environment_id, w.dynamic_trigger_id
ON CONFLICT (environment_id, dispatchable_id) WHERE origin = 'INDEX' DO UPDATE SET enabled = true, updated_at = now()
    WHERE NOT event_dispatchers.enabled
