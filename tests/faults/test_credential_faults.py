"""What must hold when an environment's credentials are replaced while its work waits."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg
from kongflow.v1 import tenancy_service_pb2

from tests.support.fake_endpoint import FakeEndpoint, index_of
from tests.support.pair import state_name
from tests.support.processes import running_processes
from tests.support.signed_calls import knows_only

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.pair import Pair, Tenant

HOUR = timedelta(hours=1)
JOBS = 20


async def rotate_both(pair: Pair, tenant: Tenant, overlap: timedelta) -> tuple[str, str]:
    """Replace an environment's API key and its signing secret; return the new ones."""
    key = tenancy_service_pb2.RotateApiKeyRequest(environment_id=tenant.environment_id)
    secret = tenancy_service_pb2.RotateSigningSecretRequest(environment_id=tenant.environment_id)
    for request in (key, secret):
        request.overlap.FromTimedelta(overlap)
    return (
        (await pair.admin.call(pair.admin.tenancy.RotateApiKey, key)).api_key,
        (await pair.admin.call(pair.admin.tenancy.RotateSigningSecret, secret)).signing_secret,
    )


async def test_key_and_secret_rotated_while_work_waits_are_both_accepted_in_the_overlap(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    async with running_processes(database_url=database_url, redis_url=redis_url, directory=tmp_path) as processes:
        pair = processes.pair
        tenant = await pair.new_tenant()
        key, secret = await rotate_both(pair, tenant, timedelta())
        async with FakeEndpoint(api_key=key, index=index_of(JOBS), behaviour=knows_only(secret)) as app:
            await processes.worker.kill()
            made = await pair.client(key).create_endpoint(tenant, app.url)
            newer_key, newer_secret = await rotate_both(pair, tenant, HOUR)
            client = pair.client(newer_key)
            (waiting,) = await client.queue_jobs(kind="indexEndpoint")
            await processes.worker.start()
            during = (await client.watch(made.index_id))[-1]

            for holds in ("the old ones", "the new ones"):
                if holds == "the new ones":
                    app.api_key, app.behaviour = newer_key, knows_only(newer_secret)
                again = await client.index(made.endpoint.id, force=True)
                assert state_name((await client.watch(again.index.id))[-1]) == "SUCCEEDED", holds
            await _end_overlaps(database_url)
            again = await client.index(made.endpoint.id, force=True)
            with_new = (await client.watch(again.index.id))[-1]
            app.api_key = key
            again = await client.index(made.endpoint.id, force=True)
            with_old = (await client.watch(again.index.id))[-1]

    assert state_name(waiting) == "AVAILABLE"
    assert state_name(during) == "SUCCEEDED"
    assert len(app.calls("INDEX_ENDPOINT")[0].headers["webhook-signature"].split()) == 2
    assert state_name(with_new) == "SUCCEEDED"
    assert state_name(with_old) == "FAILED"
    assert with_old.error.startswith("Forbidden: client apiKey mismatch")


async def _end_overlaps(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            "UPDATE runtime_environments"
            " SET previous_api_key_expires_at = now(), previous_signing_secret_expires_at = now()"
        )
    finally:
        await connection.close()
