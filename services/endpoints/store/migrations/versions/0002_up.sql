-- One environment's queue jobs by state: its dead letters are found without reading its completed ones. It takes the
-- place of (environment_id, id), so that a change of state writes as many index entries as before.
CREATE INDEX queue_jobs_environment_state ON queue_jobs (environment_id, state, id);
DROP INDEX queue_jobs_environment_id;

-- Null for a whole queue, and for a lane that belongs to no environment.
ALTER TABLE queue_pauses ADD COLUMN environment_id uuid;

-- The one yes or no of the first answer that is no property of the resource: `created` or `deduplicated`.
ALTER TABLE request_ids ADD COLUMN flag boolean NOT NULL DEFAULT false;
