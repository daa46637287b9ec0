CREATE INDEX queue_jobs_waiting_lane ON queue_jobs (lane) WHERE state IN ('SCHEDULED', 'AVAILABLE', 'RUNNING');
DROP INDEX queue_jobs_scheduled_lane;
