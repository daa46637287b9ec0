-- An index of what waits is given to a statement that says whose it is: `priority > 0` the relay's, `seq > 0` the lanes'.
-- Every row fulfils both; see the migration 0003. Skip scans compare whole rows, because equal columns would allow the
-- index of an environment's queue jobs, and then every step reads all of them.

-- name: enqueue
-- Inserts queue jobs, what is due already AVAILABLE from the start, claiming the key $11, if any, for $13.
WITH claimed AS (
    INSERT INTO queue_uniques (key, value, queue_job_id, expires_at)
    SELECT $11, $12, $13, clock_timestamp() + $14::interval WHERE $11::text IS NOT NULL
    ON CONFLICT (key, value) DO UPDATE SET queue_job_id = excluded.queue_job_id, expires_at = excluded.expires_at
)
INSERT INTO queue_jobs
    (id, environment_id, kind, args, queue, lane, priority, max_attempts, run_at, state, trace_context)
SELECT
    new.id, new.environment_id, new.kind, new.args, new.queue, new.lane, new.priority, new.max_attempts,
    coalesce(new.run_at, clock_timestamp()),
    CASE WHEN new.run_at > clock_timestamp() THEN 'SCHEDULED' ELSE 'AVAILABLE' END,
    new.trace_context
FROM unnest(
    $1::uuid[], $2::uuid[], $3::text[], $4::jsonb[], $5::text[], $6::text[], $7::smallint[], $8::smallint[],
    $9::timestamptz[], $10::text[]
) AS new (id, environment_id, kind, args, queue, lane, priority, max_attempts, run_at, trace_context)

-- name: promote_due
-- Makes due queue jobs AVAILABLE, oldest first and the newest few with them, leaving those that another relay promotes.
WITH oldest AS (
    SELECT id FROM queue_jobs
    WHERE state = 'SCHEDULED' AND priority > 0 AND run_at <= (SELECT clock_timestamp())
    ORDER BY run_at
    LIMIT $1
    FOR UPDATE SKIP LOCKED
), newest AS (
    -- What falls due now does not wait for a backlog that fell due before it.
    SELECT id FROM queue_jobs
    WHERE state = 'SCHEDULED' AND priority > 0 AND run_at <= (SELECT clock_timestamp())
    ORDER BY run_at DESC
    LIMIT $2
    FOR UPDATE SKIP LOCKED
), due AS (
    SELECT id FROM oldest UNION SELECT id FROM newest
)
UPDATE queue_jobs SET state = 'AVAILABLE'
FROM due
WHERE queue_jobs.id = due.id AND queue_jobs.state = 'SCHEDULED'

-- name: outlook
-- Walks the environments with work due in each queue $1, from $2 on, with what they hold, beside how soon more is due.
WITH next AS (
    SELECT run_at - clock_timestamp() AS due_in FROM queue_jobs
    WHERE state = 'SCHEDULED' AND priority > 0
    ORDER BY run_at
    LIMIT 1
), held AS (
    SELECT queue, environment_id, count(*) AS lanes FROM queue_lanes GROUP BY queue, environment_id
), waiting AS (
    SELECT turn.queue, found.environment_id, coalesce(held.lanes, 0) AS held
    FROM (
        SELECT queue, after FROM unnest($1::text[], $2::uuid[]) AS asked (queue, after)
        WHERE NOT EXISTS (SELECT FROM queue_pauses AS pause WHERE pause.queue = asked.queue AND pause.lane IS NULL)
        OFFSET 0
    ) AS turn
    CROSS JOIN LATERAL (
        WITH RECURSIVE step AS (
            (
                SELECT environment_id FROM queue_jobs
                WHERE state = 'AVAILABLE' AND priority > 0
                    AND (queue, environment_id) >= (turn.queue, turn.after) AND queue <= turn.queue
                ORDER BY queue, environment_id
                LIMIT 1
            )
            UNION ALL
            SELECT following.environment_id
            FROM step
            CROSS JOIN LATERAL (
                SELECT queue_jobs.environment_id FROM queue_jobs
                WHERE state = 'AVAILABLE' AND priority > 0
                    AND (queue, queue_jobs.environment_id) > (turn.queue, step.environment_id) AND queue <= turn.queue
                ORDER BY queue, queue_jobs.environment_id
                LIMIT 1
            ) AS following
        )
        SELECT environment_id FROM step LIMIT $3
    ) AS found
    LEFT JOIN held ON held.queue = turn.queue AND held.environment_id = found.environment_id
)
SELECT (SELECT due_in FROM next) AS next_due_in, waiting.queue, waiting.environment_id, waiting.held
FROM (VALUES (true)) AS always (is_there)
LEFT JOIN waiting ON always.is_there

