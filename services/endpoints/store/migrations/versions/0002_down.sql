ALTER TABLE request_ids DROP COLUMN flag;
ALTER TABLE queue_pauses DROP COLUMN environment_id;
CREATE INDEX queue_jobs_environment_id ON queue_jobs (environment_id, id);
DROP INDEX queue_jobs_environment_state;
