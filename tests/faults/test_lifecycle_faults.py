"""What callers see while servers come and go, and while callers themselves behave badly."""

from __future__ import annotations

import asyncio
import resource
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from kongflow.v1 import (
    endpoint_service_pb2,
    endpoint_service_pb2_grpc,
    queue_service_pb2,
    queue_service_pb2_grpc,
)

from tests.support.eventually import eventually
from tests.support.fault_scene import new_scene
from tests.support.processes import published_channel
from tests.support.rpc import refusal_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.support.fault_scene import Scene
    from tests.support.fault_stack import FaultStack
    from tests.support.pair import Tenant
    from tests.support.rpc import Refusal

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("lifecycle")]

SERVICES = ("", "kongflow.v1.EndpointService", "kongflow.v1.EventService", "kongflow.v1.WorkerService")
PATIENCE = timedelta(seconds=10)
CALLERS = 8
WATCHERS = 500
WATCHERS_PER_TENANT = 100
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def bearer(token: str) -> tuple[tuple[str, str]]:
    return (("authorization", f"Bearer {token}"),)


async def statuses(pair: Any) -> set[int]:
    health = health_pb2_grpc.HealthStub(pair.channel)
    return {(await health.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)).status for name in SERVICES}


async def test_health_of_every_service_follows_the_database_and_liveness_does_not(stack: FaultStack) -> None:
    assert await statuses(stack.pairs[0]) == {SERVING}

    stack.to_postgres.refuse()

    async def has_flipped() -> bool:
        return await statuses(stack.pairs[0]) == {NOT_SERVING} and await stack.servers[0].http_status("/readyz") == 503

    await eventually(has_flipped, within=PATIENCE)
    assert await stack.servers[0].http_status("/healthz") == 200

    stack.to_postgres.heal()

    async def has_come_back() -> bool:
        return await statuses(stack.pairs[0]) == {SERVING} and await stack.servers[0].http_status("/readyz") == 200

    await eventually(has_come_back, within=PATIENCE)


async def test_rolling_restart_fails_no_idempotent_call(stack: FaultStack) -> None:
    tenant = await stack.new_tenant()
    done, failed = 0, []
    is_over = asyncio.Event()
    async with published_channel(pair.listening.grpc_port for pair in stack.pairs) as channel:
        stub: Any = endpoint_service_pb2_grpc.EndpointServiceStub(channel)
        request = endpoint_service_pb2.ListEndpointsRequest(environment_id=tenant.environment_id)

        async def call_until_over() -> None:
            nonlocal done
            while not is_over.is_set():
                try:
                    await stub.ListEndpoints(request, timeout=10, metadata=bearer(tenant.api_key))
                    done += 1
                except grpc.aio.AioRpcError as error:
                    failed.append((error.code(), error.details()))

        callers = [asyncio.create_task(call_until_over()) for _ in range(CALLERS)]
        for process in (*stack.servers, *stack.workers):
            assert await process.terminate() == 0
            await process.start()
        is_over.set()
        await asyncio.gather(*callers)

    assert failed[:3] == []
    assert done > 200


async def test_a_call_to_a_server_that_stops_is_refused_and_told_why(stack: FaultStack) -> None:
    """By a caller who repeats nothing and looks at no health."""
    tenant = await stack.new_tenant()
    client = stack.pairs[0].client(tenant.api_key)
    request = endpoint_service_pb2.ListEndpointsRequest(environment_id=tenant.environment_id)

    async def call_until_refused() -> None:
        while True:
            await client.call(client.endpoints.ListEndpoints, request, timeout=10)

    calling = asyncio.create_task(call_until_refused())
    assert await stack.servers[0].terminate() == 0
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await calling

    refusal = refusal_of(refused.value)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
    assert "google.rpc.RetryInfo" in refusal.details


@asynccontextmanager
async def watching(tenants: list[Tenant], target: str) -> AsyncIterator[list[Any]]:
    """Hold as many watches as tenants may open, each tenant's on a connection of its own, all answered once."""
    async with AsyncExitStack() as channels:
        watches = []
        for tenant in tenants:
            channel = await channels.enter_async_context(
                grpc.aio.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)])
            )
            stub: Any = queue_service_pb2_grpc.QueueServiceStub(channel)
            request = queue_service_pb2.WatchQueueStatsRequest(environment_id=tenant.environment_id)
            watches += [
                stub.WatchQueueStats(request, metadata=bearer(tenant.service_token)) for _ in range(WATCHERS_PER_TENANT)
            ]
        for answer in await asyncio.gather(*(watch.read() for watch in watches)):
            assert answer is not grpc.aio.EOF
        yield watches