-- name: ring
-- Opens idle lanes by a skip scan of each environment's lanes by priority; first who holds fewest, of equals who follows $9.
WITH idle AS (
    SELECT turn.environment_id, walk.priority, walk.lane, turn.held + walk.place AS place
    FROM unnest($3::uuid[], $4::integer[], $5::integer[], $6::smallint[], $7::text[])
        AS turn (environment_id, held, most, priority, lane)
    CROSS JOIN LATERAL (
        SELECT found.priority, found.lane, row_number() OVER () AS place
        FROM (
            SELECT step.priority, step.lane
            FROM (
                -- Urgent ones from the start, then one priority from where the last pass ended and round, then the rest.
                VALUES
                    (0::smallint, '', turn.priority, ''),
                    (turn.priority, turn.lane, (turn.priority + 1)::smallint, ''),
                    (turn.priority, '', turn.priority, turn.lane),
                    ((turn.priority + 1)::smallint, '', 9::smallint, '')
            ) AS range (from_priority, from_lane, to_priority, to_lane)
            CROSS JOIN LATERAL (
                WITH RECURSIVE step AS (
                    SELECT range.from_priority AS last_priority, range.from_lane AS last_lane,
                        NULL::smallint[] AS priorities, NULL::text[] AS lanes
                    UNION ALL
                    -- Where lanes are short some entries at a time, because to find a place of the index costs more than
                    -- to read on; where they are long two, because each entry is looked up in the table.
                    SELECT following.priorities[cardinality(following.priorities)],
                        following.lanes[cardinality(following.lanes)], following.priorities, following.lanes
                    FROM step
                    CROSS JOIN LATERAL (
                        SELECT array_agg(entry.priority) AS priorities, array_agg(entry.lane) AS lanes
                        FROM (
                            SELECT queue_jobs.priority, queue_jobs.lane FROM queue_jobs
                            WHERE state = 'AVAILABLE' AND queue_jobs.priority > 0
                                AND (queue, environment_id, queue_jobs.priority, queue_jobs.lane)
                                > ($1, turn.environment_id, step.last_priority, step.last_lane)
                                AND (queue, environment_id, queue_jobs.priority, queue_jobs.lane)
                                <= ($1, turn.environment_id, range.to_priority, range.to_lane)
                            ORDER BY queue, environment_id, queue_jobs.priority, queue_jobs.lane
                            LIMIT CASE WHEN step.lanes[cardinality(step.lanes) - 1] <> step.last_lane THEN 16 ELSE 2 END
                        ) AS entry
                    ) AS following
                    WHERE following.lanes IS NOT NULL
                )
                SELECT entry.priority, entry.lane
                FROM step
                CROSS JOIN LATERAL (
                    SELECT entry.priority, entry.lane, lag(entry.lane) OVER () AS before
                    FROM unnest(step.priorities, step.lanes) AS entry (priority, lane)
                ) AS entry
                WHERE entry.lane IS DISTINCT FROM entry.before
            ) AS step
            WHERE (range.from_priority, range.from_lane) < (range.to_priority, range.to_lane)
                AND NOT EXISTS (
                    SELECT FROM queue_lanes AS open WHERE open.queue = $1 AND open.lane = step.lane OFFSET 0
                )
                AND NOT EXISTS (
                    SELECT FROM queue_pauses AS pause
                    WHERE pause.queue = $1 AND pause.lane = step.lane OFFSET 0
                )
                AND NOT EXISTS (SELECT FROM queue_pauses AS pause WHERE pause.queue = $1 AND pause.lane IS NULL)
            LIMIT turn.most
        ) AS found
    ) AS walk
    ORDER BY place, turn.environment_id <= $9, turn.environment_id
    LIMIT $2
), chosen AS MATERIALIZED (
    SELECT DISTINCT ON (lane) lane, environment_id, priority, place FROM idle ORDER BY lane, place
), opened AS (
    INSERT INTO queue_lanes (queue, lane, environment_id, state, lease_until)
    SELECT $1, lane, environment_id, 'RUNG', clock_timestamp() + $8::interval
    FROM chosen
    -- A ring that is lost when PostgreSQL crashes is made again, so that nobody waits for the disk.
    WHERE (SELECT set_config('synchronous_commit', 'off', true)) = 'off'
    ORDER BY lane
    ON CONFLICT (queue, lane) DO NOTHING
    RETURNING lane
)
SELECT chosen.lane, chosen.environment_id, chosen.priority, chosen.place
FROM chosen
WHERE (chosen.lane IN (SELECT opened.lane FROM opened)) IS TRUE
ORDER BY chosen.place, chosen.environment_id <= $9, chosen.environment_id

