-- name: get
-- Reads one dispatcher.
SELECT
    d.id, d.environment_id, d.origin, d.event_names, d.source, d.payload_filter::text AS payload_filter,
    d.context_filter::text AS context_filter, d.enabled AND NOT d.operator_disabled AS is_enabled, d.manual,
    a.identifier AS account, d.dispatchable_type, coalesce(d.job_version_id, d.dynamic_trigger_id) AS dispatchable_id,
    d.created_at, d.updated_at
FROM event_dispatchers d
LEFT JOIN external_accounts a ON a.id = d.external_account_id
WHERE d.id = $1

-- name: list_of_environment
-- Reads a page of an environment's dispatchers, $6 bytes or one, oldest first, by both columns of their index.
SELECT
    p.found, d.id, d.environment_id, d.origin, d.event_names, d.source, d.payload_filter::text AS payload_filter,
    d.context_filter::text AS context_filter, d.enabled AND NOT d.operator_disabled AS is_enabled, d.manual,
    a.identifier AS account, d.dispatchable_type, coalesce(d.job_version_id, d.dynamic_trigger_id) AS dispatchable_id,
    d.created_at, d.updated_at
FROM (
    SELECT m.id, m.bytes, sum(m.bytes) OVER (ORDER BY m.id) AS bytes_so_far, count(*) OVER () AS found
    FROM (
        SELECT
            d.id,
            octet_length(d.payload_filter::text) + octet_length(d.context_filter::text)
            + octet_length(array_to_string(d.event_names, '')) AS bytes
        FROM event_dispatchers d
        WHERE
            (d.environment_id, d.id) > ($1, $2) AND d.environment_id <= $1
            AND ($3::text IS NULL OR d.source = $3)
            AND ($4::text IS NULL OR d.origin IS NOT DISTINCT FROM $4) -- not by the index of those of origin INDEX
        ORDER BY d.environment_id, d.id
        LIMIT $5
    ) AS m
) AS p
JOIN event_dispatchers d ON d.id = p.id
LEFT JOIN external_accounts a ON a.id = d.external_account_id
WHERE p.bytes_so_far <= $6 OR p.bytes_so_far = p.bytes
ORDER BY d.id

-- name: list_of_event
-- Reads a page of the dispatchers that listen to an event, $7 bytes or one, oldest first; the others are not looked at.
SELECT
    p.found, d.id, d.environment_id, d.origin, d.event_names, d.source, d.payload_filter::text AS payload_filter,
    d.context_filter::text AS context_filter, d.enabled AND NOT d.operator_disabled AS is_enabled, d.manual,
    a.identifier AS account, d.dispatchable_type, coalesce(d.job_version_id, d.dynamic_trigger_id) AS dispatchable_id,
    d.created_at, d.updated_at
FROM (
    SELECT m.id, m.bytes, sum(m.bytes) OVER (ORDER BY m.id) AS bytes_so_far, count(*) OVER () AS found
    FROM (
        SELECT
            d.id,
            octet_length(d.payload_filter::text) + octet_length(d.context_filter::text)
            + octet_length(array_to_string(d.event_names, '')) AS bytes
        FROM (
            SELECT n.dispatcher_id
            FROM event_dispatcher_names n
            WHERE
                n.environment_id = $1 AND n.event_name = $2 AND ($3::text IS NULL OR n.source = $3)
                AND n.dispatcher_id > $4
            ORDER BY n.dispatcher_id
            OFFSET 0
        ) AS listening
        JOIN event_dispatchers d ON d.id = listening.dispatcher_id
        WHERE $5::text IS NULL OR d.origin = $5
        ORDER BY listening.dispatcher_id
        LIMIT $6
    ) AS m
) AS p
JOIN event_dispatchers d ON d.id = p.id
LEFT JOIN external_accounts a ON a.id = d.external_account_id
WHERE p.bytes_so_far <= $7 OR p.bytes_so_far = p.bytes
ORDER BY d.id

-- name: hold_job_version
-- Reads the job of a version and keeps both from being deleted until this transaction ends.
SELECT job_id AS dispatchable_id FROM job_versions WHERE id = $1 AND environment_id = $2 FOR KEY SHARE

-- name: hold_dynamic_trigger
-- Keeps a dynamic trigger from being deleted until this transaction ends.
SELECT id AS dispatchable_id FROM dynamic_triggers WHERE id = $1 AND environment_id = $2 FOR KEY SHARE

-- name: insert_account
-- Inserts an account unless it is there.
INSERT INTO external_accounts (id, identifier, organization_id, environment_id)
SELECT $1, $2, n.organization_id, n.id
FROM runtime_environments n
WHERE n.id = $3
ON CONFLICT (environment_id, identifier) DO NOTHING

-- name: get_account
-- Reads the id of an account.
SELECT id FROM external_accounts WHERE environment_id = $1 AND identifier = $2

-- name: insert
-- Inserts a dispatcher that a caller wrote, and reads it as it is stored.
INSERT INTO event_dispatchers (
    id, origin, event_names, source, payload_filter, context_filter, enabled, manual, external_account_id,
    dispatchable_type, dispatchable_id, job_version_id, dynamic_trigger_id, environment_id
)
VALUES ($1, 'API', $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
RETURNING
    id, environment_id, origin, event_names, source, payload_filter::text AS payload_filter,
    context_filter::text AS context_filter, enabled AS is_enabled, manual,
    (SELECT identifier FROM external_accounts a WHERE a.id = external_account_id) AS account, dispatchable_type,
    coalesce(job_version_id, dynamic_trigger_id) AS dispatchable_id, created_at, updated_at

-- name: change
-- Gives a dispatcher that a caller wrote the values that are not null, and with $8 the account $9, unless it has them.
UPDATE event_dispatchers SET
    event_names = coalesce($2, event_names),
    source = coalesce($3, source),
    payload_filter = coalesce($4, payload_filter),
    context_filter = coalesce($5, context_filter),
    enabled = coalesce($6, enabled),
    manual = coalesce($7, manual),
    external_account_id = CASE WHEN $8::boolean THEN $9::uuid ELSE external_account_id END,
    updated_at = now()
WHERE
    id = $1 AND origin = 'API'
    AND (event_names, source, payload_filter, context_filter, enabled, manual, external_account_id)
    IS DISTINCT FROM (
        coalesce($2, event_names), coalesce($3, source), coalesce($4, payload_filter), coalesce($5, context_filter),
        coalesce($6, enabled), coalesce($7, manual),
        CASE WHEN $8::boolean THEN $9::uuid ELSE external_account_id END
    )

-- name: set_operator_disabled
-- Notes whether an operator disabled a dispatcher that an index wrote.
UPDATE event_dispatchers SET operator_disabled = $2, updated_at = now()
WHERE id = $1 AND origin = 'INDEX' AND operator_disabled <> $2

-- name: delete
-- Deletes a dispatcher that a caller wrote.
DELETE FROM event_dispatchers WHERE id = $1 AND origin = 'API'
