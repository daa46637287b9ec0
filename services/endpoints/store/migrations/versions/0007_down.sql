-- Whoever knows nothing of probes would leave them alone for ever.
UPDATE endpoints SET state = 'HEALTHY', next_probe_at = NULL WHERE state <> 'HEALTHY';
ALTER TABLE endpoints
    DROP COLUMN consecutive_failures,
    DROP COLUMN state_reason,
    DROP COLUMN state_changed_at,
    DROP COLUMN next_probe_at,
    DROP COLUMN probe_queue_job_id,
    DROP COLUMN next_index_at;
DROP INDEX endpoints_unhealthy;