-- name: ring_few
-- Opens all idle lanes of each queue $1 where up to $3 queue jobs wait and nobody holds over $2; names the others, no lane.
WITH next AS (
    SELECT run_at - clock_timestamp() AS due_in FROM queue_jobs
    WHERE state = 'SCHEDULED' AND priority > 0
    ORDER BY run_at
    LIMIT 1
), waiting AS MATERIALIZED (
    SELECT asked.queue, asked.most, found.environment_id, found.priority, found.lane, found.number
    FROM unnest($1::text[], $2::integer[]) AS asked (queue, most)
    CROSS JOIN LATERAL (
        SELECT first.environment_id, first.priority, first.lane, row_number() OVER () AS number
        FROM (
            SELECT environment_id, priority, lane FROM queue_jobs
            WHERE state = 'AVAILABLE' AND priority > 0 AND queue = asked.queue
            ORDER BY queue, environment_id, priority, lane
            LIMIT $3 + 1
        ) AS first
    ) AS found
    WHERE NOT EXISTS (SELECT FROM queue_pauses AS pause WHERE pause.queue = asked.queue AND pause.lane IS NULL)
), idle AS MATERIALIZED (
    SELECT DISTINCT ON (queue, lane) queue, lane, environment_id, priority, most
    FROM waiting
    WHERE NOT EXISTS (
            SELECT FROM queue_lanes AS open WHERE open.queue = waiting.queue AND open.lane = waiting.lane OFFSET 0
        )
        AND NOT EXISTS (
            SELECT FROM queue_pauses AS pause
            WHERE pause.queue = waiting.queue AND pause.lane = waiting.lane OFFSET 0
        )
    ORDER BY queue, lane, priority
), held AS MATERIALIZED (
    SELECT asked.queue, counted.environment_id, counted.lanes
    FROM (SELECT DISTINCT queue FROM idle) AS asked
    CROSS JOIN LATERAL (
        SELECT open.environment_id, count(*) AS lanes FROM queue_lanes AS open
        WHERE open.queue = asked.queue
        GROUP BY open.environment_id
    ) AS counted
), chosen AS MATERIALIZED (
    SELECT
        idle.queue, idle.lane, idle.environment_id, idle.priority, idle.most,
        coalesce(held.lanes, 0)
        + row_number() OVER (PARTITION BY idle.queue, idle.environment_id ORDER BY idle.priority, idle.lane) AS place
    FROM idle
    LEFT JOIN held ON held.queue = idle.queue AND held.environment_id = idle.environment_id
), crowded AS MATERIALIZED (
    SELECT queue FROM waiting WHERE number > $3 UNION SELECT queue FROM chosen WHERE place > most
), opened AS (
    INSERT INTO queue_lanes (queue, lane, environment_id, state, lease_until)
    SELECT queue, lane, environment_id, 'RUNG', clock_timestamp() + $4::interval
    FROM chosen
    -- A ring that is lost when PostgreSQL crashes is made again, so that nobody waits for the disk.
    WHERE queue NOT IN (SELECT crowded.queue FROM crowded)
        AND (SELECT set_config('synchronous_commit', 'off', true)) = 'off'
    ORDER BY queue, lane
    ON CONFLICT (queue, lane) DO NOTHING
    RETURNING queue, lane
)
SELECT
    (SELECT due_in FROM next) AS next_due_in, found.queue, found.environment_id, found.priority, found.lane, found.place
FROM (VALUES (true)) AS always (is_there)
LEFT JOIN (
    SELECT queue, environment_id, priority, lane, place FROM chosen
    WHERE ((queue, lane) IN (SELECT opened.queue, opened.lane FROM opened)) IS TRUE
    UNION ALL
    SELECT queue, NULL, NULL, NULL, NULL FROM crowded
) AS found ON always.is_there
ORDER BY found.place, found.priority

-- name: overdue_lanes
-- Locks lanes whose lease ran out and that nobody else is rescuing.
WITH overdue AS MATERIALIZED (
    SELECT queue, lane FROM queue_lanes
    WHERE lease_until < (SELECT clock_timestamp())
    ORDER BY lease_until
    LIMIT $1
)
SELECT queue_lanes.queue, queue_lanes.lane, queue_lanes.state = 'RUNNING' AS running, queue_lanes.suspect
FROM overdue
JOIN queue_lanes ON queue_lanes.queue = overdue.queue AND queue_lanes.lane = overdue.lane
WHERE queue_lanes.lease_until < clock_timestamp()
ORDER BY queue_lanes.queue, queue_lanes.lane
FOR UPDATE OF queue_lanes SKIP LOCKED

