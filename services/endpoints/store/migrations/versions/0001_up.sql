-- Tenancy -----------------------------------------------------------------------------------------

CREATE TABLE organizations (
    id         uuid        PRIMARY KEY,
    slug       text        NOT NULL,
    title      text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT organizations_slug_unique UNIQUE (slug)
);

CREATE TABLE projects (
    id              uuid        PRIMARY KEY,
    slug            text        NOT NULL,
    name            text        NOT NULL,
    organization_id uuid        NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT projects_slug_unique UNIQUE (slug)
);
CREATE INDEX projects_organization_id ON projects (organization_id);

CREATE TABLE runtime_environments (
    id                 uuid        PRIMARY KEY,
    slug               text        NOT NULL,
    type               text        NOT NULL DEFAULT 'DEVELOPMENT',
    api_key_hash       bytea       NOT NULL,
    api_key_ciphertext bytea       NOT NULL,
    organization_id    uuid        NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    project_id         uuid        NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT runtime_environments_type CHECK (type IN ('DEVELOPMENT', 'PRODUCTION', 'STAGING', 'PREVIEW')),
    CONSTRAINT runtime_environments_project_slug_unique UNIQUE (project_id, slug),
    CONSTRAINT runtime_environments_api_key_unique UNIQUE (api_key_hash)
);
CREATE INDEX runtime_environments_organization_id ON runtime_environments (organization_id);

CREATE TABLE tokens (
    id              uuid        PRIMARY KEY,
    kind            text        NOT NULL,
    name            text        NOT NULL,
    organization_id uuid        REFERENCES organizations (id) ON DELETE CASCADE,
    scopes          text[]      NOT NULL DEFAULT '{}',
    token_hash      bytea       NOT NULL,
    expires_at      timestamptz,
    revoked_at      timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT tokens_kind CHECK (kind IN ('SERVICE', 'WORKER', 'ADMIN')),
    CONSTRAINT tokens_scopes CHECK (scopes <@ ARRAY['read', 'write', 'operate']),
    CONSTRAINT tokens_service_belongs_to_an_organization CHECK ((kind = 'SERVICE') = (organization_id IS NOT NULL)),
    CONSTRAINT tokens_hash_unique UNIQUE (token_hash)
);
CREATE INDEX tokens_organization_id ON tokens (organization_id);

CREATE TABLE request_ids (
    principal    text        NOT NULL,
    method       text        NOT NULL,
    request_id   uuid        NOT NULL,
    request_hash bytea       NOT NULL,
    resource_id  uuid        NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (principal, method, request_id)
);
CREATE INDEX request_ids_created_at ON request_ids (created_at);

-- Endpoints and their indexes ---------------------------------------------------------------------

CREATE TABLE endpoints (
    id                       uuid         PRIMARY KEY,
    slug                     varchar(100) NOT NULL,
    url                      text         NOT NULL,
    indexing_hook_identifier varchar(10)  NOT NULL,
    environment_id           uuid         NOT NULL REFERENCES runtime_environments (id) ON DELETE CASCADE,
    organization_id          uuid         NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    project_id               uuid         NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    index_sequence           bigint       NOT NULL DEFAULT 0,
    state                    text         NOT NULL DEFAULT 'HEALTHY',
    created_at               timestamptz  NOT NULL DEFAULT now(),
    updated_at               timestamptz  NOT NULL DEFAULT now(),
    CONSTRAINT endpoints_environment_slug_unique UNIQUE (environment_id, slug),
    CONSTRAINT endpoints_state CHECK (state IN ('HEALTHY', 'FAILING', 'SUSPENDED'))
);
CREATE INDEX endpoints_environment_id ON endpoints (environment_id);
CREATE INDEX endpoints_organization_id ON endpoints (organization_id);
CREATE INDEX endpoints_project_id ON endpoints (project_id);

