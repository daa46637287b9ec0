"""What an app that still holds an environment's API key from before is asked, and how it is called, in an overlap."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from kongflow.v1 import endpoint_service_pb2, tenancy_service_pb2

from tests.support.fake_endpoint import FakeEndpoint, in_turn, index_of, on, status
from tests.support.pair import state_name
from tests.support.signed_calls import signed_by

if TYPE_CHECKING:
    import asyncpg

    from tests.support.pair import Pair, Tenant

HOUR = timedelta(hours=1)
MISMATCH = "Forbidden: client apiKey mismatch"


async def rotated_key(pair: Pair, tenant: Tenant, overlap: timedelta) -> str:
    request = tenancy_service_pb2.RotateApiKeyRequest(environment_id=tenant.environment_id)
    request.overlap.FromTimedelta(overlap)
    return str((await pair.admin.call(pair.admin.tenancy.RotateApiKey, request)).api_key)


async def test_app_with_the_old_key_is_pinged_and_indexed_during_the_overlap_and_refused_after_it(
    pair: Pair, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    tenant = await pair.new_tenant()
    key = await rotated_key(pair, tenant, HOUR)
    client = pair.client(key)
    async with FakeEndpoint(api_key=tenant.api_key, index=index_of(3)) as endpoint:
        made = await client.create_endpoint(tenant, endpoint.url)
        during = (await client.watch(made.index_id))[-1]
        calls = list(endpoint.journal)
        await connection.execute("UPDATE runtime_environments SET previous_api_key_expires_at = now()")
        again = await client.index(made.endpoint.id, force=True)
        after = (await client.watch(again.index.id))[-1]
        request = endpoint_service_pb2.PingEndpointRequest(endpoint_id=made.endpoint.id)
        ping = await client.call(client.endpoints.PingEndpoint, request)

    assert state_name(during) == "SUCCEEDED"
    assert len(await client.active_jobs(tenant)) == 3
    assert [(entry.action, entry.key_fits) for entry in calls] == [
        ("PING", False),
        ("PING", True),
        ("INDEX_ENDPOINT", False),
        ("INDEX_ENDPOINT", True),
    ]
    of_ping, of_ping_again, of_index, of_index_again = (entry.headers["webhook-id"] for entry in calls)
    assert (of_ping, of_index) == (of_ping_again, of_index_again)
    assert state_name(after) == "FAILED"
    assert after.error.startswith(MISMATCH)
    assert (ping.ok, ping.error.startswith(MISMATCH)) == (False, True)
    assert [entry.key_fits for entry in endpoint.journal[len(calls) :]] == [False, False]


async def test_without_an_overlap_the_old_key_is_not_sent_again(pair: Pair) -> None:
    tenant = await pair.new_tenant()
    client = pair.client(tenant.api_key)
    async with FakeEndpoint(api_key=tenant.api_key) as endpoint:
        made = await client.create_endpoint(tenant, endpoint.url)
        await client.watch(made.index_id)
        client = pair.client(await rotated_key(pair, tenant, timedelta()))
        request = endpoint_service_pb2.PingEndpointRequest(endpoint_id=made.endpoint.id)
        ping = await client.call(client.endpoints.PingEndpoint, request)

    assert (ping.ok, ping.http_status) == (False, 401)
    assert [entry.key_fits for entry in endpoint.journal] == [True, True, False]


async def test_attempts_of_one_queue_job_have_one_id_and_signatures_that_both_secrets_verify(pair: Pair) -> None:
    tenant = await pair.new_tenant(environment_type="PRODUCTION")
    secrets: list[str] = []
    for overlap in (timedelta(), HOUR):
        request = tenancy_service_pb2.RotateSigningSecretRequest(environment_id=tenant.environment_id)
        request.overlap.FromTimedelta(overlap)
        response = await pair.admin.call(pair.admin.tenancy.RotateSigningSecret, request)
        secrets.insert(0, response.signing_secret)
    client = pair.client(tenant.api_key)
    once = on("INDEX_ENDPOINT", in_turn(status(503), None))
    async with FakeEndpoint(api_key=tenant.api_key, behaviour=once) as endpoint:
        made = await client.create_endpoint(tenant, endpoint.url)
        final = (await client.watch(made.index_id))[-1]

    assert state_name(final) == "SUCCEEDED"
    attempts = endpoint.calls("INDEX_ENDPOINT")
    (queue_job,) = await client.queue_jobs(kind="indexEndpoint")
    assert (queue_job.attempt, len(attempts)) == (2, 2)
    assert {entry.headers["webhook-id"] for entry in attempts} == {queue_job.id}
    assert all(signed_by(entry, *secrets) for entry in attempts)