-- name: lock_abandoned
-- Locks the RUNNING queue jobs of dead owners' lanes, by id.
SELECT queue_jobs.id
FROM queue_jobs
JOIN unnest($1::text[], $2::text[]) AS overdue (queue, lane) USING (queue, lane)
WHERE queue_jobs.state = 'RUNNING' AND queue_jobs.seq > 0
ORDER BY queue_jobs.id
FOR UPDATE OF queue_jobs

-- name: rescue_running
-- Gives RUNNING queue jobs back without counting the attempt, or ends those that were rescued too often or cancelled.
UPDATE queue_jobs SET
    state = CASE
        WHEN cancel_requested_at IS NOT NULL THEN 'CANCELLED'
        WHEN rescues >= $2 THEN 'DISCARDED'
        ELSE 'AVAILABLE'
    END,
    attempt = CASE WHEN cancel_requested_at IS NULL AND rescues < $2 THEN attempt - 1 ELSE attempt END,
    rescues = rescues + 1,
    errors = errors || jsonb_build_object(
        'time', clock_timestamp(), 'attempt', attempt,
        'reason', CASE WHEN cancel_requested_at IS NULL THEN 'LEASE_EXPIRED' ELSE 'CANCELLED' END,
        'message', 'The process that ran it stopped renewing its lease.'
    ),
    finalized_at = CASE WHEN cancel_requested_at IS NOT NULL OR rescues >= $2 THEN clock_timestamp() END
WHERE id = ANY($1::uuid[]) AND state = 'RUNNING'
RETURNING id, kind, args::text AS args, environment_id, state

-- name: ring_again
-- Rings locked lanes once more.
UPDATE queue_lanes SET
    state = 'RUNG', claim = NULL, rings = rings + 1, lease_until = clock_timestamp() + $3::interval
FROM unnest($1::text[], $2::text[]) AS overdue (queue, lane)
WHERE queue_lanes.queue = overdue.queue AND queue_lanes.lane = overdue.lane

-- name: put_off
-- Lets locked lanes that cannot be published now be overdue again soon, behind those that are overdue already.
UPDATE queue_lanes SET state = 'RUNG', claim = NULL, lease_until = clock_timestamp() + $3::interval
FROM unnest($1::text[], $2::text[]) AS overdue (queue, lane)
WHERE queue_lanes.queue = overdue.queue AND queue_lanes.lane = overdue.lane

-- name: free_lanes
-- Makes locked lanes of dead owners idle, so that a relay rings them in their turn.
DELETE FROM queue_lanes
USING unnest($1::text[], $2::text[]) AS overdue (queue, lane)
WHERE queue_lanes.queue = overdue.queue AND queue_lanes.lane = overdue.lane AND queue_lanes.state = 'RUNNING'

-- name: mark_suspect
-- Notes that a call began on lanes that had been rung before; the rings from now on are those that it left unanswered.
UPDATE queue_lanes SET suspect = true, rings = 1 WHERE queue = $1 AND lane = ANY($2::text[]) AND state = 'RUNG'

-- name: lock_claim
-- Locks the lane of a claim, if it still holds.
SELECT claim FROM queue_lanes WHERE claim = $1 AND state = 'RUNNING' FOR UPDATE

-- name: pull
-- Locks lanes that are RUNG or of claim $6, then what is due in those rung once: an equal share of $3 each, or $4, in $5 bytes.
WITH held AS MATERIALIZED (
    SELECT lane, rings, suspect, lease_until < clock_timestamp() + $7::interval AS ends_soon, state
    FROM queue_lanes
    WHERE queue = $1 AND lane = ANY($2::text[]) AND (state = 'RUNG' OR claim = $6)
    ORDER BY lane
    FOR UPDATE
), pulled AS MATERIALIZED (
    SELECT
        lane, id, environment_id, kind, args::text AS args, priority, attempt, max_attempts, unended, run_at, seq,
        trace_context
    FROM queue_jobs
    WHERE state = 'AVAILABLE' AND id = ANY(ARRAY(
        SELECT chosen.id
        FROM (
            -- Each lane's first, then each one's second.
            SELECT taken.id, sum(taken.bytes) OVER (ORDER BY taken.place, taken.lane) - taken.bytes AS bytes_before
            FROM (
                SELECT candidate.id, candidate.bytes, candidate.place, wanted.lane
                FROM held AS wanted
                CROSS JOIN LATERAL (
                    SELECT due.id, due.bytes, row_number() OVER (ORDER BY due.priority, due.run_at, due.seq) AS place
                    FROM (
                        SELECT
                            waiting.id, waiting.priority, waiting.run_at, waiting.seq,
                            pg_column_size(waiting.args) AS bytes
                        FROM queue_jobs AS waiting
                        WHERE waiting.lane = wanted.lane AND waiting.queue = $1
                            AND waiting.state = 'AVAILABLE' AND waiting.seq > 0
                        ORDER BY waiting.priority, waiting.run_at, waiting.seq
                        LIMIT (SELECT greatest($4, ($3 + count(*) - 1) / count(*)) FROM held)
                    ) AS due
                ) AS candidate
                WHERE (wanted.rings <= 1 OR wanted.state = 'RUNNING')
                    AND NOT EXISTS (
                        SELECT FROM queue_pauses AS pause
                        WHERE pause.queue = $1 AND pause.lane = wanted.lane OFFSET 0
                    )
                    AND NOT EXISTS (SELECT FROM queue_pauses AS pause WHERE pause.queue = $1 AND pause.lane IS NULL)
                ORDER BY candidate.place, wanted.lane
                LIMIT $3
            ) AS taken
        ) AS chosen
        WHERE chosen.bytes_before < $5
    ))
    ORDER BY id
    FOR UPDATE
)
SELECT
    lanes, rings, suspect, ends_soon, lane, id, environment_id, kind, args, priority, attempt, max_attempts, unended,
    trace_context
