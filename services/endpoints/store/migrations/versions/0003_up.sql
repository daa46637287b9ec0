-- What waits in a lane is found by the index that pulls it or, when it is not due, by one of its own: what is due at
-- once, as most work is, writes an entry less.
-- And every partial index now says whose it is: the relay's by `priority > 0`, the lanes' by `seq > 0`, which holds for
-- every row, and which a statement has to say to be given that index. Without it the planner takes whichever is smallest
-- while the statistics are young, a search by id through all that waits among them.
DROP INDEX queue_jobs_waiting_lane;
DROP INDEX queue_jobs_ring;
DROP INDEX queue_jobs_due;
DROP INDEX queue_jobs_pull;
DROP INDEX queue_jobs_running_lane;
CREATE INDEX queue_jobs_ring ON queue_jobs (queue, environment_id, priority, lane)
    WHERE state = 'AVAILABLE' AND priority > 0;
CREATE INDEX queue_jobs_due ON queue_jobs (run_at) WHERE state = 'SCHEDULED' AND priority > 0;
CREATE INDEX queue_jobs_pull ON queue_jobs (lane, queue, priority, run_at, seq) WHERE state = 'AVAILABLE' AND seq > 0;
CREATE INDEX queue_jobs_scheduled_lane ON queue_jobs (lane) WHERE state = 'SCHEDULED' AND seq > 0;
CREATE INDEX queue_jobs_running_lane ON queue_jobs (lane, queue) WHERE state = 'RUNNING' AND seq > 0;
