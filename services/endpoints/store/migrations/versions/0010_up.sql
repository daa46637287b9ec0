-- Replays go through events in the order in which they were written, and on from where the last one ended.
-- Partial by what holds for every row, so that lists, which are sorted by id, are not given it.
CREATE INDEX events_environment_created_at ON events (environment_id, created_at, id) WHERE priority > 0;