FROM (
    -- The lanes are one row, the first.
    SELECT
        array_agg(lane) AS lanes, array_agg(rings) AS rings, array_agg(suspect) AS suspect,
        array_agg(ends_soon) AS ends_soon, NULL AS lane, NULL AS id, NULL AS environment_id, NULL AS kind,
        NULL AS args, NULL AS priority, NULL AS attempt, NULL AS max_attempts, NULL AS unended, NULL AS run_at,
        NULL AS seq, NULL AS trace_context
    FROM held
    UNION ALL
    SELECT
        NULL, NULL, NULL, NULL, lane, id, environment_id, kind, args, priority, attempt, max_attempts, unended, run_at,
        seq, trace_context
    FROM pulled
) AS found
ORDER BY priority NULLS FIRST, run_at, seq

-- name: keep_lanes
-- Gives lanes the time of another ring, because the call back that has them goes on.
UPDATE queue_lanes SET lease_until = clock_timestamp() + $3::interval
WHERE queue = $1 AND lane = ANY($2::text[]) AND state = 'RUNG'

-- name: close_lanes
-- Makes lanes idle again; last, because a relay that rings a lane waits for one who has deleted it, not for its lock.
DELETE FROM queue_lanes WHERE queue = $1 AND lane = ANY($2::text[]) AND state = 'RUNG'

-- name: start
-- Begins an attempt of a queue job in a locked lane, which is no longer suspect, with a claim that is never used twice.
WITH begun AS (
    UPDATE queue_jobs SET state = 'RUNNING', attempt = attempt + 1, started_at = clock_timestamp()
    WHERE id = $4 AND state = 'AVAILABLE'
)
UPDATE queue_lanes SET
    state = 'RUNNING', claim = nextval('queue_claims'), rings = 1, suspect = false,
    lease_until = clock_timestamp() + $3::interval
WHERE queue = $1 AND lane = $2 AND state = 'RUNG'
RETURNING claim

-- name: start_lane
-- Takes a RUNG lane with a claim that is never used twice.
UPDATE queue_lanes SET state = 'RUNNING', claim = nextval('queue_claims'), lease_until = clock_timestamp() + $3::interval
WHERE queue = $1 AND lane = $2 AND state = 'RUNG'
RETURNING claim

-- name: renew
-- Renews the leases of all calls that one server holds, passing by those whose end is being written, and names both.
WITH unlocked AS MATERIALIZED (
    SELECT queue, lane
    FROM queue_lanes
    WHERE claim = ANY($1::bigint[]) AND state = 'RUNNING'
    ORDER BY queue, lane
    FOR UPDATE SKIP LOCKED
), renewed AS (
    UPDATE queue_lanes SET lease_until = clock_timestamp() + $2::interval
    FROM unlocked
    WHERE queue_lanes.queue = unlocked.queue AND queue_lanes.lane = unlocked.lane
)
SELECT claim FROM queue_lanes WHERE claim = ANY($1::bigint[]) AND state = 'RUNNING'

-- name: return_lane
-- Makes the lane of a claim RUNG again and locks it; nothing happens when a newer owner has it.
UPDATE queue_lanes SET state = 'RUNG', claim = NULL WHERE claim = $1 AND state = 'RUNNING' RETURNING lane

-- name: release
-- Closes the lane of a claim; nothing is deleted when a newer owner has it.
DELETE FROM queue_lanes WHERE claim = $1 AND state = 'RUNNING' RETURNING claim

