DROP TRIGGER trigger_sources_displace ON trigger_sources;
DROP FUNCTION trigger_sources_displace();
DROP TRIGGER job_versions_displace ON job_versions;
DROP FUNCTION job_versions_displace();
DROP TABLE displaced_items;
-- Only this version asks for an index of an endpoint that has no schedule.
UPDATE endpoints e SET next_index_at = CASE WHEN n.type = 'PRODUCTION' THEN clock_timestamp() END
FROM runtime_environments n
WHERE n.id = e.environment_id AND e.next_index_at = '-infinity';