CREATE TABLE endpoint_indexes (
    id           uuid        PRIMARY KEY,
    endpoint_id  uuid        NOT NULL REFERENCES endpoints (id) ON DELETE CASCADE,
    state        text        NOT NULL DEFAULT 'PENDING',
    stats        jsonb       NOT NULL DEFAULT '{}',
    data         jsonb       NOT NULL DEFAULT '{}',
    source       text        NOT NULL DEFAULT 'MANUAL',
    source_data  jsonb,
    reason       text,
    error        text,
    sequence     bigint,
    revision     bigint      NOT NULL DEFAULT 1,
    queue_job_id uuid        NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT endpoint_indexes_source CHECK (source IN ('MANUAL', 'API', 'INTERNAL', 'HOOK')),
    CONSTRAINT endpoint_indexes_state CHECK (
        state IN ('PENDING', 'FETCHING', 'REGISTERING', 'SUCCEEDED', 'PARTIALLY_SUCCEEDED', 'FAILED')
    )
);
CREATE INDEX endpoint_indexes_endpoint_id ON endpoint_indexes (endpoint_id, id);
CREATE UNIQUE INDEX endpoint_indexes_queue_job_id ON endpoint_indexes (queue_job_id);
CREATE INDEX endpoint_indexes_source ON endpoint_indexes (source);
CREATE INDEX endpoint_indexes_created_at ON endpoint_indexes (created_at);

CREATE TABLE endpoint_index_items (
    index_id   uuid        NOT NULL REFERENCES endpoint_indexes (id) ON DELETE CASCADE,
    ordinal    integer     NOT NULL,
    kind       text        NOT NULL,
    key        text        NOT NULL,
    version    text,
    state      text        NOT NULL,
    reason     text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (index_id, ordinal),
    CONSTRAINT endpoint_index_items_kind CHECK (
        kind IN ('JOB', 'SOURCE', 'DYNAMIC_TRIGGER', 'DYNAMIC_SCHEDULE', 'WEBHOOK', 'HTTP_ENDPOINT')
    ),
    CONSTRAINT endpoint_index_items_state CHECK (
        state IN ('PENDING', 'REGISTERED', 'CHANGED', 'UNCHANGED', 'DISABLED', 'REFUSED', 'FAILED', 'SUPERSEDED', 'UNSUPPORTED')
    )
);
CREATE UNIQUE INDEX endpoint_index_items_key ON endpoint_index_items (index_id, kind, key)
    WHERE state NOT IN ('REFUSED', 'UNSUPPORTED');

-- What an index finds -----------------------------------------------------------------------------

CREATE TABLE jobs (
    id              uuid        PRIMARY KEY,
    slug            text        NOT NULL,
    title           text        NOT NULL,
    internal        boolean     NOT NULL DEFAULT false,
    organization_id uuid        NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    project_id      uuid        NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT jobs_project_slug_unique UNIQUE (project_id, slug)
);
CREATE INDEX jobs_organization_id ON jobs (organization_id);

CREATE TABLE job_queues (
    id             uuid        PRIMARY KEY,
    name           text        NOT NULL,
    environment_id uuid        NOT NULL REFERENCES runtime_environments (id) ON DELETE CASCADE,
    max_jobs       integer     NOT NULL DEFAULT 100,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT job_queues_environment_name_unique UNIQUE (environment_id, name)
);

