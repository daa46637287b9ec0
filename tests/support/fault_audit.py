"""What the test database writes down by itself: every end of a queue job and every write of an effect."""

from __future__ import annotations

from typing import Final

# Statement triggers run in the writing transaction: what rolls back leaves no trace, as it should.
AUDIT: Final = (
    "CREATE TABLE audit_ends (queue_job_id uuid NOT NULL, before text NOT NULL, after text NOT NULL)",
    "CREATE TABLE audit_effects (job_version_id uuid NOT NULL, sequence bigint NOT NULL, earlier bigint)",
    """
    CREATE FUNCTION audit_end() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO audit_ends
        SELECT was.id, was.state, now_is.state
        FROM now_is JOIN was ON was.id = now_is.id
        WHERE was.state <> now_is.state
            AND (now_is.finalized_at IS NOT NULL OR was.finalized_at IS NOT NULL);
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER audit_end AFTER UPDATE ON queue_jobs
    REFERENCING OLD TABLE AS was NEW TABLE AS now_is FOR EACH STATEMENT EXECUTE FUNCTION audit_end()
    """,
    """
    CREATE FUNCTION audit_first_effect() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO audit_effects SELECT id, index_sequence, NULL FROM now_is WHERE state = 'ACTIVE';
        RETURN NULL;
    END $$
    """,
    """
    CREATE FUNCTION audit_effect() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO audit_effects
        SELECT now_is.id, now_is.index_sequence, was.index_sequence
        FROM now_is JOIN was ON was.id = now_is.id
        WHERE now_is.state = 'ACTIVE';
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER audit_first_effect AFTER INSERT ON job_versions
    REFERENCING NEW TABLE AS now_is FOR EACH STATEMENT EXECUTE FUNCTION audit_first_effect()
    """,
    """
    CREATE TRIGGER audit_effect AFTER UPDATE ON job_versions
    REFERENCING OLD TABLE AS was NEW TABLE AS now_is FOR EACH STATEMENT EXECUTE FUNCTION audit_effect()
    """,
    # Rows of this table make the database give way to what is written, as if others were in its way.
    "CREATE TABLE audit_obstacles (sqlstate text NOT NULL, share double precision NOT NULL)",
    """
    CREATE FUNCTION audit_obstacle() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        obstacle record;
    BEGIN
        FOR obstacle IN SELECT sqlstate, share FROM audit_obstacles LOOP
            IF random() < obstacle.share THEN
                RAISE EXCEPTION 'as the test asked' USING ERRCODE = obstacle.sqlstate;
            END IF;
        END LOOP;
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER audit_obstacle BEFORE INSERT OR UPDATE ON queue_jobs
    FOR EACH STATEMENT EXECUTE FUNCTION audit_obstacle()
    """,
)