-- name: lock_running
-- Locks the queue job that this attempt runs.
SELECT
    id, state, run_at, args::text AS args, started_at, cancel_requested_at IS NOT NULL AS cancel_requested
FROM queue_jobs
WHERE id = $1 AND state = 'RUNNING' AND attempt = $2
FOR UPDATE

-- name: begin_alone
-- Counts attempts of a suspect lane, locked by who pulled them, as begun and not ended.
UPDATE queue_jobs SET unended = unended + 1, started_at = clock_timestamp()
WHERE id = ANY($1::uuid[]) AND state = 'AVAILABLE'

-- name: end_alone
-- Takes back that attempts of a suspect lane began which had $2 before, but of what somebody else ended; locks by id.
WITH begun AS MATERIALIZED (
    SELECT id FROM queue_jobs
    WHERE id = ANY($1::uuid[]) AND state = 'AVAILABLE' AND unended > $2::smallint
    ORDER BY id
    FOR UPDATE
)
UPDATE queue_jobs SET unended = unended - 1
FROM begun
WHERE queue_jobs.id = begun.id AND state = 'AVAILABLE' AND unended > $2::smallint
RETURNING queue_jobs.id

-- name: complete
-- Ends queue jobs that did what they were for, begun with this transaction, and makes the lanes $3 of the queue $2 idle.
WITH closed AS (
    DELETE FROM queue_lanes WHERE queue = $2 AND lane = ANY($3::text[]) AND state = 'RUNG'
)
UPDATE queue_jobs SET
    state = 'COMPLETED',
    attempt = CASE WHEN state = 'RUNNING' THEN attempt ELSE attempt + 1 END,
    started_at = CASE WHEN state = 'RUNNING' THEN started_at ELSE greatest(run_at, transaction_timestamp()) END,
    finalized_at = clock_timestamp()
WHERE id = ANY($1::uuid[]) AND state IN ('AVAILABLE', 'RUNNING')

-- name: fail
-- Stores failed attempts: back to SCHEDULED with a delay, or DISCARDED where there is none;
-- waiting again for the same reason, without an attempt in between, takes the place of the entry before.
UPDATE queue_jobs SET
    state = CASE WHEN failed.retry_in IS NULL THEN 'DISCARDED' ELSE 'SCHEDULED' END,
    attempt = queue_jobs.attempt
        + CASE WHEN queue_jobs.state = 'RUNNING' THEN 0 ELSE 1 END
        - CASE WHEN failed.counts_attempt OR failed.retry_in IS NULL THEN 0 ELSE 1 END,
    run_at = coalesce(clock_timestamp() + failed.retry_in, queue_jobs.run_at),
    started_at = CASE
        WHEN queue_jobs.state = 'RUNNING' THEN queue_jobs.started_at
        ELSE greatest(queue_jobs.run_at, transaction_timestamp())
    END,
    finalized_at = CASE WHEN failed.retry_in IS NULL THEN clock_timestamp() END,
    errors = CASE
        WHEN NOT failed.counts_attempt AND failed.retry_in IS NOT NULL
            AND queue_jobs.errors -> -1 ->> 'reason' = failed.reason
            AND (queue_jobs.errors -> -1 ->> 'attempt')::integer
                = queue_jobs.attempt + CASE WHEN queue_jobs.state = 'RUNNING' THEN 0 ELSE 1 END
            THEN queue_jobs.errors - (-1)
        ELSE queue_jobs.errors
    END || jsonb_build_object(
        'time', clock_timestamp(),
        'attempt', queue_jobs.attempt + CASE WHEN queue_jobs.state = 'RUNNING' THEN 0 ELSE 1 END,
        'reason', failed.reason, 'message', failed.message
    )
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::interval[], $5::boolean[])
    AS failed (id, reason, message, retry_in, counts_attempt)
WHERE queue_jobs.id = failed.id AND queue_jobs.state IN ('AVAILABLE', 'RUNNING')
RETURNING
    queue_jobs.id, queue_jobs.kind, queue_jobs.args::text AS args, queue_jobs.environment_id, queue_jobs.state,
    failed.reason, failed.message

-- name: cancel
-- Ends queue jobs that are not final.
UPDATE queue_jobs SET
    state = 'CANCELLED', finalized_at = clock_timestamp(),
    cancel_requested_at = coalesce(cancel_requested_at, clock_timestamp()),
    errors = errors || jsonb_build_object(
        'time', clock_timestamp(), 'attempt', attempt, 'reason', 'CANCELLED', 'message', $2::text
    )
WHERE id = ANY($1::uuid[]) AND state IN ('SCHEDULED', 'AVAILABLE', 'RUNNING')
RETURNING id, kind, args::text AS args, environment_id, state

