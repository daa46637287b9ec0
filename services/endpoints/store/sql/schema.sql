-- name: revision
-- Reads which migration was applied last.
SELECT version_num FROM alembic_version
