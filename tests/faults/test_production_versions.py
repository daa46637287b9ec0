"""Workers and servers of different releases: each speaks its own contract, and the work gets done."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from services.worker.app import run as run_worker
from services.worker.settings import load_settings
from tests.support.fake_endpoint import FakeEndpoint, index_of
from tests.support.pair import running_pair, state_name
from tests.support.processes import ROOT
from tests.support.rpc import refusal_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.support.pair import Pair

    Bytes = Callable[[bytes], bytes]

pytestmark = pytest.mark.bounded

METHOD = "/kongflow.v1.WorkerService/RunQueueJobs"
RELEASED = ROOT / "protos/released.binpb"
JOBS = 3
PATIENCE = timedelta(seconds=20)
LATER_OUTCOME = 99

# Field 1000 with a text in it, and outcome (field 1) with a number that no release has: the last one counts.
LATER_FIELD = b"\xc2\x3e\x05later"
LATER_RUN_OUTCOME = bytes((1 << 3, LATER_OUTCOME))


def released(message: str) -> Bytes:
    """Return what becomes of a message's bytes in a program of the released contract: what it does not know is lost."""
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(RELEASED.read_bytes()).file:
        pool.Add(file)
    known: Any = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"kongflow.v1.{message}"))

    def through(raw: bytes) -> bytes:
        read = known.FromString(raw)
        read.DiscardUnknownFields()
        return bytes(read.SerializeToString())

    return through


def as_it_is(raw: bytes) -> bytes:
    return raw


@dataclass(frozen=True)
class Other:
    """What the other release makes of requests and answers on their way."""

    request: Bytes
    answer: Bytes


OTHERS = {
    "worker of the released contract": Other(released("RunQueueJobsRequest"), released("RunQueueJobsResponse")),
    "worker of a later contract": Other(lambda raw: raw + LATER_FIELD, as_it_is),
    "server that answers without a field": Other(released("RunQueueJobsRequest"), lambda _: b""),
    "server of a later contract": Other(as_it_is, lambda raw: raw + LATER_FIELD + LATER_RUN_OUTCOME),
}


class Between(grpc.GenericRpcHandler):
    """Stands between a worker and a server; `calls` counts what passed."""

    def __init__(self, channel: grpc.aio.Channel, other: Other) -> None:
        self.calls = 0
        self._forward: Any = channel.unary_unary(METHOD)
        self._other = other

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        if handler_call_details.method != METHOD:
            return None
        return grpc.unary_unary_rpc_method_handler(self._pass_on)

    async def _pass_on(self, raw: bytes, context: Any) -> bytes:
        metadata = [pair for pair in context.invocation_metadata() if pair[0] == "authorization"]
        try:
            answer = await self._forward(self._other.request(raw), metadata=metadata, timeout=context.time_remaining())
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details())
        self.calls += 1
        return self._other.answer(answer)


@asynccontextmanager
async def worker_behind(pair: Pair, other: Other) -> AsyncIterator[Between]:
    """Run a worker whose calls pass through the other release."""
    between = Between(pair.channel, other)
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    server.add_generic_rpc_handlers((between,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    settings = load_settings(
        redis_url=pair.redis_url, grpc_target=f"127.0.0.1:{port}", worker_token=await pair.new_worker_token()
    )
    stop = asyncio.Event()
    running = asyncio.create_task(run_worker(settings, stop))
    try:
        yield between
    finally:
        stop.set()
        await running
        await server.stop(None)


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS.keys())
async def test_work_is_done_between_a_worker_and_a_server_of_different_releases(
    database_url: str, redis_url: str, other: Other
) -> None:
    async with (
        running_pair(database_url=database_url, redis_url=redis_url, workers=0) as pair,
        worker_behind(pair, other) as between,
        FakeEndpoint(index=index_of(JOBS)) as endpoint,
    ):
        tenant = await pair.new_tenant()
        endpoint.api_key = tenant.api_key
        client = pair.client(tenant.api_key)
        created = await client.create_endpoint(tenant, endpoint.url)
        async with asyncio.timeout(PATIENCE.total_seconds()):
            final = (await client.watch(created.index_id))[-1]
        assert state_name(final) == "SUCCEEDED"
        assert len(await client.active_jobs(tenant)) == JOBS
        assert between.calls >= 2


async def test_worker_that_serves_a_queue_of_a_later_contract_is_told_which_field_is_wrong(
    database_url: str, redis_url: str
) -> None:
    async with running_pair(database_url=database_url, redis_url=redis_url, workers=0) as pair:
        metadata = (("authorization", f"Bearer {await pair.new_worker_token()}"),)
        call: Any = pair.channel.unary_unary(METHOD)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(bytes((1 << 3, LATER_OUTCOME)) + b"\x12\x04lane", metadata=metadata)
    refusal = refusal_of(refused.value)
    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["queue"])