-- name: lock_running_everywhere
-- Locks what runs in a lane key, by id; an attempt that is ending is waited for, and what it enqueued is seen next.
SELECT id FROM queue_jobs WHERE lane = $1 AND state = 'RUNNING' AND seq > 0 ORDER BY id FOR UPDATE

-- name: lock_waiting_everywhere
-- Locks what waits in a lane key, by id.
SELECT queue_jobs.id
FROM (
    SELECT id FROM queue_jobs WHERE lane = $1 AND state = 'AVAILABLE' AND seq > 0
    UNION ALL
    SELECT id FROM queue_jobs WHERE lane = $1 AND state = 'SCHEDULED' AND seq > 0
) AS waiting
JOIN queue_jobs ON queue_jobs.id = waiting.id
WHERE queue_jobs.state IN ('SCHEDULED', 'AVAILABLE')
ORDER BY queue_jobs.id
FOR UPDATE OF queue_jobs

-- name: request_cancel
-- Asks running queue jobs to end without effect.
UPDATE queue_jobs SET cancel_requested_at = coalesce(cancel_requested_at, clock_timestamp())
WHERE id = ANY($1::uuid[]) AND state = 'RUNNING'

-- name: lock_waiting_of_lane
-- Locks the waiting queue jobs of one lane, by id: those of some kinds, or all.
SELECT queue_jobs.id
FROM (
    SELECT id FROM queue_jobs WHERE queue = $1 AND lane = $2 AND state = 'AVAILABLE' AND seq > 0
    UNION ALL
    SELECT id FROM queue_jobs WHERE queue = $1 AND lane = $2 AND state = 'SCHEDULED' AND seq > 0
) AS waiting
JOIN queue_jobs ON queue_jobs.id = waiting.id
WHERE queue_jobs.state IN ('SCHEDULED', 'AVAILABLE') AND ($3::text[] IS NULL OR queue_jobs.kind = ANY($3))
ORDER BY queue_jobs.id
FOR UPDATE OF queue_jobs

-- name: supersede
-- Ends waiting queue jobs that newer ones replace.
UPDATE queue_jobs SET state = 'COMPLETED', finalized_at = clock_timestamp()
WHERE id = ANY($1::uuid[]) AND state IN ('SCHEDULED', 'AVAILABLE')

-- name: serialize
-- Waits for every other transaction that named this key.
SELECT pg_advisory_xact_lock(hashtextextended($1::text, 0))

-- name: clock_and_window
-- Reads the clock that decides, and who claimed a key last if anybody did; that claim stays until the transaction ends.
WITH held AS MATERIALIZED (
    SELECT queue_job_id, expires_at FROM queue_uniques WHERE key = $1 AND value = $2 FOR SHARE
)
SELECT clock_timestamp() AS now, held.queue_job_id, held.expires_at
FROM (VALUES (1)) AS always
LEFT JOIN held ON true

-- name: claim
-- Claims a key for a queue job; one that has it already, keeps it until the same time.
INSERT INTO queue_uniques (key, value, queue_job_id, expires_at)
VALUES ($1, $2, $3, clock_timestamp() + $4::interval)
ON CONFLICT (key, value) DO UPDATE SET
    queue_job_id = excluded.queue_job_id,
    expires_at = CASE
        WHEN queue_uniques.queue_job_id = excluded.queue_job_id AND queue_uniques.expires_at > clock_timestamp()
            THEN queue_uniques.expires_at
        ELSE excluded.expires_at
    END

-- name: give_up_claims
-- Gives up the keys that these queue jobs hold.
DELETE FROM queue_uniques WHERE queue_job_id = ANY($1::uuid[]) RETURNING key, value, expires_at

-- name: hasten_held_back
-- Makes due who claimed the key $1 with one of these values and waits for the end of a window that was just opened.
-- Passes by what somebody changes: a request that asks for an index holds the window, so it came after the opening.
WITH waiting AS (
    SELECT held_back.id
    FROM unnest($2::text[], $3::timestamptz[]) AS opened (value, expires_at)
    JOIN queue_uniques AS claim ON claim.key = $1 AND claim.value = opened.value
    JOIN queue_jobs AS held_back ON held_back.id = claim.queue_job_id
    WHERE held_back.state = 'SCHEDULED' AND held_back.run_at = opened.expires_at
    ORDER BY held_back.id
    FOR UPDATE OF held_back SKIP LOCKED
)
UPDATE queue_jobs SET state = 'AVAILABLE', run_at = clock_timestamp()
FROM waiting
WHERE queue_jobs.id = waiting.id AND queue_jobs.state = 'SCHEDULED'

