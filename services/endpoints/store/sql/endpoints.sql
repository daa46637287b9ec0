-- name: credential
-- Reads an environment with its sealed API key.
SELECT id, slug, type, organization_id, project_id, created_at, updated_at, api_key_ciphertext
FROM runtime_environments
WHERE id = $1

-- name: get
-- Reads one endpoint.
SELECT
    id, slug, url, indexing_hook_identifier, environment_id, organization_id, project_id, index_sequence, state,
    created_at, updated_at
FROM endpoints
WHERE id = $1

-- name: get_by_slug
-- Reads the endpoint of a slug.
SELECT
    id, slug, url, indexing_hook_identifier, environment_id, organization_id, project_id, index_sequence, state,
    created_at, updated_at
FROM endpoints
WHERE environment_id = $1 AND slug = $2

-- name: list_endpoints
-- Reads an environment's endpoints by slug.
SELECT
    id, slug, url, indexing_hook_identifier, environment_id, organization_id, project_id, index_sequence, state,
    created_at, updated_at
FROM endpoints
WHERE environment_id = $1 AND slug > $2
ORDER BY slug
LIMIT $3

-- name: insert
-- Inserts an endpoint.
INSERT INTO endpoints (id, slug, url, indexing_hook_identifier, environment_id, organization_id, project_id)
VALUES ($1, $2, $3, $4, $5, $6, $7)
RETURNING
    id, slug, url, indexing_hook_identifier, environment_id, organization_id, project_id, index_sequence, state,
    created_at, updated_at

-- name: set_url
-- Gives an endpoint another url, or leaves a row that has it already as it is.
UPDATE endpoints SET url = $2, updated_at = CASE WHEN url = $2 THEN updated_at ELSE now() END
WHERE id = $1
RETURNING
    id, slug, url, indexing_hook_identifier, environment_id, organization_id, project_id, index_sequence, state,
    created_at, updated_at

-- name: draw_sequence
-- Draws the next number of an endpoint's indexes.
UPDATE endpoints SET index_sequence = index_sequence + 1 WHERE id = $1 RETURNING index_sequence

-- name: delete
-- Deletes an endpoint; everything that belongs to it goes with it.
DELETE FROM endpoints WHERE id = $1
