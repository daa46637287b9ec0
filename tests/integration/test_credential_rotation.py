"""Rotating keys and tokens: what is accepted, for how long, at every server, and when it was last used."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from kongflow.v1 import tenancy_service_pb2 as tenancy
from kongflow.v1.token_pb2 import TOKEN_KIND_SERVICE, TOKEN_SCOPE_READ

from services.endpoints.domain.errors import DatabaseDefectError
from tests.support.eventually import eventually
from tests.support.machine_time import machine_time
from tests.support.rpc import refused, running_service

if TYPE_CHECKING:
    import asyncpg

    from tests.support.rpc import Service
    from tests.support.stage import Stage

HOUR = Duration(seconds=3600)
# Other servers trust what they have found for 5 seconds.
STALE = timedelta(seconds=6)


async def is_accepted(service: Service, credential: str) -> bool:
    try:
        await service.caller(credential).tenancy.ListEnvironments(tenancy.ListEnvironmentsRequest())
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
            raise
        return False
    return True


async def rotated_key(stage: Stage, overlap: Duration | None = None) -> str:
    request = tenancy.RotateApiKeyRequest(environment_id=stage.ours.development.id, overlap=overlap)
    key: str = (await stage.admin.tenancy.RotateApiKey(request)).api_key
    return key


async def new_token(stage: Stage) -> tuple[str, str]:
    request = tenancy.CreateTokenRequest(
        kind=TOKEN_KIND_SERVICE, name="x", organization_id=stage.ours.organization_id, scopes=[TOKEN_SCOPE_READ]
    )
    made = await stage.admin.tenancy.CreateToken(request)
    return made.token.id, made.secret


async def rotated_token(stage: Stage, token_id: str, overlap: Duration | None = None) -> str:
    request = tenancy.RotateTokenRequest(token_id=token_id, overlap=overlap)
    secret: str = (await stage.admin.tenancy.RotateToken(request)).secret
    return secret


async def test_without_an_overlap_the_old_key_and_the_old_secret_end_at_once(stage: Stage) -> None:
    token_id, secret = await new_token(stage)
    assert await is_accepted(stage.service, stage.ours.development_key)
    assert await is_accepted(stage.service, secret)
    key, newer = await rotated_key(stage), await rotated_token(stage, token_id)
    assert not await is_accepted(stage.service, stage.ours.development_key)
    assert not await is_accepted(stage.service, secret)
    assert await is_accepted(stage.service, key)
    assert await is_accepted(stage.service, newer)


async def test_during_an_overlap_both_are_accepted_and_then_the_new_one_only(
    stage: Stage, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    token_id, secret = await new_token(stage)
    key, newer = await rotated_key(stage, HOUR), await rotated_token(stage, token_id, HOUR)
    for credential in (stage.ours.development_key, key, secret, newer):
        assert await is_accepted(stage.service, credential)
    await connection.execute(
        "UPDATE runtime_environments SET previous_api_key_expires_at = now() WHERE previous_api_key_hash IS NOT NULL"
    )
    await connection.execute(
        "UPDATE tokens SET previous_token_expires_at = now() WHERE previous_token_hash IS NOT NULL"
    )
    stage.service.operations.authentication.forget()
    for credential in (stage.ours.development_key, secret):
        assert not await is_accepted(stage.service, credential)
    for credential in (key, newer):
        assert await is_accepted(stage.service, credential)


async def test_an_old_credential_is_trusted_no_longer_than_its_overlap(stage: Stage) -> None:
    token_id, secret = await new_token(stage)
    moment = Duration(nanos=300_000_000)
    await rotated_key(stage, moment)
    await rotated_token(stage, token_id, moment)

    async def are_refused() -> bool:
        return not (
            await is_accepted(stage.service, stage.ours.development_key) or await is_accepted(stage.service, secret)
        )

    await eventually(are_refused, within=timedelta(seconds=3))


async def test_another_rotation_ends_the_credential_from_before_the_last(stage: Stage) -> None:
    token_id, secret = await new_token(stage)
    key, newer = await rotated_key(stage, HOUR), await rotated_token(stage, token_id, HOUR)
    await rotated_key(stage, HOUR)
    await rotated_token(stage, token_id, HOUR)
    for credential in (stage.ours.development_key, secret):
        assert not await is_accepted(stage.service, credential)
    for credential in (key, newer):
        assert await is_accepted(stage.service, credential)


async def test_revoking_ends_both_secrets_and_a_revoked_token_is_not_rotated(stage: Stage) -> None:
    token_id, secret = await new_token(stage)
    newer = await rotated_token(stage, token_id, HOUR)
    await stage.admin.tenancy.RevokeToken(tenancy.RevokeTokenRequest(token_id=token_id))
    assert not await is_accepted(stage.service, secret)
    assert not await is_accepted(stage.service, newer)
    again = await refused(stage.admin.tenancy.RotateToken(tenancy.RotateTokenRequest(token_id=token_id)))
    assert (again.code, again.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "WRONG_STATE")


@pytest.mark.parametrize("overlap", [Duration(seconds=-1), Duration(nanos=-1), Duration(seconds=7 * 86_400 + 1)])
async def test_an_impossible_overlap_is_refused(stage: Stage, overlap: Duration) -> None:
    token_id, _ = await new_token(stage)
    calls = [
        stage.admin.tenancy.RotateToken(tenancy.RotateTokenRequest(token_id=token_id, overlap=overlap)),
        stage.admin.tenancy.RotateApiKey(
            tenancy.RotateApiKeyRequest(environment_id=stage.ours.development.id, overlap=overlap)
        ),
    ]
    for call in calls:
        assert (await refused(call)).fields == ["overlap"]


async def test_only_administrators_rotate(stage: Stage) -> None:
    token_id, _ = await new_token(stage)
    call = stage.writer.tenancy.RotateToken(tenancy.RotateTokenRequest(token_id=token_id))
    assert (await refused(call)).code is grpc.StatusCode.PERMISSION_DENIED


async def test_a_revocation_and_a_rotation_hold_at_another_server_soon(stage: Stage, database_url: str) -> None:
    token_id, secret = await new_token(stage)
    async with running_service(database_url) as other:
        for credential in (secret, stage.ours.development_key):
            assert await is_accepted(other, credential)
        began = machine_time()
        await stage.admin.tenancy.RevokeToken(tenancy.RevokeTokenRequest(token_id=token_id))
        await rotated_key(stage)

        async def are_refused() -> bool:
            return not (await is_accepted(other, secret) or await is_accepted(other, stage.ours.development_key))

        await eventually(are_refused, within=STALE)
        assert machine_time() - began < STALE.total_seconds()


async def test_last_use_is_noted_in_the_background_and_at_most_once_a_minute(
    stage: Stage, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    token_id, secret = await new_token(stage)
    uses, authentication = stage.service.operations.uses, stage.service.operations.authentication

    async def last_use() -> Any:
        listed = await stage.admin.tenancy.ListTokens(tenancy.ListTokensRequest(page_size=100))
        [token] = [each for each in listed.tokens if each.id == token_id]
        return token.last_use_time.ToDatetime() if token.HasField("last_use_time") else None

    await uses.run_once()
    assert await last_use() is None
    await is_accepted(stage.service, secret)
    await is_accepted(stage.service, stage.ours.development_key)
    assert await last_use() is None
    await uses.run_once()
    first = await last_use()
    assert first is not None
    authentication.forget()
    await is_accepted(stage.service, secret)
    await uses.run_once()
    assert await last_use() == first
    await connection.execute("UPDATE tokens SET last_used_at = last_used_at - interval '2 minutes'")
    authentication.forget()
    await is_accepted(stage.service, secret)
    await uses.run_once()
    assert await last_use() >= first
    used = await connection.fetchval("SELECT count(*) FROM runtime_environments WHERE api_key_last_used_at IS NOT NULL")
    assert used == 1


async def test_uses_that_the_database_did_not_take_are_written_when_it_does(
    stage: Stage, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    token_id, secret = await new_token(stage)
    await is_accepted(stage.service, secret)
    await is_accepted(stage.service, stage.ours.development_key)
    uses = stage.service.operations.uses
    await connection.execute("ALTER TABLE runtime_environments RENAME COLUMN api_key_last_used_at TO away")
    with pytest.raises(DatabaseDefectError):
        await uses.run_once()
    await connection.execute("ALTER TABLE runtime_environments RENAME COLUMN away TO api_key_last_used_at")

    await uses.run_once()

    assert await connection.fetchval("SELECT last_used_at FROM tokens WHERE id = $1", token_id) is not None
    assert await connection.fetchval("SELECT count(api_key_last_used_at) FROM runtime_environments") == 1