-- name: waiting_claimant
-- Reads which queue job claimed a key last, when it waits.
SELECT id FROM queue_jobs
WHERE id = (SELECT queue_job_id FROM queue_uniques WHERE key = $1 AND value = $2) AND state IN ('SCHEDULED', 'AVAILABLE')

-- name: lock_claimant
-- Locks the queue job that claimed a key last, whatever its state.
SELECT
    id, state, run_at, args::text AS args, started_at, cancel_requested_at IS NOT NULL AS cancel_requested
FROM queue_jobs
WHERE id = (SELECT queue_job_id FROM queue_uniques WHERE key = $1 AND value = $2)
FOR UPDATE

-- name: lock_queue_job
-- Locks one queue job, whatever its state.
SELECT
    id, state, run_at, args::text AS args, started_at, cancel_requested_at IS NOT NULL AS cancel_requested
FROM queue_jobs
WHERE id = $1
FOR UPDATE

-- name: reschedule
-- Gives a waiting queue job new arguments and a time; one that was forced stays so, and which attempt is forced is kept.
-- One that has begun may be tried $5 times from here.
UPDATE queue_jobs SET
    args = $3::jsonb || CASE
        WHEN $3::jsonb @> '{"force": true}' THEN jsonb_build_object('forcedAttempt', attempt + 1)
        WHEN args @> '{"force": true}' THEN jsonb_build_object(
            'force', true, 'forcedAttempt', coalesce(args -> 'forcedAttempt', '1'::jsonb)
        )
        ELSE '{}'::jsonb
    END,
    priority = least(priority, $4::smallint),
    max_attempts = CASE WHEN started_at IS NULL THEN max_attempts ELSE least(attempt + $5, 32767) END,
    run_at = $2::timestamptz,
    state = CASE WHEN $2::timestamptz > clock_timestamp() THEN 'SCHEDULED' ELSE 'AVAILABLE' END
WHERE id = $1 AND state IN ('SCHEDULED', 'AVAILABLE')

-- name: move
-- Gives a waiting queue job another time and priority.
UPDATE queue_jobs SET
    run_at = $2,
    priority = $3,
    state = CASE WHEN $2::timestamptz > clock_timestamp() THEN 'SCHEDULED' ELSE 'AVAILABLE' END
WHERE id = $1 AND state IN ('SCHEDULED', 'AVAILABLE')

-- name: force_next
-- Lets the next attempt of queue jobs that are due call whatever is known of their endpoint's health.
UPDATE queue_jobs SET args = args || jsonb_build_object('force', true, 'forcedAttempt', attempt + 1)
WHERE id = ANY($1::uuid[]) AND state = 'AVAILABLE'

-- name: hasten
-- Makes due what waits in a lane key for the reason $2, passing by what somebody else is changing.
WITH waiting AS (
    SELECT id FROM queue_jobs
    WHERE lane = $1 AND state = 'SCHEDULED' AND seq > 0 AND errors -> -1 ->> 'reason' = $2
    ORDER BY id
    FOR UPDATE SKIP LOCKED
)
UPDATE queue_jobs SET state = 'AVAILABLE', run_at = clock_timestamp()
FROM waiting
WHERE queue_jobs.id = waiting.id AND queue_jobs.state = 'SCHEDULED'

-- name: now
-- Reads the clock that decides.
SELECT clock_timestamp()

-- name: delete_old
-- Deletes at most $4 queue jobs that have been final for as long as their state is kept, and that nobody retried meanwhile.
DELETE FROM queue_jobs
WHERE id IN (
    (
        SELECT id FROM queue_jobs
        WHERE state = 'COMPLETED' AND finalized_at < (SELECT clock_timestamp()) - $1::interval
        ORDER BY finalized_at
        LIMIT $4
    )
    UNION ALL
    (
        SELECT id FROM queue_jobs
        WHERE state = 'CANCELLED' AND finalized_at < (SELECT clock_timestamp()) - $2::interval
        ORDER BY finalized_at
        LIMIT $4
    )
    UNION ALL
    (
        SELECT id FROM queue_jobs
        WHERE state = 'DISCARDED' AND finalized_at < (SELECT clock_timestamp()) - $3::interval
        ORDER BY finalized_at
        LIMIT $4
    )
    LIMIT $4
)
    AND finalized_at < clock_timestamp() - least($1::interval, $2::interval, $3::interval)
RETURNING id

-- name: delete_expired_uniques
-- Deletes unique keys that have run out, and that nobody claimed anew meanwhile.
DELETE FROM queue_uniques
WHERE (key, value) IN (
    SELECT key, value FROM queue_uniques WHERE expires_at < (SELECT clock_timestamp()) ORDER BY expires_at LIMIT $1
)
    AND expires_at < clock_timestamp()
