-- Who registered a job version or a source that another endpoint of the environment has registered since, and has not
-- stopped offering it: it gets back what it offers when the other drops it. An endpoint offers one version of a job.
CREATE TABLE displaced_items (
    item_id        uuid        NOT NULL GENERATED ALWAYS AS (coalesce(job_version_id, source_id)) STORED,
    endpoint_id    uuid        NOT NULL REFERENCES endpoints (id) ON DELETE CASCADE,
    job_id         uuid        REFERENCES jobs (id) ON DELETE CASCADE,
    job_version_id uuid        REFERENCES job_versions (id) ON DELETE CASCADE,
    source_id      uuid        REFERENCES trigger_sources (id) ON DELETE CASCADE,
    content_hash   bytea       NOT NULL,
    index_sequence bigint      NOT NULL,
    displaced_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (item_id, endpoint_id),
    CONSTRAINT displaced_items_kind CHECK (
        (job_version_id IS NULL) = (job_id IS NULL) AND (job_version_id IS NULL) <> (source_id IS NULL)
    )
);
CREATE INDEX displaced_items_latest ON displaced_items (item_id, displaced_at);
CREATE INDEX displaced_items_endpoint_id ON displaced_items (endpoint_id);
CREATE INDEX displaced_items_job_id ON displaced_items (job_id, endpoint_id);
CREATE INDEX displaced_items_job_version_id ON displaced_items (job_version_id);
CREATE INDEX displaced_items_source_id ON displaced_items (source_id);

-- Whoever gives a row to another endpoint, the one that had it is displaced if it offered it, unless it is being deleted.
CREATE FUNCTION job_versions_displace() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM displaced_items WHERE job_id = NEW.job_id AND endpoint_id IN (OLD.endpoint_id, NEW.endpoint_id);
    IF OLD.state = 'ACTIVE' THEN
        INSERT INTO displaced_items (endpoint_id, job_id, job_version_id, content_hash, index_sequence)
        SELECT e.id, OLD.job_id, OLD.id, OLD.content_hash, OLD.index_sequence
        FROM endpoints e
        WHERE e.id = OLD.endpoint_id
        FOR KEY SHARE SKIP LOCKED;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER job_versions_displace AFTER UPDATE OF endpoint_id ON job_versions
    FOR EACH ROW WHEN (OLD.endpoint_id <> NEW.endpoint_id) EXECUTE FUNCTION job_versions_displace();

CREATE FUNCTION trigger_sources_displace() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM displaced_items WHERE item_id = NEW.id AND endpoint_id IN (OLD.endpoint_id, NEW.endpoint_id);
    IF OLD.enabled THEN
        INSERT INTO displaced_items (endpoint_id, source_id, content_hash, index_sequence)
        SELECT e.id, OLD.id, OLD.content_hash, OLD.index_sequence
        FROM endpoints e
        WHERE e.id = OLD.endpoint_id
        FOR KEY SHARE SKIP LOCKED;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER trigger_sources_displace AFTER UPDATE OF endpoint_id ON trigger_sources
    FOR EACH ROW WHEN (OLD.endpoint_id <> NEW.endpoint_id) EXECUTE FUNCTION trigger_sources_displace();

-- Begin with what is displaced by the newest answer of each endpoint. Which content it has is not known: none equals it.
CREATE TEMPORARY TABLE offered ON COMMIT DROP AS
SELECT e.id AS endpoint_id, e.environment_id, e.project_id, n.sequence, i.kind, i.key, i.version, i.updated_at
FROM endpoints e
CROSS JOIN LATERAL (
    SELECT o.id, o.sequence
    FROM endpoint_indexes o
    WHERE o.endpoint_id = e.id AND o.stats <> '{}'
    ORDER BY o.sequence DESC
    LIMIT 1
) AS n
JOIN endpoint_index_items i ON i.index_id = n.id
WHERE i.kind IN ('JOB', 'SOURCE') AND i.state IN ('REGISTERED', 'CHANGED', 'UNCHANGED');

INSERT INTO displaced_items (endpoint_id, job_id, job_version_id, content_hash, index_sequence, displaced_at)
SELECT o.endpoint_id, j.id, v.id, '', o.sequence, o.updated_at
FROM offered o
JOIN jobs j ON j.project_id = o.project_id AND j.slug = o.key
JOIN job_versions v ON v.job_id = j.id AND v.version = o.version AND v.environment_id = o.environment_id
WHERE o.kind = 'JOB' AND v.endpoint_id <> o.endpoint_id
ON CONFLICT DO NOTHING;

INSERT INTO displaced_items (endpoint_id, source_id, content_hash, index_sequence, displaced_at)
SELECT o.endpoint_id, s.id, '', o.sequence, o.updated_at
FROM offered o
JOIN trigger_sources s ON s.environment_id = o.environment_id AND s.key = o.key
WHERE o.kind = 'SOURCE' AND s.endpoint_id <> o.endpoint_id
ON CONFLICT DO NOTHING;
