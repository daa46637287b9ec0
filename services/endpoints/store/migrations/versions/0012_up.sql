-- An environment has many of each. Statistics made of its first rows say that it has one: a plan made by them then reads
-- all that it has to find one of them. By this number such a plan is dear, however few there are as yet.
ALTER TABLE endpoints ALTER COLUMN environment_id SET (n_distinct = 20);
ALTER TABLE job_versions ALTER COLUMN environment_id SET (n_distinct = 20);
ALTER TABLE job_aliases ALTER COLUMN environment_id SET (n_distinct = 20);
ALTER TABLE external_accounts ALTER COLUMN environment_id SET (n_distinct = 20);
ALTER TABLE dynamic_triggers ALTER COLUMN environment_id SET (n_distinct = 20);
ALTER TABLE event_dispatchers ALTER COLUMN environment_id SET (n_distinct = 20);
ALTER TABLE events ALTER COLUMN environment_id SET (n_distinct = 20);
ALTER TABLE job_runs ALTER COLUMN environment_id SET (n_distinct = 20);
ALTER TABLE trigger_sources ALTER COLUMN environment_id SET (n_distinct = 20);
ALTER TABLE schedule_sources ALTER COLUMN environment_id SET (n_distinct = 20);
ALTER TABLE queue_jobs ALTER COLUMN environment_id SET (n_distinct = 20);
-- Nor are the first indexes like those that follow: after two of 500 items, all items are read for each of one.
ALTER TABLE endpoint_index_items ALTER COLUMN index_id SET (n_distinct = -0.02);
