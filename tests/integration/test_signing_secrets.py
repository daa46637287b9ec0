"""Signing secrets: made with an environment, rotated with an overlap, kept sealed, and used by every call."""

from __future__ import annotations

import base64
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from kongflow.v1 import endpoint_service_pb2, environment_pb2, tenancy_service_pb2
from structlog.testing import capture_logs

from tests.support.fake_endpoint import FakeEndpoint
from tests.support.signed_calls import signed_by

if TYPE_CHECKING:
    import asyncpg

    from tests.support.pair import Pair

HOUR = timedelta(hours=1)


async def rotate(pair: Pair, environment_id: str, overlap: timedelta | None = None) -> Any:
    request = tenancy_service_pb2.RotateSigningSecretRequest(environment_id=environment_id)
    if overlap is not None:
        request.overlap.FromTimedelta(overlap)
    return await pair.admin.call(pair.admin.tenancy.RotateSigningSecret, request)


async def test_new_environment_signs_with_the_secret_that_its_answer_showed(pair: Pair) -> None:
    tenant = await pair.new_tenant()
    created = await pair.admin.call(
        pair.admin.tenancy.CreateEnvironment,
        tenancy_service_pb2.CreateEnvironmentRequest(
            project_id=tenant.project_id,
            slug="signed",
            type=environment_pb2.ENVIRONMENT_TYPE_DEVELOPMENT,
            request_id=str(uuid4()),
        ),
    )
    assert len(base64.b64decode(created.signing_secret.removeprefix("whsec_"), validate=True)) == 32
    client = pair.client(created.api_key)
    async with FakeEndpoint(api_key=created.api_key) as endpoint:
        made = await client.create_endpoint(replace(tenant, environment_id=created.environment.id), endpoint.url)
        await client.watch(made.index_id)
        ping, index = endpoint.journal
    assert signed_by(ping, created.signing_secret)
    assert signed_by(index, created.signing_secret)
    assert index.headers["webhook-id"] in {job.id for job in await client.queue_jobs(kind="indexEndpoint")}
    assert ping.headers["webhook-id"] != index.headers["webhook-id"]


async def test_calls_carry_both_signatures_while_a_rotation_overlaps_and_one_afterwards(
    pair: Pair, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    tenant = await pair.new_tenant()
    client = pair.client(tenant.api_key)
    old = await rotate(pair, tenant.environment_id, timedelta(0))
    assert not old.HasField("previous_expire_time")
    async with FakeEndpoint(api_key=tenant.api_key) as endpoint:
        made = await client.create_endpoint(tenant, endpoint.url)
        await client.watch(made.index_id)
        assert all(signed_by(entry, old.signing_secret) for entry in endpoint.journal)
        new = await rotate(pair, tenant.environment_id, HOUR)
        assert new.previous_expire_time.ToDatetime() - new.environment.update_time.ToDatetime() == HOUR
        ping = endpoint_service_pb2.PingEndpointRequest(endpoint_id=made.endpoint.id)
        await client.call(client.endpoints.PingEndpoint, ping)
        assert signed_by(endpoint.journal[-1], new.signing_secret, old.signing_secret)
        await connection.execute("UPDATE runtime_environments SET previous_signing_secret_expires_at = now()")
        await client.call(client.endpoints.PingEndpoint, ping)
        assert signed_by(endpoint.journal[-1], new.signing_secret)
        assert len({entry.headers["webhook-id"] for entry in endpoint.journal}) == len(endpoint.journal)


async def test_environment_from_before_is_called_unsigned_until_its_secret_is_rotated(
    pair: Pair, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    tenant = await pair.new_tenant()
    client = pair.client(tenant.api_key)
    await connection.execute("UPDATE runtime_environments SET signing_secret_ciphertext = NULL")
    async with FakeEndpoint(api_key=tenant.api_key) as endpoint:
        made = await client.create_endpoint(tenant, endpoint.url)
        assert not any(name.startswith("webhook-") for name in endpoint.journal[0].headers)
        rotated = await rotate(pair, tenant.environment_id)
        assert not rotated.HasField("previous_expire_time")
        ping = endpoint_service_pb2.PingEndpointRequest(endpoint_id=made.endpoint.id)
        await client.call(client.endpoints.PingEndpoint, ping)
        assert signed_by(next(entry for entry in endpoint.calls("PING")[1:]), rotated.signing_secret)


async def test_overlap_is_a_day_when_nothing_is_said(pair: Pair) -> None:
    tenant = await pair.new_tenant()
    rotated = await rotate(pair, tenant.environment_id)
    lasts = rotated.previous_expire_time.ToDatetime() - rotated.environment.update_time.ToDatetime()
    assert lasts == timedelta(days=1)


@pytest.mark.parametrize("overlap", [Duration(seconds=-1), Duration(seconds=7 * 86_400, nanos=1), Duration(nanos=-1)])
async def test_overlap_outside_a_week_is_refused_with_all_else_that_is_wrong(pair: Pair, overlap: Duration) -> None:
    request = tenancy_service_pb2.RotateSigningSecretRequest(environment_id="x", overlap=overlap)
    with pytest.raises(grpc.aio.AioRpcError, match="overlap") as caught:
        await pair.admin.call(pair.admin.tenancy.RotateSigningSecret, request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_secret_of_an_absent_environment_is_not_rotated_and_only_an_admin_may(pair: Pair) -> None:
    tenant = await pair.new_tenant()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rotate(pair, str(UUID(int=7)))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    own = pair.client(tenant.api_key)
    request = tenancy_service_pb2.RotateSigningSecretRequest(environment_id=tenant.environment_id)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await own.call(own.tenancy.RotateSigningSecret, request)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_secrets_are_in_no_row_and_no_log_line(
    pair: Pair, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    with capture_logs() as lines:
        tenant = await pair.new_tenant()
        old = await rotate(pair, tenant.environment_id)
        new = await rotate(pair, tenant.environment_id)
        client = pair.client(tenant.api_key)
        async with FakeEndpoint(api_key="tr_dev_another") as endpoint:
            with suppress(grpc.aio.AioRpcError):
                await client.create_endpoint(tenant, endpoint.url)
    kept = str(await connection.fetch("SELECT to_jsonb(runtime_environments)::text FROM runtime_environments"))
    for secret in (old.signing_secret, new.signing_secret):
        assert secret.removeprefix("whsec_") not in f"{lines}{kept}"
        assert base64.b64decode(secret.removeprefix("whsec_")).hex() not in kept