-- One row per version of a job in an environment. `index_sequence` and `content_hash` belong to the endpoint that
-- registered it last; a DISABLED row is the tombstone that refuses older registrations.
CREATE TABLE job_versions (
    id                  uuid        PRIMARY KEY,
    job_id              uuid        NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    version             text        NOT NULL,
    version_numbers     bigint[]    NOT NULL GENERATED ALWAYS AS (string_to_array(version, '.')::bigint[]) STORED,
    environment_id      uuid        NOT NULL REFERENCES runtime_environments (id) ON DELETE CASCADE,
    endpoint_id         uuid        NOT NULL REFERENCES endpoints (id) ON DELETE CASCADE,
    organization_id     uuid        NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    project_id          uuid        NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    queue_id            uuid        REFERENCES job_queues (id) ON DELETE SET NULL,
    event_specification jsonb       NOT NULL,
    trigger             jsonb       NOT NULL,
    properties          jsonb,
    start_position      text        NOT NULL DEFAULT 'LATEST',
    preprocess_runs     boolean     NOT NULL DEFAULT false,
    concurrency_limit   jsonb,
    state               text        NOT NULL DEFAULT 'ACTIVE',
    content_hash        bytea       NOT NULL,
    index_sequence      bigint      NOT NULL,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT job_versions_version CHECK (version ~ '^[0-9]{1,15}\.[0-9]{1,15}\.[0-9]{1,15}$'),
    CONSTRAINT job_versions_start_position CHECK (start_position IN ('INITIAL', 'LATEST')),
    CONSTRAINT job_versions_state CHECK (state IN ('ACTIVE', 'DISABLED')),
    CONSTRAINT job_versions_job_version_environment_unique UNIQUE (job_id, version, environment_id)
) WITH (fillfactor = 80);
CREATE INDEX job_versions_endpoint_id ON job_versions (endpoint_id, state);
CREATE INDEX job_versions_environment_id ON job_versions (environment_id, job_id);
CREATE INDEX job_versions_organization_id ON job_versions (organization_id);
CREATE INDEX job_versions_project_id ON job_versions (project_id);
CREATE INDEX job_versions_queue_id ON job_versions (queue_id);

CREATE TABLE job_aliases (
    job_id         uuid NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    environment_id uuid NOT NULL REFERENCES runtime_environments (id) ON DELETE CASCADE,
    name           text NOT NULL DEFAULT 'latest',
    version_id     uuid NOT NULL REFERENCES job_versions (id) ON DELETE CASCADE,
    value          text NOT NULL,
    PRIMARY KEY (job_id, environment_id, name)
);
CREATE INDEX job_aliases_environment_id ON job_aliases (environment_id);
CREATE INDEX job_aliases_version_id ON job_aliases (version_id);

CREATE TABLE event_examples (
    id             uuid        PRIMARY KEY,
    job_version_id uuid        NOT NULL REFERENCES job_versions (id) ON DELETE CASCADE,
    slug           text        NOT NULL,
    name           text        NOT NULL,
    icon           text,
    payload        jsonb,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT event_examples_version_slug_unique UNIQUE (job_version_id, slug)
);

CREATE TABLE integrations (
    id              uuid        PRIMARY KEY,
    slug            text        NOT NULL,
    title           text        NOT NULL,
    definition_id   text        NOT NULL,
    definition_name text        NOT NULL,
    instructions    text,
    auth_source     text        NOT NULL,
    connection_type text        NOT NULL DEFAULT 'DEVELOPER',
    setup_status    text        NOT NULL DEFAULT 'COMPLETE',
    organization_id uuid        NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT integrations_auth_source CHECK (auth_source IN ('HOSTED', 'LOCAL', 'RESOLVER')),
    CONSTRAINT integrations_connection_type CHECK (connection_type IN ('EXTERNAL', 'DEVELOPER')),
    CONSTRAINT integrations_setup_status CHECK (setup_status IN ('COMPLETE', 'MISSING_FIELDS')),
    CONSTRAINT integrations_organization_slug_unique UNIQUE (organization_id, slug)
);

CREATE TABLE job_integrations (
    version_id     uuid        NOT NULL REFERENCES job_versions (id) ON DELETE CASCADE,
    key            text        NOT NULL,
    job_id         uuid        NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    integration_id uuid        NOT NULL REFERENCES integrations (id) ON DELETE CASCADE,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (version_id, key)
);
CREATE INDEX job_integrations_job_id ON job_integrations (job_id);
CREATE INDEX job_integrations_integration_id ON job_integrations (integration_id);

CREATE TABLE external_accounts (
    id              uuid        PRIMARY KEY,
    identifier      text        NOT NULL,
    metadata        jsonb,
    organization_id uuid        NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    environment_id  uuid        NOT NULL REFERENCES runtime_environments (id) ON DELETE CASCADE,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT external_accounts_environment_identifier_unique UNIQUE (environment_id, identifier)
);
CREATE INDEX external_accounts_organization_id ON external_accounts (organization_id);

