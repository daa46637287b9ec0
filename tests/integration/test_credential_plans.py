"""What recognising a credential reads among many, with the plans that the product keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from services.endpoints.domain.ports.store import Pool
from tests.integration.test_endpoint_health_plans import explain

if TYPE_CHECKING:
    import asyncpg

    from services.endpoints.store.postgres import PostgresStore

MANY = 20_000
USED = [UUID(f"01900000-0000-7000-8000-{n:012x}") for n in range(1, 101)]

# Half of all were rotated; of these, every other one's overlap is over.
_FILL_ENVIRONMENTS = """
INSERT INTO runtime_environments
    (id, slug, type, organization_id, project_id, api_key_hash, api_key_ciphertext,
    previous_api_key_hash, previous_api_key_ciphertext, previous_api_key_expires_at)
SELECT
    ('01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'environment-' || n, 'PRODUCTION',
    gen_random_uuid(), gen_random_uuid(), decode(md5('new' || n), 'hex'), decode(md5('sealed' || n), 'hex'),
    CASE WHEN n % 2 = 0 THEN decode(md5('old' || n), 'hex') END,
    CASE WHEN n % 2 = 0 THEN decode(md5('sealed before' || n), 'hex') END,
    CASE WHEN n % 2 = 0 THEN now() + CASE WHEN n % 4 = 0 THEN 1 ELSE -1 END * interval '1 hour' END
FROM generate_series(1, $1::int) AS n
"""
_FILL_TOKENS = """
INSERT INTO tokens
    (id, kind, name, organization_id, scopes, token_hash, previous_token_hash, previous_token_expires_at)
SELECT
    ('01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'SERVICE', 'token-' || n, gen_random_uuid(),
    ARRAY['read'], decode(md5('new' || n), 'hex'),
    CASE WHEN n % 2 = 0 THEN decode(md5('old' || n), 'hex') END,
    CASE WHEN n % 2 = 0 THEN now() + CASE WHEN n % 4 = 0 THEN 1 ELSE -1 END * interval '1 hour' END
FROM generate_series(1, $1::int) AS n
"""


@pytest.fixture(params=["analyzed", "never analyzed"])
async def crowd(
    store: PostgresStore, connection: asyncpg.Connection[asyncpg.Record], request: pytest.FixtureRequest
) -> PostgresStore:
    """A store with 20,000 environments and as many tokens, half of which were rotated."""
    await connection.execute("SET session_replication_role = replica")  # whose they are does not matter
    await connection.execute(_FILL_ENVIRONMENTS, MANY)
    await connection.execute(_FILL_TOKENS, MANY)
    if request.param == "analyzed":
        await connection.execute("ANALYZE runtime_environments, tokens")
    return store


async def test_credential_is_recognised_for_the_price_of_one(
    crowd: PostgresStore, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    # The last one's overlap is over: its row is read and thrown away.
    texts = {"new 7": ("new7", 1), "old 8": ("old8", 1), "unknown": ("none", 0), "too old": ("old6", 0)}
    for name, (text, found) in texts.items():
        hashed = await connection.fetchval("SELECT decode(md5($1), 'hex')", text)
        for block in ("find_environment", "find_token"):
            _, plan = await explain(crowd, Pool.READERS, "tenancy", block, {"bytea": hashed})
            assert (plan.root["Actual Rows"], plan.scans_all) == (found, False), f"{name}: {block}"
            assert plan.rows_read <= 1, f"{name}: {block}"


async def test_uses_are_noted_and_credentials_read_for_the_price_of_those_that_were_used(crowd: PostgresStore) -> None:
    for block in ("note_used_api_keys", "note_used_tokens"):
        _, plan = await explain(crowd, Pool.RELAY, "tenancy", block, {"uuid[]": USED})
        assert not plan.scans_all, block
        # Each is found, locked and written by its id.
        assert len(USED) <= plan.rows_read <= 3 * len(USED), block
    _, plan = await explain(crowd, Pool.CALLS, "endpoints", "credential", {"uuid": USED[0]})
    assert (plan.scans_all, plan.rows_read) == (False, 1)
