-- name: insert
-- Inserts a PENDING index.
INSERT INTO endpoint_indexes (id, endpoint_id, source, source_data, reason, queue_job_id)
VALUES ($1, $2, $3, $4::jsonb, $5, $6)
RETURNING
    id, endpoint_id, state, stats::text AS stats, NULL::text AS data, source, source_data::text AS source_data, reason,
    error, sequence, revision, queue_job_id, created_at, updated_at, 0 AS items, 0 AS pending_items

-- name: join
-- Gives a waiting index the last request's reason and source data.
UPDATE endpoint_indexes SET source_data = $2::jsonb, reason = $3, revision = revision + 1, updated_at = now()
WHERE queue_job_id = $1
RETURNING
    id, endpoint_id, state, stats::text AS stats, NULL::text AS data, source, source_data::text AS source_data, reason,
    error, sequence, revision, queue_job_id, created_at, updated_at, 0 AS items, 0 AS pending_items

-- name: begin
-- Makes an index FETCHING under the number that orders it among its endpoint's indexes.
UPDATE endpoint_indexes SET state = 'FETCHING', sequence = $2, revision = revision + 1, updated_at = now()
WHERE id = $1
RETURNING
    id, endpoint_id, state, stats::text AS stats, NULL::text AS data, source, source_data::text AS source_data, reason,
    error, sequence, revision, queue_job_id, created_at, updated_at, 0 AS items, 0 AS pending_items

-- name: wait_again
-- Makes an index wait for its next attempt.
UPDATE endpoint_indexes SET state = 'PENDING', error = $2, revision = revision + 1, updated_at = now()
WHERE id = $1 AND state IN ('PENDING', 'FETCHING')

-- name: fail
-- Ends an index whose fetch failed for good.
UPDATE endpoint_indexes SET state = 'FAILED', error = $2, revision = revision + 1, updated_at = now()
WHERE id = $1 AND state IN ('PENDING', 'FETCHING')

-- name: store_answer
-- Stores what the endpoint answered.
UPDATE endpoint_indexes SET
    state = 'REGISTERING', data = $2::jsonb, stats = $3::jsonb, error = NULL, answered_sequence = sequence,
    revision = revision + 1, updated_at = now()
WHERE id = $1