CREATE TABLE dynamic_triggers (
    id                  uuid        PRIMARY KEY,
    type                text        NOT NULL,
    slug                text        NOT NULL,
    endpoint_id         uuid        NOT NULL REFERENCES endpoints (id) ON DELETE CASCADE,
    environment_id      uuid        NOT NULL REFERENCES runtime_environments (id) ON DELETE CASCADE,
    register_source_job jsonb,
    enabled             boolean     NOT NULL DEFAULT true,
    content_hash        bytea       NOT NULL,
    index_sequence      bigint      NOT NULL,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT dynamic_triggers_type CHECK (type IN ('EVENT', 'SCHEDULE')),
    CONSTRAINT dynamic_triggers_endpoint_slug_type_unique UNIQUE (endpoint_id, slug, type)
);
CREATE INDEX dynamic_triggers_environment_id ON dynamic_triggers (environment_id);

-- A dynamic trigger names its jobs by slug, so the order in which the two are registered does not matter.
CREATE TABLE dynamic_trigger_jobs (
    dynamic_trigger_id uuid NOT NULL REFERENCES dynamic_triggers (id) ON DELETE CASCADE,
    job_slug           text NOT NULL,
    job_version        text NOT NULL,
    PRIMARY KEY (dynamic_trigger_id, job_slug)
);
CREATE INDEX dynamic_trigger_jobs_job_slug ON dynamic_trigger_jobs (job_slug);

-- `origin` INDEX rows are written by registrations, API rows by DispatcherService. `operator_disabled` is the operator's
-- word: no index ever changes it.
CREATE TABLE event_dispatchers (
    id                  uuid        PRIMARY KEY,
    origin              text        NOT NULL,
    event_names         text[]      NOT NULL,
    source              text        NOT NULL,
    payload_filter      jsonb       NOT NULL DEFAULT '{}',
    context_filter      jsonb       NOT NULL DEFAULT '{}',
    manual              boolean     NOT NULL DEFAULT false,
    enabled             boolean     NOT NULL DEFAULT true,
    operator_disabled   boolean     NOT NULL DEFAULT false,
    dispatchable_type   text        NOT NULL,
    dispatchable_id     uuid        NOT NULL,
    job_version_id      uuid        REFERENCES job_versions (id) ON DELETE CASCADE,
    dynamic_trigger_id  uuid        REFERENCES dynamic_triggers (id) ON DELETE CASCADE,
    external_account_id uuid        REFERENCES external_accounts (id) ON DELETE CASCADE,
    environment_id      uuid        NOT NULL REFERENCES runtime_environments (id) ON DELETE CASCADE,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT event_dispatchers_origin CHECK (origin IN ('INDEX', 'API')),
    CONSTRAINT event_dispatchers_event_names CHECK (cardinality(event_names) > 0),
    CONSTRAINT event_dispatchers_dispatchable CHECK (
        (dispatchable_type = 'JOB_VERSION' AND job_version_id IS NOT NULL AND dynamic_trigger_id IS NULL)
        OR (dispatchable_type = 'DYNAMIC_TRIGGER' AND dynamic_trigger_id IS NOT NULL AND job_version_id IS NULL)
    )
);
CREATE UNIQUE INDEX event_dispatchers_dispatchable_unique ON event_dispatchers (environment_id, dispatchable_id)
    WHERE origin = 'INDEX';
CREATE INDEX event_dispatchers_job_version_id ON event_dispatchers (job_version_id);
CREATE INDEX event_dispatchers_dynamic_trigger_id ON event_dispatchers (dynamic_trigger_id);
CREATE INDEX event_dispatchers_external_account_id ON event_dispatchers (external_account_id);

