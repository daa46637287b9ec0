-- name: lock
-- Waits for whoever has claimed the same request id and holds it until this transaction ends.
SELECT pg_advisory_xact_lock(hashtextextended($1, 0))

-- name: get
-- Reads what a request made within the last 24 hours.
SELECT request_hash, resource_id
FROM request_ids
WHERE principal = $1 AND method = $2 AND request_id = $3 AND created_at > now() - interval '24 hours'

-- name: flag
-- Reads what the first answer to a request said besides its resource.
SELECT flag FROM request_ids WHERE principal = $1 AND method = $2 AND request_id = $3

-- name: record
-- Remembers what a request made, in place of one that is past its 24 hours.
INSERT INTO request_ids (principal, method, request_id, request_hash, resource_id, flag)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (principal, method, request_id) DO UPDATE
SET
    request_hash = excluded.request_hash, resource_id = excluded.resource_id, flag = excluded.flag, created_at = now()
WHERE request_ids.created_at <= now() - interval '24 hours'

-- name: delete_expired
-- Deletes request ids past their 24 hours, oldest first.
DELETE FROM request_ids
WHERE (principal, method, request_id) IN (
    SELECT principal, method, request_id FROM request_ids
    WHERE created_at <= now() - interval '24 hours'
    ORDER BY created_at
    LIMIT $1
    FOR UPDATE SKIP LOCKED
)
