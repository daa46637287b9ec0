ALTER TABLE runtime_environments
    DROP CONSTRAINT runtime_environments_previous_signing_secret,
    DROP COLUMN previous_signing_secret_expires_at,
    DROP COLUMN previous_signing_secret_ciphertext,
    DROP COLUMN signing_secret_ciphertext;
