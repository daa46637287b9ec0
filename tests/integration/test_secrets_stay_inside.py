"""Secrets that callers and customers hand over are in PostgreSQL or nowhere."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import grpc
import pytest
import structlog
from google.protobuf.duration_pb2 import Duration
from kongflow.v1 import endpoint_service_pb2, event_service_pb2, tenancy_service_pb2

from services.endpoints.queue.connection import open_redis
from services.endpoints.telemetry.logs import configure_logs
from tests.support.collector import Collector
from tests.support.events import new_event
from tests.support.eventually import eventually
from tests.support.fake_endpoint import EMPTY_INDEX, FakeEndpoint, event_job, on, status
from tests.support.pair import ADMIN_TOKEN, LOOKUP_PEPPER, SECRET_KEYS, running_pair

if TYPE_CHECKING:
    from collections.abc import Iterator

    import asyncpg

    from tests.support.pair import Pair

QUERY = "planted-query-1f0c"
PAYLOAD = "planted-payload-2a9b"
CONTEXT = "planted-context-3d77"
HOOK = "pz4ntedh0k"
TOKEN = "kf_planted_token_5b22" + "b" * 30


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """Return what is logged, as in production but with every level."""
    before = structlog.get_config()
    configure_logs(level="debug", log_format="json")
    written = io.StringIO()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(written))
    yield written
    structlog.configure(**before)


async def redis_dump(redis_url: str) -> str:
    redis = open_redis(redis_url)
    try:
        return "".join([f"{key!r} {await redis.dump(key)!r}" for key in await redis.keys("*")])
    finally:
        await redis.aclose()


async def rotated(pair: Pair, environment_id: str) -> tuple[str, str]:
    """Replace an environment's API key and signing secret with an overlap; return the new ones."""
    key = tenancy_service_pb2.RotateApiKeyRequest(environment_id=environment_id, overlap=Duration(seconds=3600))
    secret = tenancy_service_pb2.RotateSigningSecretRequest(environment_id=environment_id)
    return (
        (await pair.admin.call(pair.admin.tenancy.RotateApiKey, key)).api_key,
        (await pair.admin.call(pair.admin.tenancy.RotateSigningSecret, secret)).signing_secret,
    )


async def test_planted_secrets_are_in_no_log_error_message_metric_or_trace(
    database_url: str,
    redis_url: str,
    connection: asyncpg.Connection[asyncpg.Record],
    lines: io.StringIO,
) -> None:
    errors: list[str] = []
    dumps: list[str] = []

    async def refused(call: grpc.aio.UnaryUnaryCall[Any, Any]) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call
        errors.append(f"{raised.value.details()} {raised.value.trailing_metadata()} {raised.value.initial_metadata()}")

    async def runs() -> int:
        return int(await connection.fetchval("SELECT count(*) FROM job_runs"))

    async with (
        Collector() as collector,
        running_pair(
            database_url=database_url,
            redis_url=redis_url,
            metrics_address="127.0.0.1:0",
            traces_endpoint=collector.url,
            traces_ratio=1.0,
        ) as pair,
    ):
        tenant = await pair.new_tenant()
        # The endpoint keeps the old key, so that every call to it is made with both.
        newer_key, signing_secret = await rotated(pair, tenant.environment_id)
        client = pair.client(newer_key)
        index = {**EMPTY_INDEX, "jobs": [event_job("welcome")]}
        async with FakeEndpoint(api_key=tenant.api_key, index=index) as endpoint:
            url = f"{endpoint.url}?token={QUERY}"
            created = await client.create_endpoint(tenant, url)
            await client.watch(created.index_id)
            upsert = endpoint_service_pb2.UpsertEndpointRequest(
                environment_id=tenant.environment_id, slug="second", url=url, indexing_hook_identifier=HOOK
            )
            await client.call(client.endpoints.UpsertEndpoint, upsert)
            event = new_event(
                "thing.happened",
                payload_json=json.dumps({"secret": PAYLOAD}),
                context_json=json.dumps({"secret": CONTEXT}),
                event_id="once",
            )
            await client.call(client.events.SendEvent, event_service_pb2.SendEventRequest(event=event))
            await eventually(runs)
            other = new_event("thing.happened", payload_json=json.dumps([PAYLOAD]), event_id="once")
            await refused(
                client.events.SendEvent(event_service_pb2.SendEventRequest(event=other), metadata=client.metadata)
            )
            endpoint.behaviour = on("INDEX_ENDPOINT", status(400))
            failed = await client.index(created.endpoint.id, force=True)
            await client.watch(failed.index.id)
            endpoint.behaviour = on("PING", status(500))
            create = endpoint_service_pb2.CreateEndpointRequest(
                environment_id=tenant.environment_id, slug="third", url=url
            )
            await refused(client.endpoints.CreateEndpoint(create, metadata=client.metadata))
        stranger = pair.client(TOKEN)
        await refused(stranger.endpoints.CreateEndpoint(create, metadata=stranger.metadata))
        async with aiohttp.ClientSession() as http:
            async with http.get(f"http://127.0.0.1:{pair.listening.metrics_port}/metrics") as response:
                metrics = await response.text()
            hook = f"http://127.0.0.1:{pair.listening.http_port}/api/v1/endpointIndexHook/{HOOK}"
            async with http.post(hook) as response:
                errors.append(await response.text())
        dumps.append(await redis_dump(redis_url))
    log = lines.getvalue()
    places = {
        "log": log,
        "errors": "\n".join(errors),
        "redis": "\n".join(dumps),
        "metrics": metrics,
        "traces": collector.received.decode("utf-8", errors="replace"),
    }
    assert '"operation": "CreateEndpoint"' in log
    assert '"request_id"' in log
    assert '"trace_id"' in log
    assert "kongflow_rpc_seconds" in metrics
    assert "indexEndpoint" in places["traces"]
    assert len(errors) == 4
    secrets = {
        "api key": newer_key,
        "previous api key": tenant.api_key,
        "signing secret": signing_secret.removeprefix("whsec_"),
        "service token": tenant.service_token,
        "admin token": ADMIN_TOKEN,
        "unknown token": TOKEN,
        "query": QUERY,
        "payload": PAYLOAD,
        "context": CONTEXT,
        "hook": HOOK,
        "secret keys": SECRET_KEYS,
        "pepper": LOOKUP_PEPPER,
    }
    found = [(name, place) for name, secret in secrets.items() for place, text in places.items() if secret in text]
    assert found == []
