-- Which names dispatchers listen to, one row each, so that an event finds its own without reading the others'.
-- Names and sources longer than any event's are left out: no event has them, and the primary key could not hold them.
CREATE TABLE event_dispatcher_names (
    environment_id uuid NOT NULL,
    event_name     text NOT NULL,
    source         text NOT NULL,
    dispatcher_id  uuid NOT NULL REFERENCES event_dispatchers (id) ON DELETE CASCADE,
    PRIMARY KEY (environment_id, event_name, source, dispatcher_id)
);
CREATE INDEX event_dispatcher_names_dispatcher_id ON event_dispatcher_names (dispatcher_id);

CREATE FUNCTION event_dispatchers_list_names() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF NEW.event_names = OLD.event_names AND NEW.source = OLD.source THEN
            RETURN NULL;
        END IF;
        DELETE FROM event_dispatcher_names WHERE dispatcher_id = NEW.id;
    END IF;
    INSERT INTO event_dispatcher_names (environment_id, event_name, source, dispatcher_id)
    SELECT DISTINCT NEW.environment_id, name, NEW.source, NEW.id
    FROM unnest(NEW.event_names) AS name
    WHERE length(name) <= 256 AND length(NEW.source) <= 256;
    RETURN NULL;
END
$$;

CREATE TRIGGER event_dispatchers_list_names AFTER INSERT OR UPDATE ON event_dispatchers
    FOR EACH ROW EXECUTE FUNCTION event_dispatchers_list_names();

INSERT INTO event_dispatcher_names (environment_id, event_name, source, dispatcher_id)
SELECT DISTINCT d.environment_id, name, d.source, d.id
FROM event_dispatchers d
CROSS JOIN unnest(d.event_names) AS name
WHERE length(name) <= 256 AND length(d.source) <= 256;

CREATE INDEX event_dispatchers_environment_id ON event_dispatchers (environment_id, id);

-- `payload` and `context` are json, not jsonb: they come back character by character. Organization and project go with
-- the environment: a key of each would be checked for every event, which takes as long as writing it.
CREATE TABLE events (
    id                  uuid        PRIMARY KEY,
    event_id            text        NOT NULL,
    name                text        NOT NULL,
    source              text        NOT NULL,
    payload             json        NOT NULL,
    context             json        NOT NULL,
    payload_type        text        NOT NULL DEFAULT 'JSON',
    event_time          timestamptz NOT NULL DEFAULT now(),
    external_account_id uuid        REFERENCES external_accounts (id) ON DELETE SET NULL,
    state               text        NOT NULL DEFAULT 'PENDING',
    deliver_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    priority            smallint    NOT NULL DEFAULT 2,
    match_count         integer     NOT NULL DEFAULT 0,
    queue_job_id        uuid        NOT NULL,
    replay_of           uuid,
    is_test             boolean     NOT NULL DEFAULT false,
    environment_id      uuid        NOT NULL REFERENCES runtime_environments (id) ON DELETE CASCADE,
    organization_id     uuid        NOT NULL,
    project_id          uuid        NOT NULL,
    created_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    delivered_at        timestamptz,
    cancelled_at        timestamptz,
    CONSTRAINT events_event_id CHECK (length(event_id) BETWEEN 1 AND 256),
    CONSTRAINT events_name CHECK (length(name) BETWEEN 1 AND 256),
    CONSTRAINT events_source CHECK (length(source) BETWEEN 1 AND 256),
    CONSTRAINT events_payload_type CHECK (payload_type IN ('JSON', 'REQUEST')),
    CONSTRAINT events_priority CHECK (priority BETWEEN 1 AND 4),
    CONSTRAINT events_state CHECK (state IN ('PENDING', 'DELIVERED', 'CANCELLED', 'FAILED')),
    CONSTRAINT events_delivered CHECK ((state = 'DELIVERED') = (delivered_at IS NOT NULL)),
    CONSTRAINT events_cancelled CHECK ((state = 'CANCELLED') = (cancelled_at IS NOT NULL)),
    CONSTRAINT events_environment_event_id_unique UNIQUE (environment_id, event_id)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
CREATE INDEX events_environment_id ON events (environment_id, id);
CREATE INDEX events_environment_name ON events (environment_id, name, id);
CREATE INDEX events_external_account_id ON events (external_account_id, id) WHERE external_account_id IS NOT NULL;
-- What is no longer PENDING does not change: this is when it was delivered or given up, however late that was.
CREATE INDEX events_updated_at ON events (updated_at) WHERE state <> 'PENDING';

-- One row for each dispatcher that an event was given to. It outlives its queue job, to say what came of it.
CREATE TABLE event_invocations (
    event_record_id uuid        NOT NULL REFERENCES events (id) ON DELETE CASCADE,
    dispatcher_id   uuid        NOT NULL,
    queue_job_id    uuid        NOT NULL,
    state           text        NOT NULL DEFAULT 'PENDING',
    run_count       integer     NOT NULL DEFAULT 0,
    reason          text,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_record_id, dispatcher_id),
    CONSTRAINT event_invocations_state CHECK (state IN ('PENDING', 'COMPLETED', 'SKIPPED', 'FAILED'))
) WITH (fillfactor = 80);

-- The last number given to a run of each job; its row is the lock that keeps numbers without gaps.
CREATE TABLE job_counters (
    job_id      uuid   PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    last_number bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

CREATE TABLE job_runs (
    id                  uuid        PRIMARY KEY,
    number              bigint      NOT NULL,
    job_id              uuid        NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    version_id          uuid        NOT NULL REFERENCES job_versions (id) ON DELETE CASCADE,
    event_record_id     uuid        NOT NULL REFERENCES events (id) ON DELETE CASCADE,
    dispatcher_id       uuid        NOT NULL,
    endpoint_id         uuid        NOT NULL REFERENCES endpoints (id) ON DELETE CASCADE,
    queue_id            uuid        REFERENCES job_queues (id) ON DELETE SET NULL,
    external_account_id uuid        REFERENCES external_accounts (id) ON DELETE SET NULL,
    state               text        NOT NULL DEFAULT 'PENDING',
    preprocess          boolean     NOT NULL DEFAULT false,
    is_test             boolean     NOT NULL DEFAULT false,
    environment_id      uuid        NOT NULL REFERENCES runtime_environments (id) ON DELETE CASCADE,
    organization_id     uuid        NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    project_id          uuid        NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT job_runs_state CHECK (state = 'PENDING'),
    CONSTRAINT job_runs_number CHECK (number > 0),
    CONSTRAINT job_runs_event_dispatcher_version_unique UNIQUE (event_record_id, dispatcher_id, version_id)
) WITH (fillfactor = 80);
-- Partial by what holds for every row, so that lists of a job's runs are only given the index that sorts them by age.
CREATE UNIQUE INDEX job_runs_job_number_unique ON job_runs (job_id, number) WHERE number > 0;
CREATE INDEX job_runs_environment_id ON job_runs (environment_id, id);
CREATE INDEX job_runs_job_id ON job_runs (job_id, environment_id, id);
CREATE INDEX job_runs_version_id ON job_runs (version_id);
CREATE INDEX job_runs_endpoint_id ON job_runs (endpoint_id);
CREATE INDEX job_runs_queue_id ON job_runs (queue_id);
CREATE INDEX job_runs_external_account_id ON job_runs (external_account_id);
CREATE INDEX job_runs_organization_id ON job_runs (organization_id);
CREATE INDEX job_runs_project_id ON job_runs (project_id);
