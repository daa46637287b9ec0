-- What waits in a lane is found by the index that pulls it or, when it is not due, by this one: what is due at once, as
-- most work is, writes an entry less. And the planner cannot take the index of all that waits for another's purpose.
CREATE INDEX queue_jobs_scheduled_lane ON queue_jobs (lane) WHERE state = 'SCHEDULED';
DROP INDEX queue_jobs_waiting_lane;
