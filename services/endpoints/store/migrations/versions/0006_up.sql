-- The credential before the last rotation is accepted until it expires; last use is written at most once a minute.
ALTER TABLE runtime_environments
    ADD COLUMN previous_api_key_hash bytea,
    ADD COLUMN previous_api_key_ciphertext bytea,
    ADD COLUMN previous_api_key_expires_at timestamptz,
    ADD COLUMN api_key_last_used_at timestamptz,
    ADD CONSTRAINT runtime_environments_previous_api_key CHECK (
        num_nulls(previous_api_key_hash, previous_api_key_ciphertext, previous_api_key_expires_at) IN (0, 3)
    );
CREATE INDEX runtime_environments_previous_api_key ON runtime_environments (previous_api_key_hash)
    WHERE previous_api_key_hash IS NOT NULL;

ALTER TABLE tokens
    ADD COLUMN previous_token_hash bytea,
    ADD COLUMN previous_token_expires_at timestamptz,
    ADD COLUMN last_used_at timestamptz,
    ADD CONSTRAINT tokens_previous_token CHECK (
        (previous_token_hash IS NULL) = (previous_token_expires_at IS NULL)
    );
CREATE INDEX tokens_previous_token ON tokens (previous_token_hash) WHERE previous_token_hash IS NOT NULL;