async def test_watchers_that_vanish_give_their_places_back_within_seconds(stack: FaultStack) -> None:
    tenants = [await stack.new_tenant() for _ in range(WATCHERS // WATCHERS_PER_TENANT)]
    proxied = f"127.0.0.1:{stack.to_servers[0].port}"
    direct = f"127.0.0.1:{stack.pairs[0].listening.grpc_port}"

    async with watching(tenants, proxied) as watches:
        assert len(watches) == WATCHERS
        stack.to_servers[0].refuse()

        async def everybody_has_room_again() -> bool:
            try:
                async with watching(tenants, direct):
                    return True
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
                return False

        await eventually(everybody_has_room_again, within=timedelta(seconds=5))


async def test_pings_too_often_end_that_connection_and_nothing_else(stack: FaultStack) -> None:
    pid = stack.servers[0].pid
    reader, writer = await asyncio.open_connection("127.0.0.1", stack.pairs[0].listening.grpc_port)
    settings, ping = b"\x00\x00\x00\x04" + bytes(5), b"\x00\x00\x08\x06" + bytes(5 + 8)
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + ping * 50)
    async with asyncio.timeout(10):
        told = await reader.read()
    writer.close()

    assert b"too_many_pings" in told
    assert stack.servers[0].pid == pid
    assert await statuses(stack.pairs[0]) == {SERVING}


async def test_a_server_without_file_descriptors_says_so_and_goes_on(stack: FaultStack) -> None:
    scene = await new_scene(stack)
    server, other = stack.servers
    await other.kill()
    # Who lost a connection in another test gets it back, but not when there is none to be had.
    await eventually(lambda: stack.to_servers[0].connections == len(stack.workers), within=PATIENCE)
    # A message that the killed server's connection took with it is rung again, which takes seven seconds.
    await scene.is_done((await scene.ask()).queue_job_id)
    async with without_descriptors(server.pid, stack.pairs[0].listening.grpc_port):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await ping(scene)
        asked = await scene.ask()
        await eventually(lambda: is_put_off(scene, asked.queue_job_id), within=PATIENCE)
        with pytest.raises(grpc.aio.AioRpcError):
            await health_over_a_new_connection(stack, within=timedelta(seconds=1))
        # Who was connected before is still answered.
        assert await statuses(stack.pairs[0]) == {SERVING}
        assert server.is_running

    refusal = refusal_of(refused.value)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    assert "file descriptors" in refusal.message
    assert "google.rpc.RetryInfo" in refusal.details
    assert (await ping(scene)).ok
    await scene.is_done(asked.queue_job_id)
    assert (await scene.queue_job(asked.queue_job_id))["attempt"] == 1
    assert await health_over_a_new_connection(stack, within=PATIENCE) == SERVING


async def test_a_server_without_memory_says_so_and_goes_on(stack: FaultStack) -> None:
    scene = await new_scene(stack)
    server, other = stack.servers
    await other.kill()
    with without_memory(server.pid):
        await eventually(lambda: refused_ping(scene), within=PATIENCE)
        refusal = await refused_ping(scene)
        assert await statuses(stack.pairs[0]) == {SERVING}
    assert refusal is not None
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    assert "memory" in refusal.message
    assert "google.rpc.RetryInfo" in refusal.details

    async def is_answered() -> bool:
        return await refused_ping(scene) is None

    await eventually(is_answered, within=PATIENCE)
    asked = await scene.ask()
    await scene.is_done(asked.queue_job_id)
    assert (await scene.queue_job(asked.queue_job_id))["attempt"] == 1


@contextmanager
def without_memory(pid: int) -> Iterator[None]:
    """Limit the address space of a process to a little more than it has."""
    size = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.prlimit(pid, resource.RLIMIT_AS)
    resource.prlimit(pid, resource.RLIMIT_AS, (size * 21 // 20, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_AS, (soft, hard))


async def refused_ping(scene: Scene) -> Refusal | None:
    try:
        assert (await ping(scene)).ok
    except grpc.aio.AioRpcError as error:
        return refusal_of(error)
    return None


@asynccontextmanager
async def without_descriptors(pid: int, port: int) -> AsyncIterator[None]:
    """Let a process open nothing more: its limit is low, and connections that say nothing fill what is left."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    opened: list[asyncio.StreamWriter] = []
    try:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (64, hard))
        for _ in range(100):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            opened.append(writer)
        yield
    finally:
        for writer in opened:
            writer.close()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


async def ping(scene: Scene) -> Any:
    client = scene.stack.pairs[0].client(scene.tenant.api_key)
    request = endpoint_service_pb2.PingEndpointRequest(endpoint_id=scene.endpoint_id)
    return await client.call(client.endpoints.PingEndpoint, request, timeout=10)


async def is_put_off(scene: Scene, queue_job_id: str) -> bool:
    return "SERVER_OVERLOADED" in (await scene.queue_job(queue_job_id))["errors"]


async def health_over_a_new_connection(stack: FaultStack, *, within: timedelta) -> int:
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(stack.pairs[0].grpc_target, options=options) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=within.total_seconds(), wait_for_ready=True)
        return int(answer.status)
