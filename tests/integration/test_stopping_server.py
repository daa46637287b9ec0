"""What a server leaves behind that stops: a call to another one, and streams that nobody ends."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.support.eventually import eventually
from tests.support.fake_endpoint import FakeEndpoint, hang, on
from tests.support.pair import ADMIN_TOKEN, running_pair

if TYPE_CHECKING:
    import asyncpg


async def test_call_that_outlasts_the_drain_is_no_failure_of_its_endpoint(
    database_url: str, redis_url: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    async with FakeEndpoint(behaviour=on("INDEX_ENDPOINT", hang)) as endpoint:
        async with running_pair(database_url=database_url, redis_url=redis_url, drain_timeout_seconds=0) as pair:
            tenant = await pair.new_tenant()
            endpoint.api_key = tenant.api_key
            await pair.client(tenant.api_key).create_endpoint(tenant, endpoint.url)
            await eventually(lambda: endpoint.calls("INDEX_ENDPOINT"))
        (queue_job,) = await connection.fetch("SELECT state, errors FROM queue_jobs WHERE kind = 'indexEndpoint'")

    assert (queue_job["state"], queue_job["errors"]) == ("RUNNING", "[]")


async def test_stream_that_its_caller_leaves_open_does_not_hold_up_the_end(database_url: str, redis_url: str) -> None:
    async with AsyncExitStack() as stack:
        async with running_pair(
            database_url=database_url, redis_url=redis_url, workers=0, drain_timeout_seconds=20
        ) as pair:
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(pair.grpc_target))
            reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
            stream = reflection.ServerReflectionInfo(metadata=[("authorization", f"Bearer {ADMIN_TOKEN}")])
            await stream.write(reflection_pb2.ServerReflectionRequest(list_services=""))
            await stream.read()
            began = time.monotonic()
        took = time.monotonic() - began

    assert took < 15
