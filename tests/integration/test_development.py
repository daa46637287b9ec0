"""What `kongflow up` keeps of its credentials, and what it does when they are not what they were."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import grpc
import pytest
from kongflow.v1 import endpoint_service_pb2, tenancy_service_pb2, worker_service_pb2

from services.embedded.development import DevelopmentSetup
from services.embedded.process import EmbeddedServerError
from tests.support.pair import ADMIN_TOKEN

if TYPE_CHECKING:
    from pathlib import Path

    from services.embedded.development import Development
    from tests.support.pair import Pair


async def prepared(pair: Pair, directory: Path) -> Development:
    return await DevelopmentSetup(channel=pair.channel, admin_token=ADMIN_TOKEN, directory=directory).prepare()


async def rotate_tokens(pair: Pair) -> None:
    """Give every token another secret, as an operator does who lost one."""
    tenancy = pair.admin.tenancy
    for token in (await pair.admin.call(tenancy.ListTokens, tenancy_service_pb2.ListTokensRequest())).tokens:
        if token.name == "development":
            await pair.admin.call(tenancy.RotateToken, tenancy_service_pb2.RotateTokenRequest(token_id=token.id))


async def test_second_start_finds_everything_again(pair: Pair, tmp_path: Path) -> None:
    assert await prepared(pair, tmp_path) == await prepared(pair, tmp_path)


async def test_token_that_is_accepted_no_more_is_replaced(pair: Pair, tmp_path: Path) -> None:
    first = await prepared(pair, tmp_path)
    await rotate_tokens(pair)
    second = await prepared(pair, tmp_path)
    assert (second.environment_id, second.api_key) == (first.environment_id, first.api_key)
    client = pair.client(second.service_token)
    request = endpoint_service_pb2.ListEndpointsRequest(environment_id=second.environment_id)
    assert list((await client.call(client.endpoints.ListEndpoints, request)).endpoints) == []
    worker = pair.client(second.worker_token)
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await worker.call(worker.worker.RunQueueJobs, worker_service_pb2.RunQueueJobsRequest())
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_rotated_api_key_is_not_replaced_behind_the_back_of_its_apps(pair: Pair, tmp_path: Path) -> None:
    first = await prepared(pair, tmp_path)
    request = tenancy_service_pb2.RotateApiKeyRequest(environment_id=first.environment_id)
    rotated = await pair.admin.call(pair.admin.tenancy.RotateApiKey, request)
    with pytest.raises(EmbeddedServerError, match="is not accepted any more: write the new one there, or delete"):
        await prepared(pair, tmp_path)
    (tmp_path / "api-key").write_text(rotated.api_key + "\n")
    assert (await prepared(pair, tmp_path)).api_key == rotated.api_key
    (tmp_path / "api-key").unlink()
    another = await prepared(pair, tmp_path)
    assert another.api_key not in {first.api_key, rotated.api_key}


async def test_environment_that_is_gone_is_made_anew_with_a_token_of_its_own(pair: Pair, tmp_path: Path) -> None:
    first = await prepared(pair, tmp_path)
    state = json.loads((tmp_path / "development.json").read_text())
    state["environment_id"] = "01900000-0000-7000-8000-000000000000"
    (tmp_path / "development.json").write_text(json.dumps(state))
    second = await prepared(pair, tmp_path)
    assert second.organization_id != first.organization_id
    client = pair.client(second.service_token)
    request = endpoint_service_pb2.ListEndpointsRequest(environment_id=second.environment_id)
    assert list((await client.call(client.endpoints.ListEndpoints, request)).endpoints) == []