-- `enabled`: the endpoint still offers it. `active`: its third party knows about it.
CREATE TABLE trigger_sources (
    id                  uuid        PRIMARY KEY,
    key                 text        NOT NULL,
    version             text        NOT NULL DEFAULT '1',
    channel             text        NOT NULL DEFAULT 'HTTP',
    params              jsonb,
    channel_data        jsonb,
    metadata            jsonb,
    active              boolean     NOT NULL DEFAULT false,
    enabled             boolean     NOT NULL DEFAULT true,
    register_source_job jsonb,
    integration_id      uuid        NOT NULL REFERENCES integrations (id) ON DELETE CASCADE,
    dynamic_trigger_id  uuid        REFERENCES dynamic_triggers (id) ON DELETE CASCADE,
    external_account_id uuid        REFERENCES external_accounts (id) ON DELETE CASCADE,
    dynamic_source_id   text,
    dynamic_source_metadata jsonb,
    endpoint_id         uuid        NOT NULL REFERENCES endpoints (id) ON DELETE CASCADE,
    environment_id      uuid        NOT NULL REFERENCES runtime_environments (id) ON DELETE CASCADE,
    organization_id     uuid        NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    project_id          uuid        NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    content_hash        bytea       NOT NULL,
    index_sequence      bigint      NOT NULL,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT trigger_sources_channel CHECK (channel IN ('HTTP', 'SQS', 'SMTP')),
    CONSTRAINT trigger_sources_environment_key_unique UNIQUE (environment_id, key)
) WITH (fillfactor = 80);
CREATE INDEX trigger_sources_endpoint_id ON trigger_sources (endpoint_id);
CREATE INDEX trigger_sources_integration_id ON trigger_sources (integration_id);
CREATE INDEX trigger_sources_dynamic_trigger_id ON trigger_sources (dynamic_trigger_id);
CREATE INDEX trigger_sources_external_account_id ON trigger_sources (external_account_id);
CREATE INDEX trigger_sources_organization_id ON trigger_sources (organization_id);
CREATE INDEX trigger_sources_project_id ON trigger_sources (project_id);

CREATE TABLE trigger_source_options (
    source_id  uuid    NOT NULL REFERENCES trigger_sources (id) ON DELETE CASCADE,
    name       text    NOT NULL,
    value      text    NOT NULL,
    registered boolean NOT NULL DEFAULT false,
    PRIMARY KEY (source_id, name, value)
);

