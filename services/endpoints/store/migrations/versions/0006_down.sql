DROP INDEX tokens_previous_token;
ALTER TABLE tokens
    DROP COLUMN previous_token_hash,
    DROP COLUMN previous_token_expires_at,
    DROP COLUMN last_used_at;

DROP INDEX runtime_environments_previous_api_key;
ALTER TABLE runtime_environments
    DROP COLUMN previous_api_key_hash,
    DROP COLUMN previous_api_key_ciphertext,
    DROP COLUMN previous_api_key_expires_at,
    DROP COLUMN api_key_last_used_at;