-- name: insert_items
-- Stores the items of an answer.
INSERT INTO endpoint_index_items (index_id, ordinal, kind, key, version, state, reason)
SELECT $1, item.ordinal, item.kind, item.key, item.version, item.state, item.reason
FROM unnest($2::integer[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
    AS item (ordinal, kind, key, version, state, reason)

-- name: older_unsettled
-- Locks the endpoint's older indexes that are still registering, by id.
SELECT id FROM endpoint_indexes
WHERE endpoint_id = $1 AND sequence < $2 AND state = 'REGISTERING'
ORDER BY id
FOR UPDATE

-- name: supersede_items
-- Ends the PENDING items of older indexes.
UPDATE endpoint_index_items SET
    state = 'SUPERSEDED', reason = 'A newer index of the endpoint replaced it.', updated_at = now()
WHERE index_id = ANY($1::uuid[]) AND state = 'PENDING'

-- name: set_items
-- Stores what became of PENDING items, found one by one: as a plain join, all PENDING items are read for each result.
UPDATE endpoint_index_items SET state = result.state, reason = result.reason, updated_at = now()
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[]) AS result (index_id, kind, key, state, reason)
CROSS JOIN LATERAL (
    SELECT item.index_id, item.ordinal, item.state
    FROM endpoint_index_items AS item
    WHERE item.index_id = result.index_id
        AND item.kind = result.kind
        AND item.key = result.key
        AND item.state = 'PENDING'
    OFFSET 0
) AS found
WHERE endpoint_index_items.index_id = found.index_id
    AND endpoint_index_items.ordinal = found.ordinal
    AND endpoint_index_items.state = found.state

-- name: fetch_again
-- Makes indexes wait for another fetch, with nothing found yet.
WITH forgotten AS (
    DELETE FROM endpoint_index_items WHERE index_id = ANY($1::uuid[])
)
UPDATE endpoint_indexes SET
    state = 'PENDING', error = NULL, stats = '{}', data = '{}', revision = revision + 1, updated_at = now()
WHERE id = ANY($1::uuid[])

-- name: open_items
-- Makes items PENDING again; of several with one key, the one that was not refused as a repetition.
UPDATE endpoint_index_items SET state = 'PENDING', reason = NULL, updated_at = now()
FROM unnest($1::uuid[], $2::text[], $3::text[]) AS retried (index_id, kind, key)
CROSS JOIN LATERAL (
    (
        SELECT item.index_id, item.ordinal FROM endpoint_index_items AS item
        WHERE item.index_id = retried.index_id
            AND item.kind = retried.kind
            AND item.key = retried.key
            AND item.state NOT IN ('REFUSED', 'UNSUPPORTED')
        LIMIT 1
    )
    UNION ALL
    (
        SELECT item.index_id, item.ordinal FROM endpoint_index_items AS item
        WHERE item.index_id = retried.index_id
            AND item.kind = retried.kind
            AND item.key = retried.key
            AND item.state = 'REFUSED'
        ORDER BY item.ordinal
        LIMIT 1
    )
    LIMIT 1
) AS found
WHERE endpoint_index_items.index_id = found.index_id AND endpoint_index_items.ordinal = found.ordinal
RETURNING endpoint_index_items.index_id

-- name: register_again
-- Makes locked indexes register again what was opened again.
UPDATE endpoint_indexes SET state = 'REGISTERING', error = NULL, revision = revision + 1, updated_at = now()
WHERE id = ANY($1::uuid[]) AND state IN ('REGISTERING', 'SUCCEEDED', 'PARTIALLY_SUCCEEDED', 'FAILED')

-- name: sequences
-- Reads the numbers of indexes.
SELECT id, sequence FROM endpoint_indexes WHERE id = ANY($1::uuid[])

-- name: lock
-- Locks indexes by id.
SELECT id FROM endpoint_indexes WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE

-- name: settle
-- Recomputes indexes from their items: still registering while one is PENDING, else final; what was absent for $2 is no good.
UPDATE endpoint_indexes SET
    state = CASE
        WHEN counted.pending > 0 THEN 'REGISTERING'
        WHEN counted.bad = 0 THEN 'SUCCEEDED'
        WHEN counted.good = 0 THEN 'FAILED'
        ELSE 'PARTIALLY_SUCCEEDED'
    END,
    error = CASE
        WHEN counted.pending = 0 AND counted.bad > 0 AND counted.good = 0
            THEN 'None of the ' || counted.bad || ' items the endpoint offers was accepted.'
    END,
    stats = endpoint_indexes.stats || jsonb_build_object('failedItems', counted.bad),
    revision = endpoint_indexes.revision + 1,
    updated_at = now()
FROM (
    SELECT
        wanted.id,
        count(*) FILTER (WHERE item.state = 'PENDING') AS pending,
        count(*) FILTER (WHERE item.state IN ('REFUSED', 'FAILED')) AS bad,
        count(*) FILTER (
            WHERE item.state IN ('REGISTERED', 'CHANGED', 'UNCHANGED', 'SUPERSEDED')
                OR (item.state = 'DISABLED' AND item.reason IS DISTINCT FROM $2)
        ) AS good
    FROM unnest($1::uuid[]) AS wanted (id)
    LEFT JOIN LATERAL (
        SELECT stored.state, stored.reason FROM endpoint_index_items AS stored
        WHERE stored.index_id = wanted.id
        OFFSET 0
    ) AS item ON true
    GROUP BY wanted.id
) AS counted
WHERE endpoint_indexes.id = ANY($1::uuid[]) AND endpoint_indexes.id = counted.id
    AND endpoint_indexes.state = 'REGISTERING'
RETURNING endpoint_indexes.state, endpoint_indexes.queue_job_id

-- name: get
-- Reads one index, its data and what came with the request only when asked.
SELECT
    id, endpoint_id, state, stats::text AS stats, CASE WHEN $2 THEN data::text END AS data, source,
    CASE WHEN $3 THEN source_data::text END AS source_data, reason, error, sequence, revision, queue_job_id, created_at, updated_at,
    counted.items, counted.pending_items
FROM endpoint_indexes
CROSS JOIN LATERAL (
    SELECT count(*) AS items, count(*) FILTER (WHERE item.state = 'PENDING') AS pending_items
    FROM endpoint_index_items AS item
    WHERE item.index_id = endpoint_indexes.id
) AS counted
WHERE id = $1

-- name: endpoint_of
-- Reads which endpoint an index is of.
SELECT endpoint_id FROM endpoint_indexes WHERE id = $1

-- name: origin
-- Reads of which endpoint an index is, which queue job carries it, and when it was asked for.
SELECT endpoint_id, queue_job_id, created_at FROM endpoint_indexes WHERE id = $1

-- name: revisions
-- Reads the revisions of indexes.
SELECT id, revision FROM endpoint_indexes WHERE id = ANY($1::uuid[])

-- name: get_by_queue_job
-- Reads the index that a queue job carries out.
SELECT
    id, endpoint_id, state, stats::text AS stats, NULL::text AS data, source, source_data::text AS source_data, reason,
    error, sequence, revision, queue_job_id, created_at, updated_at, 0 AS items, 0 AS pending_items
FROM endpoint_indexes
WHERE queue_job_id = $1

-- name: list_indexes
-- Reads an endpoint's indexes, newest first, without what came with the requests or the answers.
SELECT
    id, endpoint_id, state, stats::text AS stats, NULL::text AS data, source, NULL::text AS source_data, reason,
    error, sequence, revision, queue_job_id, created_at, updated_at,
    counted.items, counted.pending_items
FROM endpoint_indexes
CROSS JOIN LATERAL (
    SELECT count(*) AS items, count(*) FILTER (WHERE item.state = 'PENDING') AS pending_items
    FROM endpoint_index_items AS item
    WHERE item.index_id = endpoint_indexes.id
) AS counted
WHERE endpoint_id = $1 AND ($2::uuid IS NULL OR id < $2)
ORDER BY id DESC
LIMIT $3

-- name: list_items
-- Reads an index's items in the order of the answer.
SELECT index_id, ordinal, kind, key, version, state, reason, created_at, updated_at
FROM endpoint_index_items
WHERE index_id = $1
    AND ($2::text IS NULL OR kind = $2)
    AND ($3::text IS NULL OR state = $3)
    AND ordinal > $4
ORDER BY ordinal
LIMIT $5

-- name: look_at_old
-- Looks at the next $4 old indexes: where that ended, if there may be more, and which are final and surplus.
WITH old AS MATERIALIZED (
    SELECT id, endpoint_id, state, created_at
    FROM endpoint_indexes
    WHERE created_at < (SELECT clock_timestamp()) - $1::interval
        AND created_at > coalesce($2::timestamptz, '-infinity')
    ORDER BY created_at
    FETCH FIRST ($4) ROWS WITH TIES
)
SELECT
    (SELECT CASE WHEN count(*) >= $4 THEN max(created_at) END FROM old) AS looked_to,
    ARRAY(
        SELECT old.id
        FROM old
        WHERE old.state IN ('SUCCEEDED', 'PARTIALLY_SUCCEEDED', 'FAILED')
            AND (
                SELECT count(*)
                FROM (
                    SELECT FROM endpoint_indexes AS newer
                    WHERE newer.endpoint_id = old.endpoint_id AND newer.id > old.id
                    LIMIT $3
                ) AS kept
            ) >= $3
        LIMIT $5
    ) AS surplus

-- name: lock_surplus
-- Locks those of the indexes that are still final, by id.
SELECT id FROM endpoint_indexes
WHERE id = ANY($1::uuid[]) AND state IN ('SUCCEEDED', 'PARTIALLY_SUCCEEDED', 'FAILED')
ORDER BY id
FOR UPDATE SKIP LOCKED

-- name: lock_final
-- Locks final indexes of an endpoint, the oldest first.
SELECT id FROM endpoint_indexes
WHERE endpoint_id = $1 AND state IN ('SUCCEEDED', 'PARTIALLY_SUCCEEDED', 'FAILED')
ORDER BY id
LIMIT $2
FOR UPDATE SKIP LOCKED

-- name: delete_items
-- Deletes at most $2 items of indexes, in the order of these; an index with very many goes over several times.
DELETE FROM endpoint_index_items
WHERE ctid = ANY(ARRAY(
    SELECT item.ctid
    FROM unnest($1::uuid[]) AS old (id)
    CROSS JOIN LATERAL (
        SELECT stored.ctid FROM endpoint_index_items AS stored WHERE stored.index_id = old.id OFFSET 0
    ) AS item
    LIMIT $2
))

-- name: delete_emptied
-- Deletes those of the indexes that have no items left.
DELETE FROM endpoint_indexes
WHERE id = ANY($1::uuid[])
    AND NOT EXISTS (SELECT FROM endpoint_index_items AS item WHERE item.index_id = endpoint_indexes.id OFFSET 0)
RETURNING id
