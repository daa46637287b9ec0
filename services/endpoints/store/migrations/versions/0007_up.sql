-- What is known of an endpoint's health, and when it is probed and indexed anew. A probe that a queue job will make is
-- not due for another; `next_probe_at` is set while the breaker is open, `next_index_at` in PRODUCTION.
ALTER TABLE endpoints
    ADD COLUMN consecutive_failures integer     NOT NULL DEFAULT 0,
    ADD COLUMN state_reason         text,
    ADD COLUMN state_changed_at     timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN next_probe_at        timestamptz,
    ADD COLUMN probe_queue_job_id   uuid,
    ADD COLUMN next_index_at        timestamptz,
    ADD CONSTRAINT endpoints_consecutive_failures CHECK (consecutive_failures >= 0),
    ADD CONSTRAINT endpoints_healthy_needs_no_probe CHECK (state <> 'HEALTHY' OR next_probe_at IS NULL);
CREATE INDEX endpoints_due_probe ON endpoints (next_probe_at)
    WHERE next_probe_at IS NOT NULL AND probe_queue_job_id IS NULL;
CREATE INDEX endpoints_due_index ON endpoints (next_index_at) WHERE next_index_at IS NOT NULL;
CREATE INDEX endpoints_unhealthy ON endpoints (state) WHERE state <> 'HEALTHY';

-- Those that are there already take their turns within a day.
UPDATE endpoints SET next_index_at = now() + random() * interval '24 hours'
FROM runtime_environments
WHERE runtime_environments.id = endpoints.environment_id AND runtime_environments.type = 'PRODUCTION';
