-- Who is displaced from what is kept by the triggers of `job_versions` and `trigger_sources`.

-- name: withdraw
-- Forgets what the endpoint $1 was displaced from and does not offer any more.
WITH offered AS MATERIALIZED (
    SELECT o.kind, o.key FROM unnest($2::text[], $3::text[]) AS o (kind, key)
), withdrawn AS MATERIALIZED (
    SELECT d.item_id
    FROM displaced_items d
    LEFT JOIN jobs j ON j.id = d.job_id
    LEFT JOIN trigger_sources s ON s.id = d.source_id
    WHERE
        d.endpoint_id = $1
        AND (CASE WHEN j.id IS NULL THEN 'SOURCE' ELSE 'JOB' END, coalesce(j.slug, s.key))
        NOT IN (SELECT o.kind, o.key FROM offered o)
    ORDER BY d.item_id
    FOR UPDATE OF d
)
DELETE FROM displaced_items d USING withdrawn w WHERE d.item_id = w.item_id AND d.endpoint_id = $1

-- name: withdraw_versions
-- Forgets which versions of the jobs $2 the endpoints $1 were displaced from, because they have registered others.
DELETE FROM displaced_items d
USING unnest($1::uuid[], $2::uuid[]) AS t (endpoint_id, job_id)
WHERE d.job_id = t.job_id AND d.endpoint_id = t.endpoint_id

-- name: give_back
-- Gives what the endpoints $1 had of the jobs $2, and the sources $3, all disabled by now, to those that were displaced.
--
-- Of each item, the ten that were displaced last are considered: it costs the same however many there are. One with the
-- same content gets it, a HEALTHY one first, then the latest; where none has, all of them are owed an index.
WITH held AS MATERIALIZED (
    SELECT v.id, v.content_hash
    FROM unnest($1::uuid[], $2::uuid[]) AS t (endpoint_id, job_id)
    CROSS JOIN LATERAL (
        SELECT o.id, o.content_hash
        FROM job_versions o
        WHERE
            o.job_id = t.job_id
            AND (o.endpoint_id, o.state) IS NOT DISTINCT FROM (t.endpoint_id, 'DISABLED') -- by no index of these
        OFFSET 0
    ) AS v
    UNION ALL
    SELECT s.id, s.content_hash FROM trigger_sources s WHERE s.id = ANY ($3::uuid[]) AND NOT s.enabled
), offers AS MATERIALIZED (
    SELECT
        d.item_id, d.endpoint_id, d.index_sequence, d.displaced_at, d.content_hash = h.content_hash AS is_same,
        e.is_healthy
    FROM held h
    CROSS JOIN LATERAL (
        SELECT o.item_id, o.endpoint_id, o.content_hash, o.index_sequence, o.displaced_at
        FROM displaced_items o
        WHERE o.item_id = h.id
        ORDER BY o.displaced_at DESC
        LIMIT 10
    ) AS d
    CROSS JOIN LATERAL (
        SELECT o.state = 'HEALTHY' AS is_healthy FROM endpoints o WHERE o.id = d.endpoint_id OFFSET 0
    ) AS e
), candidates AS MATERIALIZED (
    SELECT o.item_id, o.endpoint_id, o.index_sequence, o.displaced_at, o.is_same, o.is_healthy
    FROM offers o
    JOIN displaced_items d ON d.item_id = o.item_id AND d.endpoint_id = o.endpoint_id
    ORDER BY d.item_id, d.endpoint_id
    FOR UPDATE OF d
), heirs AS MATERIALIZED (
    -- One that is being deleted takes nothing.
    SELECT e.id
    FROM (SELECT DISTINCT c.endpoint_id FROM candidates c) AS wanted
    JOIN endpoints e ON e.id = wanted.endpoint_id
    ORDER BY e.id
    FOR KEY SHARE OF e SKIP LOCKED
), chosen AS MATERIALIZED (
    SELECT DISTINCT ON (c.item_id) c.item_id, c.endpoint_id, c.index_sequence
    FROM candidates c
    WHERE c.is_same AND (c.endpoint_id IN (SELECT h.id FROM heirs h)) IS TRUE
    ORDER BY c.item_id, c.is_healthy DESC, c.displaced_at DESC
), asked AS (
    UPDATE endpoints e SET owed_index_at = clock_timestamp()
    FROM (
        SELECT DISTINCT c.endpoint_id
        FROM candidates c
        WHERE
            c.item_id NOT IN (SELECT g.item_id FROM chosen g)
            AND (c.endpoint_id IN (SELECT h.id FROM heirs h)) IS TRUE
        ORDER BY c.endpoint_id
    ) AS owed
    WHERE e.id = owed.endpoint_id
), given_sources AS (
    UPDATE trigger_sources s
    SET endpoint_id = c.endpoint_id, enabled = true, index_sequence = c.index_sequence, updated_at = now()
    FROM chosen c
    WHERE s.id = c.item_id
)
UPDATE job_versions v
SET endpoint_id = c.endpoint_id, state = 'ACTIVE', index_sequence = c.index_sequence, updated_at = now()
FROM chosen c
WHERE v.id = c.item_id
RETURNING v.job_id, v.environment_id

-- name: bequeath
-- Gives what the endpoint $1, which is being deleted, has left of items that others offer to who had them last, disabled.
--
-- What hangs on the item stays with it. The heir was asked for an index when the item was disabled, and registers its own
-- content. Of each item, the ten that were displaced last are considered.
WITH held AS MATERIALIZED (
    SELECT v.id FROM job_versions v WHERE v.endpoint_id = $1
    UNION ALL
    SELECT s.id FROM trigger_sources s WHERE s.endpoint_id = $1
), candidates AS MATERIALIZED (
    SELECT h.id AS item_id, d.endpoint_id, d.index_sequence, d.displaced_at
    FROM held h
    CROSS JOIN LATERAL (
        SELECT o.endpoint_id, o.index_sequence, o.displaced_at
        FROM displaced_items o
        WHERE o.item_id = h.id
        ORDER BY o.displaced_at DESC
        LIMIT 10
    ) AS d
), heirs AS MATERIALIZED (
    -- One that is being deleted takes nothing.
    SELECT e.id
    FROM (SELECT DISTINCT c.endpoint_id FROM candidates c) AS wanted
    JOIN endpoints e ON e.id = wanted.endpoint_id
    ORDER BY e.id
    FOR KEY SHARE OF e SKIP LOCKED
), chosen AS MATERIALIZED (
    SELECT DISTINCT ON (c.item_id) c.item_id, c.endpoint_id, c.index_sequence
    FROM candidates c
    WHERE (c.endpoint_id IN (SELECT h.id FROM heirs h)) IS TRUE
    ORDER BY c.item_id, c.displaced_at DESC
), given_sources AS (
    UPDATE trigger_sources s
    SET endpoint_id = c.endpoint_id, index_sequence = c.index_sequence, updated_at = now()
    FROM chosen c
    WHERE s.id = c.item_id
)
UPDATE job_versions v SET endpoint_id = c.endpoint_id, index_sequence = c.index_sequence, updated_at = now()
FROM chosen c
WHERE v.id = c.item_id