CREATE TABLE trigger_source_secrets (
    source_id  uuid        PRIMARY KEY REFERENCES trigger_sources (id) ON DELETE CASCADE,
    ciphertext bytea       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- A schedule belongs to a job (`job_id`, key = the job's slug) or to a dynamic schedule (`dynamic_trigger_id`).
CREATE TABLE schedule_sources (
    id                  uuid        PRIMARY KEY,
    key                 text        NOT NULL,
    schedule            jsonb       NOT NULL,
    metadata            jsonb,
    active              boolean     NOT NULL DEFAULT true,
    job_id              uuid        REFERENCES jobs (id) ON DELETE CASCADE,
    dynamic_trigger_id  uuid        REFERENCES dynamic_triggers (id) ON DELETE CASCADE,
    dispatcher_id       uuid        NOT NULL REFERENCES event_dispatchers (id) ON DELETE CASCADE,
    external_account_id uuid        REFERENCES external_accounts (id) ON DELETE CASCADE,
    environment_id      uuid        NOT NULL REFERENCES runtime_environments (id) ON DELETE CASCADE,
    last_event_at       timestamptz,
    next_event_at       timestamptz,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT schedule_sources_owner CHECK ((job_id IS NULL) <> (dynamic_trigger_id IS NULL)),
    CONSTRAINT schedule_sources_owner_key_unique UNIQUE NULLS NOT DISTINCT (environment_id, dynamic_trigger_id, key)
);
CREATE INDEX schedule_sources_job_id ON schedule_sources (job_id);
CREATE INDEX schedule_sources_dynamic_trigger_id ON schedule_sources (dynamic_trigger_id);
CREATE INDEX schedule_sources_dispatcher_id ON schedule_sources (dispatcher_id);
CREATE INDEX schedule_sources_external_account_id ON schedule_sources (external_account_id);

-- The ledger --------------------------------------------------------------------------------------

-- No foreign key on purpose: an enqueue touches nothing shared. `environment_id` is the nil UUID for upkeep.
CREATE TABLE queue_jobs (
    id                  uuid        PRIMARY KEY,
    seq                 bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    environment_id      uuid        NOT NULL,
    kind                text        NOT NULL,
    args                jsonb       NOT NULL,
    queue               text        NOT NULL,
    lane                text        NOT NULL,
    priority            smallint    NOT NULL,
    state               text        NOT NULL,
    run_at              timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempt             smallint    NOT NULL DEFAULT 0,
    max_attempts        smallint    NOT NULL,
    rescues             smallint    NOT NULL DEFAULT 0,
    errors              jsonb       NOT NULL DEFAULT '[]',
    cancel_requested_at timestamptz,
    trace_context       text,
    created_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at          timestamptz,
    finalized_at        timestamptz,
    CONSTRAINT queue_jobs_queue CHECK (queue IN ('default', 'execution', 'events', 'maintenance')),
    CONSTRAINT queue_jobs_lane CHECK (length(lane) BETWEEN 1 AND 200),
    CONSTRAINT queue_jobs_priority CHECK (priority BETWEEN 1 AND 4),
    CONSTRAINT queue_jobs_state CHECK (
        state IN ('SCHEDULED', 'AVAILABLE', 'RUNNING', 'COMPLETED', 'DISCARDED', 'CANCELLED')
    ),
    CONSTRAINT queue_jobs_attempts CHECK (attempt BETWEEN 0 AND max_attempts AND max_attempts > 0 AND rescues >= 0),
    CONSTRAINT queue_jobs_running CHECK (state <> 'RUNNING' OR (started_at IS NOT NULL AND attempt > 0)),
    CONSTRAINT queue_jobs_final CHECK (
        (state IN ('COMPLETED', 'DISCARDED', 'CANCELLED')) = (finalized_at IS NOT NULL)
    )
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);
CREATE INDEX queue_jobs_ring ON queue_jobs (queue, environment_id, priority, lane) WHERE state = 'AVAILABLE';
CREATE INDEX queue_jobs_pull ON queue_jobs (queue, lane, priority, run_at, seq) WHERE state = 'AVAILABLE';
CREATE INDEX queue_jobs_due ON queue_jobs (run_at) WHERE state = 'SCHEDULED';
CREATE INDEX queue_jobs_running_lane ON queue_jobs (queue, lane) WHERE state = 'RUNNING';
CREATE INDEX queue_jobs_waiting_lane ON queue_jobs (lane) WHERE state IN ('SCHEDULED', 'AVAILABLE', 'RUNNING');
CREATE INDEX queue_jobs_finalized_at ON queue_jobs (state, finalized_at) WHERE finalized_at IS NOT NULL;
CREATE INDEX queue_jobs_environment_id ON queue_jobs (environment_id, id);

-- No row means idle. One row is the lane's lock, its lease and its fence.
CREATE TABLE queue_lanes (
    queue          text        NOT NULL,
    lane           text        NOT NULL,
    environment_id uuid        NOT NULL,
    state          text        NOT NULL,
    claim          bigint,
    lease_until    timestamptz NOT NULL,
    rings          integer     NOT NULL DEFAULT 1,
    suspect        boolean     NOT NULL DEFAULT false,
    PRIMARY KEY (queue, lane),
    CONSTRAINT queue_lanes_state CHECK (state IN ('RUNG', 'RUNNING')),
    CONSTRAINT queue_lanes_claim CHECK ((state = 'RUNNING') = (claim IS NOT NULL))
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE INDEX queue_lanes_lease_until ON queue_lanes (lease_until);
CREATE UNIQUE INDEX queue_lanes_claim_unique ON queue_lanes (claim) WHERE claim IS NOT NULL;

CREATE SEQUENCE queue_claims;

CREATE TABLE queue_uniques (
    key          text        NOT NULL,
    value        text        NOT NULL,
    queue_job_id uuid        NOT NULL,
    expires_at   timestamptz NOT NULL,
    PRIMARY KEY (key, value)
);
CREATE INDEX queue_uniques_queue_job_id ON queue_uniques (queue_job_id);
CREATE INDEX queue_uniques_expires_at ON queue_uniques (expires_at);

CREATE TABLE queue_pauses (
    queue      text        NOT NULL,
    lane       text,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT queue_pauses_queue_lane_unique UNIQUE NULLS NOT DISTINCT (queue, lane)
);
