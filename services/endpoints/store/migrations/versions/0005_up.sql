-- What calls to the environment's endpoints are signed with, sealed; null for an environment from before, until its
-- secret is rotated. The previous secret signs as well until it expires, so that apps can change over.
ALTER TABLE runtime_environments
    ADD COLUMN signing_secret_ciphertext bytea,
    ADD COLUMN previous_signing_secret_ciphertext bytea,
    ADD COLUMN previous_signing_secret_expires_at timestamptz,
    ADD CONSTRAINT runtime_environments_previous_signing_secret CHECK (
        (previous_signing_secret_ciphertext IS NULL) = (previous_signing_secret_expires_at IS NULL)
        AND (previous_signing_secret_ciphertext IS NULL OR signing_secret_ciphertext IS NOT NULL)
    );
