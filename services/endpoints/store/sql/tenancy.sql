-- name: insert_organization
-- Inserts an organization unless its slug is taken.
INSERT INTO organizations (id, slug, title) VALUES ($1, $2, $3)
ON CONFLICT (slug) DO NOTHING
RETURNING id, slug, title, created_at, updated_at

-- name: get_organization
-- Reads one organization.
SELECT id, slug, title, created_at, updated_at FROM organizations WHERE id = $1

-- name: insert_project
-- Inserts a project of an organization that is there, unless its slug is taken.
INSERT INTO projects (id, slug, name, organization_id)
SELECT $1, $2, $3, organization.id
FROM (SELECT id FROM organizations WHERE id = $4 FOR KEY SHARE) AS organization
ON CONFLICT (slug) DO NOTHING
RETURNING id, slug, name, organization_id, created_at, updated_at

-- name: get_project
-- Reads one project.
SELECT id, slug, name, organization_id, created_at, updated_at FROM projects WHERE id = $1

-- name: insert_environment
-- Inserts an environment of a project that is there, unless its slug is taken in it.
INSERT INTO runtime_environments (
    id, slug, type, organization_id, project_id, api_key_hash, api_key_ciphertext, signing_secret_ciphertext
)
SELECT $1, $2, $3, project.organization_id, project.id, $5, $6, $7
FROM (SELECT id, organization_id FROM projects WHERE id = $4 FOR KEY SHARE) AS project
ON CONFLICT (project_id, slug) DO NOTHING
RETURNING id, slug, type, organization_id, project_id, created_at, updated_at

-- name: get_environment
-- Reads one environment.
SELECT id, slug, type, organization_id, project_id, created_at, updated_at, api_key_last_used_at
FROM runtime_environments
WHERE id = $1

-- name: list_environments
-- Reads environments by id, those after $5; a filter that is null takes all.
SELECT id, slug, type, organization_id, project_id, created_at, updated_at, api_key_last_used_at
FROM runtime_environments
WHERE ($1::uuid IS NULL OR organization_id = $1)
    AND ($2::uuid IS NULL OR project_id = $2)
    AND ($3::uuid IS NULL OR id = $3)
    AND ($5::uuid IS NULL OR id > $5)
ORDER BY id
LIMIT $4

-- name: set_api_key
-- Gives an environment another API key; the one before is kept for $4, which may be nothing.
UPDATE runtime_environments
SET api_key_hash = $2,
    api_key_ciphertext = $3,
    previous_api_key_hash = CASE WHEN $4::interval > interval '0' THEN api_key_hash END,
    previous_api_key_ciphertext = CASE WHEN $4::interval > interval '0' THEN api_key_ciphertext END,
    previous_api_key_expires_at = CASE WHEN $4::interval > interval '0' THEN now() + $4::interval END,
    updated_at = now()
WHERE id = $1
RETURNING id, slug, type, organization_id, project_id, created_at, updated_at

-- name: set_signing_secret
-- Signs with another secret, and for $3 with the one before, if there is one.
UPDATE runtime_environments SET
    signing_secret_ciphertext = $2,
    previous_signing_secret_ciphertext =
        CASE WHEN $3::interval > interval '0' THEN signing_secret_ciphertext END,
    previous_signing_secret_expires_at =
        CASE WHEN $3::interval > interval '0' AND signing_secret_ciphertext IS NOT NULL THEN now() + $3::interval END,
    updated_at = now()
WHERE id = $1
RETURNING
    id, slug, type, organization_id, project_id, created_at, updated_at, previous_signing_secret_expires_at

-- name: find_environment
-- Reads the environment of an API key, or of the key before it while that is still good.
SELECT
    id, slug, type, organization_id, project_id, created_at, updated_at, api_key_hash,
    NULL::interval AS expires_in
FROM runtime_environments
WHERE api_key_hash = $1
UNION ALL
SELECT
    id, slug, type, organization_id, project_id, created_at, updated_at, previous_api_key_hash,
    previous_api_key_expires_at - now()
FROM runtime_environments
WHERE previous_api_key_hash = $1 AND previous_api_key_expires_at > now()

-- name: note_used_api_keys
-- Notes that API keys of environments were used, at most once a minute each.
UPDATE runtime_environments SET api_key_last_used_at = now()
FROM (
    SELECT id FROM runtime_environments
    WHERE id = ANY($1::uuid[]) AND (api_key_last_used_at IS NULL OR api_key_last_used_at <= now() - interval '1 minute')
    ORDER BY id
    FOR NO KEY UPDATE SKIP LOCKED
) AS used
WHERE runtime_environments.id = used.id

-- name: insert_token
-- Inserts a token.
INSERT INTO tokens (id, kind, name, organization_id, scopes, token_hash, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
RETURNING id, kind, name, organization_id, scopes, expires_at, revoked_at, created_at, last_used_at

-- name: get_token
-- Reads one token.
SELECT id, kind, name, organization_id, scopes, expires_at, revoked_at, created_at, last_used_at FROM tokens WHERE id = $1

-- name: list_tokens
-- Reads tokens by id, those after $5; a filter that is null takes all.
SELECT id, kind, name, organization_id, scopes, expires_at, revoked_at, created_at, last_used_at
FROM tokens
WHERE ($1::uuid IS NULL OR organization_id = $1)
    AND ($2::text IS NULL OR kind = $2)
    AND ($3::boolean OR revoked_at IS NULL)
    AND ($5::uuid IS NULL OR id > $5)
ORDER BY id
LIMIT $4

-- name: revoke_token
-- Revokes a token and keeps an earlier time of revocation.
UPDATE tokens SET revoked_at = coalesce(revoked_at, now())
WHERE id = $1
RETURNING id, kind, name, organization_id, scopes, expires_at, revoked_at, created_at, last_used_at

-- name: rotate_token
-- Gives a token that is not revoked another secret; the one before is kept for $3, which may be nothing.
UPDATE tokens
SET token_hash = $2,
    previous_token_hash = CASE WHEN $3::interval > interval '0' THEN token_hash END,
    previous_token_expires_at = CASE WHEN $3::interval > interval '0' THEN now() + $3::interval END
WHERE id = $1 AND revoked_at IS NULL
RETURNING id, kind, name, organization_id, scopes, expires_at, revoked_at, created_at, last_used_at

-- name: find_token
-- Reads a token that is neither expired nor revoked by its secret, or by the one before it while that is still good.
SELECT
    id, kind, name, organization_id, scopes, expires_at, revoked_at, created_at, last_used_at, token_hash,
    expires_at - now() AS expires_in
FROM tokens
WHERE token_hash = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
UNION ALL
SELECT
    id, kind, name, organization_id, scopes, expires_at, revoked_at, created_at, last_used_at, previous_token_hash,
    least(expires_at, previous_token_expires_at) - now()
FROM tokens
WHERE previous_token_hash = $1 AND previous_token_expires_at > now()
    AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())

-- name: note_used_tokens
-- Notes that tokens were used, at most once a minute each.
UPDATE tokens SET last_used_at = now()
FROM (
    SELECT id FROM tokens
    WHERE id = ANY($1::uuid[]) AND (last_used_at IS NULL OR last_used_at <= now() - interval '1 minute')
    ORDER BY id
    FOR NO KEY UPDATE SKIP LOCKED
) AS used
WHERE tokens.id = used.id
