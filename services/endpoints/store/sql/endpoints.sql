-- name: credential
-- Reads an environment with its sealed API keys that are good now and the sealed secrets that sign its calls now.
SELECT
    id, slug, type, organization_id, project_id, created_at, updated_at, api_key_ciphertext, signing_secret_ciphertext,
    CASE
        WHEN previous_signing_secret_expires_at > now() THEN previous_signing_secret_ciphertext
    END AS previous_signing_secret_ciphertext,
    CASE WHEN previous_api_key_expires_at > now() THEN previous_api_key_ciphertext END AS previous_api_key_ciphertext
FROM runtime_environments
WHERE id = $1

-- name: get
-- Reads one endpoint.
SELECT
    id, slug, url, indexing_hook_identifier, environment_id, organization_id, project_id, index_sequence, state,
    consecutive_failures, state_reason, state_changed_at, next_probe_at, created_at, updated_at,
    CASE WHEN state = 'HEALTHY' AND quiet_until > now() THEN quiet_until END AS quiet_until
FROM endpoints
WHERE id = $1

-- name: get_by_slug
-- Reads the endpoint of a slug.
SELECT
    id, slug, url, indexing_hook_identifier, environment_id, organization_id, project_id, index_sequence, state,
    consecutive_failures, state_reason, state_changed_at, next_probe_at, created_at, updated_at,
    CASE WHEN state = 'HEALTHY' AND quiet_until > now() THEN quiet_until END AS quiet_until
FROM endpoints
WHERE environment_id = $1 AND slug = $2

-- name: list_endpoints
-- Reads an environment's endpoints by slug: those in state $4, or all.
SELECT
    id, slug, url, indexing_hook_identifier, environment_id, organization_id, project_id, index_sequence, state,
    consecutive_failures, state_reason, state_changed_at, next_probe_at, created_at, updated_at,
    CASE WHEN state = 'HEALTHY' AND quiet_until > now() THEN quiet_until END AS quiet_until
FROM endpoints
WHERE environment_id = $1 AND slug > $2 AND ($4::text IS NULL OR state = $4)
ORDER BY slug
LIMIT $3

-- name: insert
-- Inserts an endpoint; one without a time for its next index gets none by itself.
INSERT INTO endpoints
    (id, slug, url, indexing_hook_identifier, environment_id, organization_id, project_id, next_index_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, now() + $8::interval)
RETURNING
    id, slug, url, indexing_hook_identifier, environment_id, organization_id, project_id, index_sequence, state,
    consecutive_failures, state_reason, state_changed_at, next_probe_at, created_at, updated_at,
    CASE WHEN state = 'HEALTHY' AND quiet_until > now() THEN quiet_until END AS quiet_until

-- name: set_url
-- Gives an endpoint another url, or leaves a row that has it already as it is; what fails is probed there at once.
UPDATE endpoints SET
    url = $2,
    quiet_until = CASE WHEN url = $2 THEN quiet_until END,
    next_probe_at = CASE
        WHEN url <> $2 AND next_probe_at > clock_timestamp() THEN clock_timestamp() ELSE next_probe_at
    END,
    updated_at = CASE WHEN url = $2 THEN updated_at ELSE now() END
WHERE id = $1
RETURNING
    id, slug, url, indexing_hook_identifier, environment_id, organization_id, project_id, index_sequence, state,
    consecutive_failures, state_reason, state_changed_at, next_probe_at, created_at, updated_at,
    CASE WHEN state = 'HEALTHY' AND quiet_until > now() THEN quiet_until END AS quiet_until

-- name: draw_sequence
-- Draws the next number of an endpoint's indexes.
UPDATE endpoints SET index_sequence = index_sequence + 1 WHERE id = $1 RETURNING index_sequence

-- name: has_long_history
-- Tells whether an endpoint has more than $2 runs, DISABLED versions, or final indexes and items; it reads no more.
SELECT
    (
        SELECT count(*)
        FROM (
            SELECT
            FROM (
                SELECT id FROM endpoint_indexes
                WHERE endpoint_id = $1 AND state IN ('SUCCEEDED', 'PARTIALLY_SUCCEEDED', 'FAILED')
            ) AS final
            LEFT JOIN LATERAL (SELECT FROM endpoint_index_items AS i WHERE i.index_id = final.id OFFSET 0) AS item ON true
            LIMIT $2 + 1
        ) AS of_indexes
    ) > $2
    OR (
        SELECT count(*)
        FROM (
            SELECT FROM job_runs AS own WHERE own.endpoint_id = $1
            UNION ALL
            SELECT
            FROM job_versions AS version
            CROSS JOIN LATERAL (
                SELECT made.endpoint_id FROM job_runs AS made WHERE made.version_id = version.id OFFSET 0
            ) AS inherited
            WHERE version.endpoint_id = $1 AND inherited.endpoint_id <> $1
            LIMIT $2 + 1
        ) AS of_events
    ) > $2
    OR (
        SELECT count(*)
        FROM (
            SELECT FROM job_versions AS version WHERE version.endpoint_id = $1 AND version.state = 'DISABLED' LIMIT $2 + 1
        ) AS of_jobs
    ) > $2 AS is_long

