DROP TABLE job_runs;
DROP TABLE job_counters;
DROP TABLE event_invocations;
DROP TABLE events;
DROP INDEX event_dispatchers_environment_id;
DROP TRIGGER event_dispatchers_list_names ON event_dispatchers;
DROP FUNCTION event_dispatchers_list_names();
DROP TABLE event_dispatcher_names;