-- name: delete
-- Deletes an endpoint; everything that belongs to it goes with it.
DELETE FROM endpoints WHERE id = $1

-- name: lock_health
-- Locks what is known of an endpoint's health.
SELECT
    url, state, consecutive_failures, state_reason,
    CASE WHEN quiet_until > clock_timestamp() THEN quiet_until - clock_timestamp() END AS quiet_for
FROM endpoints
WHERE id = $1
FOR NO KEY UPDATE

-- name: set_health
-- Stores the health of an endpoint that was in state $2; a healthy one needs no probe, and with $8 a new index is due.
UPDATE endpoints SET
    state = $3, consecutive_failures = $4, state_reason = $5, next_probe_at = clock_timestamp() + $6::interval,
    probe_queue_job_id = CASE WHEN $3 <> 'HEALTHY' THEN probe_queue_job_id END,
    state_changed_at = CASE WHEN state = $3 THEN state_changed_at ELSE clock_timestamp() END,
    updated_at = CASE WHEN state = $3 THEN updated_at ELSE clock_timestamp() END,
    quiet_until = clock_timestamp() + $7::interval,
    next_index_at = CASE WHEN $8 AND next_index_at > clock_timestamp() THEN clock_timestamp() ELSE next_index_at END
WHERE id = $1 AND state = $2

-- name: claim_probe
-- Takes the one call that an unhealthy endpoint is due, and puts the next one off until the outcome is known.
UPDATE endpoints SET next_probe_at = clock_timestamp() + $2::interval
WHERE id = $1 AND state <> 'HEALTHY' AND next_probe_at <= clock_timestamp()
RETURNING id

-- name: hasten_probe
-- Lets the probe of an endpoint that fails be due in $2 at the latest.
UPDATE endpoints SET next_probe_at = clock_timestamp() + $2::interval
WHERE id = $1 AND next_probe_at > clock_timestamp() + $2::interval

-- name: hold_wait
-- Locks an endpoint against a change of its health and says how long it is to be left alone.
SELECT state, coalesce(next_probe_at, quiet_until) - clock_timestamp() AS wait FROM endpoints WHERE id = $1 FOR SHARE

-- name: due_probes
-- Locks endpoints whose probe is due and has not been asked for, passing by those that another server looks at.
WITH due AS MATERIALIZED (
    SELECT id FROM endpoints
    WHERE next_probe_at <= (SELECT clock_timestamp()) AND probe_queue_job_id IS NULL
    ORDER BY next_probe_at
    LIMIT $1
)
SELECT endpoints.id, endpoints.environment_id
FROM due
JOIN endpoints ON endpoints.id = due.id
WHERE endpoints.next_probe_at <= clock_timestamp() AND endpoints.probe_queue_job_id IS NULL
ORDER BY endpoints.id
FOR NO KEY UPDATE OF endpoints SKIP LOCKED

-- name: note_probes
-- Notes which queue jobs will probe locked endpoints.
UPDATE endpoints SET probe_queue_job_id = asked.queue_job_id
FROM unnest($1::uuid[], $2::uuid[]) AS asked (id, queue_job_id)
WHERE endpoints.id = asked.id AND endpoints.probe_queue_job_id IS NULL

-- name: forget_probe
-- Lets the next probe be asked for, because the queue job that was to make this one has ended.
UPDATE endpoints SET probe_queue_job_id = NULL WHERE id = $1 AND probe_queue_job_id = $2

-- name: due_indexes
-- Reads endpoints that are due to be indexed anew by schedule, the longest due first.
SELECT id, environment_id, slug
FROM endpoints
WHERE next_index_at <= (SELECT clock_timestamp())
ORDER BY next_index_at
LIMIT $1

-- name: is_index_due
-- Finds an endpoint if it is due to be indexed anew by schedule.
SELECT id FROM endpoints WHERE id = $1 AND next_index_at <= clock_timestamp()

-- name: schedule_index
-- Puts a due index off by a period; nothing happens when another server has done so.
UPDATE endpoints SET next_index_at = clock_timestamp() + $2::interval
WHERE id = $1 AND next_index_at <= clock_timestamp()

-- name: owed_indexes
-- Reads endpoints whose owed index is to be asked for, the longest due first; a SUSPENDED one waits until it is back.
SELECT id, environment_id, slug
FROM endpoints
WHERE owed_index_at <= (SELECT clock_timestamp()) AND state <> 'SUSPENDED'
ORDER BY owed_index_at
LIMIT $1

-- name: is_index_owed
-- Finds an endpoint if its owed index is to be asked for.
SELECT id FROM endpoints WHERE id = $1 AND owed_index_at <= clock_timestamp() AND state <> 'SUSPENDED'

-- name: owe_index
-- Has an index of an endpoint asked for in $2, and again and again until it has answered one.
UPDATE endpoints SET owed_index_at = clock_timestamp() + $2::interval WHERE id = $1

-- name: owe_no_index
-- Has the index that an endpoint was owed not asked for again.
UPDATE endpoints SET owed_index_at = NULL WHERE id = $1 AND owed_index_at IS NOT NULL
