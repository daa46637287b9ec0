"""The worker between a real Redis and a real gRPC server, both of which come and go."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import socket
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import grpc
import msgpack
import pytest
from arq.constants import job_key_prefix
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from structlog.testing import capture_logs

from services.configuration.values import parse_address
from services.endpoints.queue.connection import open_redis
from services.endpoints.queue.publisher import ArqPublisher
from services.worker.app import run
from services.worker.health import GrpcHealthServer
from services.worker.message import MAX_MESSAGE_BYTES, queue_key, set_aside_key
from services.worker.settings import WorkerSettings, load_settings
from tests.support.deaf_watcher import deaf_watcher
from tests.support.eventually import eventually
from tests.support.machine_time import machine_time
from tests.support.proxy import TcpProxy
from tests.support.redis_process import RedisProcess
from tests.support.worker_service import FakeWorkerService

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


ROOT = Path(__file__).parents[2]
TOKEN = "kfw_test"


@pytest.fixture
async def redis_process() -> AsyncIterator[RedisProcess]:
    process = RedisProcess()
    await process.start()
    yield process
    await process.kill()


@pytest.fixture
async def redis_client(redis_process: RedisProcess) -> AsyncIterator[Any]:
    client = open_redis(redis_process.url)
    yield client
    await client.aclose()


@pytest.fixture
def publisher(redis_client: Any) -> ArqPublisher:
    return ArqPublisher(redis=redis_client)


@pytest.fixture
async def server() -> AsyncIterator[FakeWorkerService]:
    service = FakeWorkerService()
    await service.start()
    yield service
    await service.stop()


@pytest.fixture
async def two_servers() -> AsyncIterator[tuple[FakeWorkerService, FakeWorkerService]]:
    """Two servers that say by health how they are."""
    servers = FakeWorkerService(), FakeWorkerService()
    for service in servers:
        await service.say(is_serving=True)
        await service.start()
    yield servers
    for service in servers:
        await service.stop()


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    with capture_logs() as lines:
        yield lines


def _settings(redis_process: RedisProcess, server: FakeWorkerService, **changes: Any) -> WorkerSettings:
    given = {
        "redis_url": redis_process.url,
        "grpc_target": server.target,
        "worker_token": TOKEN,
        "worker_queues": "default:10",
    }
    return load_settings(**{**given, **changes})


@asynccontextmanager
async def _worker(settings: WorkerSettings) -> AsyncIterator[asyncio.Event]:
    stop = asyncio.Event()
    running = asyncio.create_task(run(settings, stop))
    try:
        yield stop
    finally:
        stop.set()
        await running


async def _called(server: FakeWorkerService, count: int, *, within: timedelta = timedelta(seconds=10)) -> None:
    await eventually(lambda: len(server.calls) >= count, within=within)


async def _put(redis_client: Any, body: bytes, *, job_id: str = "forged", queue: str = "default") -> None:
    await redis_client.set(job_key_prefix + job_id, body)
    await redis_client.zadd(queue_key(queue), {job_id: 1})


def _job(**changes: Any) -> bytes:
    job: dict[str, Any] = {
        "t": None,
        "f": "run_queue_jobs",
        "a": [1, "default", ["lane"]],
        "k": {},
        "et": 1_700_000_000_000,
    }
    packed: bytes = msgpack.packb({**job, **changes})
    return packed


class _Forged:
    """Unpickling it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self._folder),))


async def test_each_message_is_called_back_once(
    redis_process: RedisProcess, redis_client: Any, publisher: ArqPublisher, server: FakeWorkerService
) -> None:
    settings = _settings(redis_process, server, worker_queues="default:4,execution:4")
    await publisher.publish("default", [[f"endpoint-{number}", "maintenance"] for number in range(30)])
    async with _worker(settings):
        await publisher.publish("execution", [[f"endpoint-{number}"] for number in range(30)])
        await _called(server, 60)
    seen = [(call.queue, call.lanes) for call in server.calls]
    assert sorted(seen) == sorted(
        [("default", (f"endpoint-{number}", "maintenance")) for number in range(30)]
        + [("execution", (f"endpoint-{number}",)) for number in range(30)]
    )
    assert await redis_client.keys("*") == []


async def test_call_carries_token_and_deadline(
    redis_process: RedisProcess, publisher: ArqPublisher, server: FakeWorkerService
) -> None:
    await publisher.publish("default", [["endpoint-1"]])
    async with _worker(_settings(redis_process, server, worker_call_timeout_seconds=20)):
        await _called(server, 1)
    (call,) = server.calls
    assert call.authorization == f"Bearer {TOKEN}"
    assert call.seconds_left is not None
    assert 10 < call.seconds_left < 21


async def test_doubled_messages_are_called_back_each_time(
    redis_process: RedisProcess, publisher: ArqPublisher, server: FakeWorkerService
) -> None:
    await publisher.publish("default", [["endpoint-1"]] * 100)
    async with _worker(_settings(redis_process, server)):
        await _called(server, 100)
    assert server.lanes == ["endpoint-1"] * 100


async def test_pickle_is_set_aside_and_never_run(
    redis_process: RedisProcess, redis_client: Any, publisher: ArqPublisher, server: FakeWorkerService, tmp_path: Path
) -> None:
    folder = tmp_path / "made-by-pickle"
    forged = pickle.dumps({"t": 1, "f": "run_queue_jobs", "a": _Forged(folder), "k": {}, "et": 1})
    await _put(redis_client, forged)
    await publisher.publish("default", [["endpoint-1"]])
    async with _worker(_settings(redis_process, server)):
        await _called(server, 1)
        assert await redis_client.lrange(set_aside_key("default"), 0, -1) == [forged]
    assert server.lanes == ["endpoint-1"]
    assert not folder.exists()
    pickle.loads(forged)  # noqa: S301 - shows that the forgery would have worked
    assert folder.exists()


@dataclass
class _Setting:
    redis_process: RedisProcess
    redis_client: Any
    publisher: ArqPublisher
    server: FakeWorkerService


@pytest.fixture
def setting(
    redis_process: RedisProcess, redis_client: Any, publisher: ArqPublisher, server: FakeWorkerService
) -> _Setting:
    return _Setting(redis_process, redis_client, publisher, server)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (_job(a=[2, {"anything": "else"}]), "newer"),
        (_job(a=[1, "execution", ["lane"]]), "unreadable"),
        (_job(f="other"), "unreadable"),
        (b"\xff", "unreadable"),
    ],
    ids=["newer", "of another queue", "other function", "no msgpack"],
)
async def test_unreadable_message_is_set_aside_and_counted(
    setting: _Setting, logs: list[Any], body: bytes, reason: str
) -> None:
    await _put(setting.redis_client, body)
    await setting.publisher.publish("default", [["endpoint-1"]])
    async with _worker(_settings(setting.redis_process, setting.server, worker_health_address="127.0.0.1:0")):
        await _called(setting.server, 1)
        metrics = await _get(logs, "/metrics")
        assert await setting.redis_client.lrange(set_aside_key("default"), 0, -1) == [body]
    assert setting.server.lanes == ["endpoint-1"]
    assert f'kongflow_worker_messages_set_aside_total{{queue="default",reason="{reason}"}} 1.0' in metrics


async def test_oversized_message_is_set_aside_by_its_head(
    redis_process: RedisProcess, redis_client: Any, publisher: ArqPublisher, server: FakeWorkerService
) -> None:
    await _put(redis_client, b"x" * 10_000_000)
    await publisher.publish("default", [["endpoint-1"]])
    async with _worker(_settings(redis_process, server)):
        await _called(server, 1)
        assert await redis_client.lrange(set_aside_key("default"), 0, -1) == [b"x" * (MAX_MESSAGE_BYTES + 1)]


async def test_list_of_what_was_set_aside_is_capped(
    redis_process: RedisProcess, redis_client: Any, publisher: ArqPublisher, server: FakeWorkerService
) -> None:
    await redis_client.rpush(set_aside_key("default"), *([b"old"] * 1000))
    await _put(redis_client, b"new")
    await publisher.publish("default", [["endpoint-1"]])
    async with _worker(_settings(redis_process, server)):
        await _called(server, 1)
        assert await redis_client.lrange(set_aside_key("default"), 0, -1) == [b"new"] + [b"old"] * 999


async def test_message_whose_id_names_its_lane_runs_without_being_read(
    redis_process: RedisProcess, redis_client: Any, server: FakeWorkerService
) -> None:
    named, bare, longest = "1-1:endpoint-ä:b", "1-2", "x" * 200
    await _put(redis_client, b"of another world", job_id=named)
    await _put(redis_client, _job(a=[1, "default", ["read"]]), job_id=bare)
    await redis_client.zadd(queue_key("default"), {f"1-3:{longest}": 3})
    async with _worker(_settings(redis_process, server)):
        await _called(server, 3)
    assert sorted(server.lanes) == sorted(["endpoint-ä:b", "read", longest])
    assert await redis_client.exists(job_key_prefix + named, job_key_prefix + bare) == 0
    assert await redis_client.llen(set_aside_key("default")) == 0


@pytest.mark.parametrize("job_id", [b"1-1:", b"1-1:\xff", b"1-1:" + b"x" * 201])
async def test_message_whose_id_names_no_lane_is_read(
    redis_process: RedisProcess, redis_client: Any, server: FakeWorkerService, job_id: bytes
) -> None:
    await redis_client.set(job_key_prefix.encode() + job_id, _job(a=[1, "default", ["read"]]))
    await redis_client.zadd(queue_key("default"), {job_id: 1})
    async with _worker(_settings(redis_process, server)):
        await _called(server, 1)
    assert server.lanes == ["read"]


async def test_message_without_a_text_and_key_of_another_type_harm_nobody(
    redis_process: RedisProcess, redis_client: Any, publisher: ArqPublisher, server: FakeWorkerService
) -> None:
    await redis_client.zadd(queue_key("default"), {"gone": 1, "list": 2, b"\xff\xfe": 3})
    await redis_client.rpush(job_key_prefix + "list", "value")
    await publisher.publish("default", [["endpoint-1"]])
    async with _worker(_settings(redis_process, server)):
        await _called(server, 1)
    assert await redis_client.llen(set_aside_key("default")) == 1


async def test_no_more_calls_at_once_than_the_queue_allows(
    redis_process: RedisProcess, publisher: ArqPublisher, server: FakeWorkerService
) -> None:
    server.is_open.clear()
    async with _worker(_settings(redis_process, server, worker_queues="default:3")):
        await publisher.publish("default", [[f"endpoint-{number}"] for number in range(10)])
        await eventually(lambda: server.in_flight == 3)
        assert await publisher.waiting("default") == 7
        server.is_open.set()
        await _called(server, 10)
    assert server.most_in_flight == 3
    assert server.finished == 10


async def test_consumer_outlives_a_redis_killed_and_started_empty(
    redis_process: RedisProcess, publisher: ArqPublisher, server: FakeWorkerService, logs: list[Any]
) -> None:
    async with _worker(_settings(redis_process, server)):
        await publisher.publish("default", [["before"]])
        await _called(server, 1)
        await redis_process.kill()
        await eventually(lambda: _events(logs, "redis_away") == 1)
        await redis_process.start()
        await publisher.publish("default", [["after"]])
        await _called(server, 2)
    assert server.lanes == ["before", "after"]
    assert _events(logs, "redis_away") == 1
    assert _events(logs, "popping") == 2


@pytest.mark.parametrize(
    "commands",
    [
        pytest.param(("ACL SETUSER default -bzpopmin", "ACL SETUSER default +@all"), id="NOPERM"),
        pytest.param(("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0"), id="NOREPLICAS"),
    ],
)
async def test_redis_that_refuses_every_pop_is_one_outage(
    commands: tuple[str, str],
    redis_process: RedisProcess,
    redis_client: Any,
    server: FakeWorkerService,
    logs: list[Any],
) -> None:
    async def refused_often() -> bool:
        statistics = await redis_client.info("commandstats")
        return bool(statistics.get("cmdstat_bzpopmin", {}).get("rejected_calls", 0) >= 4)

    refuse, allow = commands
    await redis_client.execute_command(*refuse.split())
    async with _worker(_settings(redis_process, server)):
        await eventually(refused_often)
        assert _events(logs, "redis_away") == 1
        await redis_client.execute_command(*allow.split())
        await ArqPublisher(redis=redis_client).publish("default", [["lane"]])
        await _called(server, 1)
    assert _events(logs, "redis_away") == _events(logs, "popping") == 1


async def test_consumer_leaves_a_redis_that_became_a_replica(
    redis_process: RedisProcess, redis_client: Any, server: FakeWorkerService, logs: list[Any]
) -> None:
    """No pop is under way then, and Redis hangs up on nobody else."""
    primary = RedisProcess()
    async with TcpProxy(upstream_port=redis_process.port) as proxy, AsyncExitStack() as stack:
        stack.push_async_callback(primary.kill)
        await primary.start()
        await server.stop()
        async with _worker(_settings(redis_process, server, redis_url=f"redis://127.0.0.1:{proxy.port}/0")):
            await eventually(lambda: _events(logs, "server_away") and proxy.connections)
            await redis_client.replicaof("127.0.0.1", str(primary.port))
            proxy.upstream_port = primary.port
            await server.start()
            client = await stack.enter_async_context(open_redis(primary.url))
            await ArqPublisher(redis=client).publish("default", [["lane"]])
            await _called(server, 1)
    assert _events(logs, "redis_away") == _events(logs, "popping") == 1


async def test_call_under_way_survives_the_loss_of_redis(
    redis_process: RedisProcess, publisher: ArqPublisher, server: FakeWorkerService
) -> None:
    server.is_open.clear()
    async with _worker(_settings(redis_process, server)):
        await publisher.publish("default", [["endpoint-1"]])
        await _called(server, 1)
        await redis_process.kill()
        server.is_open.set()
        await eventually(lambda: server.finished == 1)


async def test_starts_before_redis(server: FakeWorkerService, logs: list[Any]) -> None:
    redis_process = RedisProcess()
    async with _worker(_settings(redis_process, server)):
        await eventually(lambda: _events(logs, "redis_away") == 1)
        await redis_process.start()
        client = open_redis(redis_process.url)
        await ArqPublisher(redis=client).publish("default", [["endpoint-1"]])
        await _called(server, 1)
    await client.aclose()
    await redis_process.kill()


async def test_messages_wait_in_redis_while_the_server_is_absent(
    redis_process: RedisProcess, publisher: ArqPublisher, server: FakeWorkerService, logs: list[Any]
) -> None:
    await server.stop()
    await publisher.publish("default", [["endpoint-1"], ["endpoint-2"]])
    async with _worker(_settings(redis_process, server)):
        await eventually(lambda: _events(logs, "server_away") == 1)
        assert await publisher.waiting("default") == 2
        await server.start()
        await _called(server, 2)
    assert sorted(server.lanes) == ["endpoint-1", "endpoint-2"]
    assert _events(logs, "server_away") == 1


async def test_worker_finds_a_server_that_came_back(
    redis_process: RedisProcess, publisher: ArqPublisher, server: FakeWorkerService
) -> None:
    async with _worker(_settings(redis_process, server)):
        await publisher.publish("default", [["before"]])
        await _called(server, 1)
        await server.stop()
        await server.start()

        async def lane_rung_anew_is_answered() -> bool:
            await publisher.publish("default", [["after"]])
            return len(server.calls) > 1

        await eventually(lane_rung_anew_is_answered)
    assert server.lanes[0] == "before"
    assert set(server.lanes[1:]) == {"after"}


async def test_server_that_does_not_serve_is_passed_over_until_it_serves(
    redis_process: RedisProcess, publisher: ArqPublisher, two_servers: tuple[FakeWorkerService, FakeWorkerService]
) -> None:
    ill, well = two_servers

    async def calls_of_next(count: int) -> tuple[int, int]:
        before = len(ill.calls), len(well.calls)
        await publisher.publish("default", [["lane"]] * count)
        await eventually(lambda: len(ill.calls) + len(well.calls) == sum(before) + count)
        return len(ill.calls) - before[0], len(well.calls) - before[1]

    async def both_are_called() -> bool:
        return min(await calls_of_next(10)) > 0

    async def one_is_passed_over() -> bool:
        return await calls_of_next(10) == (0, 10)

    async with _worker(_settings(redis_process, ill, grpc_target=_target_of(two_servers))):
        await eventually(both_are_called)
        await ill.say(is_serving=False)
        await eventually(one_is_passed_over)
        assert await calls_of_next(20) == (0, 20)
        await ill.say(is_serving=True)
        await eventually(both_are_called)


async def test_messages_wait_in_redis_while_no_server_serves(
    redis_process: RedisProcess,
    publisher: ArqPublisher,
    two_servers: tuple[FakeWorkerService, FakeWorkerService],
    logs: list[Any],
) -> None:
    settings = _settings(
        redis_process,
        two_servers[0],
        grpc_target=_target_of(two_servers),
        worker_queues="default:1",
        worker_health_address="127.0.0.1:0",
    )
    async with _worker(settings):
        await eventually(lambda: _events(logs, "health_listening"))
        await eventually(lambda: _is_ready(logs))
        for service in two_servers:
            await service.say(is_serving=False)
        await eventually(lambda: _is_not_ready(logs, "The endpoints service is away.\n"))
        await publisher.publish("default", [["first"], ["second"], ["third"]])
        # One pop may have begun before.
        assert await publisher.waiting("default") >= 2
        calls = [len(service.calls) for service in two_servers]
        await two_servers[1].say(is_serving=True)
        await _called(two_servers[1], calls[1] + 2)
    assert len(two_servers[0].calls) == calls[0]


async def test_unavailable_server_is_not_hammered(
    redis_process: RedisProcess, publisher: ArqPublisher, server: FakeWorkerService, logs: list[Any]
) -> None:
    server.failures = [grpc.StatusCode.UNAVAILABLE] * 3
    await publisher.publish("default", [[f"endpoint-{number}"] for number in range(5)])
    async with _worker(_settings(redis_process, server, worker_queues="default:1")):
        await _called(server, 5)
    assert server.lanes == [f"endpoint-{number}" for number in range(5)]
    assert _events(logs, "server_away") == 1
    assert _events(logs, "server_answers") == 2


@pytest.mark.parametrize("status", ["UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED"])
async def test_worker_that_is_refused_is_not_ready_and_leaves_messages_in_redis(
    redis_process: RedisProcess, publisher: ArqPublisher, server: FakeWorkerService, logs: list[Any], status: str
) -> None:
    refused = f"The endpoints service refuses this worker: {status}.\n"
    server.refusal = grpc.StatusCode[status]
    async with _worker(_settings(redis_process, server, worker_health_address="127.0.0.1:0")):
        await eventually(lambda: _events(logs, "health_listening"))
        await eventually(lambda: _is_not_ready(logs, refused))
        await publisher.publish("default", [["lane"]])
        for _ in range(3):
            asked = server.asked
            await eventually(lambda asked=asked: server.asked > asked)  # type: ignore[misc]
            assert await _is_not_ready(logs, refused)
        assert await publisher.waiting("default") == 1
        server.refusal = None
        await _called(server, 1)
        assert await _is_ready(logs)
    assert _events(logs, "server_away") == _events(logs, "server_answers") == 1


async def test_worker_whose_token_was_revoked_is_not_ready_until_it_is_taken_again(
    redis_process: RedisProcess, publisher: ArqPublisher, server: FakeWorkerService, logs: list[Any]
) -> None:
    async with _worker(_settings(redis_process, server, worker_health_address="127.0.0.1:0")):
        await publisher.publish("default", [["before"]])
        await _called(server, 1)
        assert await _is_ready(logs)
        server.refusal = grpc.StatusCode.UNAUTHENTICATED
        await publisher.publish("default", [["refused"]])
        await eventually(lambda: _is_not_ready(logs, "The endpoints service refuses this worker: UNAUTHENTICATED.\n"))
        server.refusal = None
        await eventually(lambda: _is_ready(logs))


async def test_failed_call_is_let_go_and_the_next_message_runs(
    redis_process: RedisProcess, publisher: ArqPublisher, server: FakeWorkerService, logs: list[Any]
) -> None:
    server.failures = [grpc.StatusCode.INTERNAL]
    await publisher.publish("default", [["bad"], ["good"]])
    async with _worker(_settings(redis_process, server, worker_queues="default:1")):
        await _called(server, 2)
    assert server.lanes == ["bad", "good"]
    assert _events(logs, "call_failed") == 1
    assert _events(logs, "server_away") == 0


async def test_call_that_outlasts_the_drain_is_cancelled(
    redis_process: RedisProcess, publisher: ArqPublisher, server: FakeWorkerService, logs: list[Any]
) -> None:
    server.is_open.clear()
    await publisher.publish("default", [["endpoint-1"]])
    async with _worker(_settings(redis_process, server, worker_drain_timeout_seconds=0)):
        await _called(server, 1)
    assert [line["cancelled"] for line in logs if line["event"] == "worker_stopped"] == [1]
    await eventually(lambda: server.in_flight == 0)
    assert server.finished == 0


async def test_health_and_metrics_are_served(
    redis_process: RedisProcess, publisher: ArqPublisher, server: FakeWorkerService, logs: list[Any]
) -> None:
    await publisher.publish("default", [["endpoint-1"]])
    async with _worker(_settings(redis_process, server, worker_health_address="127.0.0.1:0")):
        await _called(server, 1)
        assert await _get(logs, "/healthz") == "ok\n"

        async def call_is_counted() -> bool:
            line = 'kongflow_worker_calls_total{outcome="DONE",queue="default"} 1.0'
            return line in await _get(logs, "/metrics")

        await eventually(call_is_counted)


async def test_readiness_follows_redis_the_server_and_the_end(
    redis_process: RedisProcess, server: FakeWorkerService, logs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # It ends as soon as the watch has been told, however slow the machine.
    monkeypatch.setattr("services.worker.health.TOLD_WITHIN", timedelta(seconds=10))
    settings = _settings(
        redis_process, server, worker_health_address="127.0.0.1:0", worker_grpc_health_address="127.0.0.1:0"
    )
    await server.stop()
    async with _worker(settings) as stop:
        await eventually(lambda: _events(logs, "grpc_health_listening"))
        assert await _get(logs, "/healthz") == "ok\n"
        await eventually(lambda: _is_not_ready(logs, "The endpoints service is away.\n"))
        (port,) = (line["port"] for line in logs if line["event"] == "grpc_health_listening")
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            seen = [(await watch.read()).status]
            await server.start()
            seen.append((await watch.read()).status)
            assert await _get(logs, "/readyz") == "ok\n"
            await redis_process.kill()
            seen.append((await watch.read()).status)
            assert await _is_not_ready(logs, "Redis is away.\n")
            await redis_process.start()
            seen.append((await watch.read()).status)
            stop.set()
            seen.append((await watch.read()).status)
            watch.cancel()
    serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    assert seen == [not_serving, serving, not_serving, serving, not_serving]


async def test_watcher_of_health_that_reads_nothing_holds_up_nobody() -> None:
    reasons: list[str | None] = ["It has just begun.", None]
    health = GrpcHealthServer(address=parse_address("127.0.0.1:0"), not_ready=lambda: reasons[0])
    port = await health.start()
    async with deaf_watcher(port), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel, asyncio.timeout(10):
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        del reasons[0]
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        await health.close()


async def test_error_inside_the_librarys_watch_is_logged_and_ends_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_arguments: object) -> None:
        raise KeyError("a defect of its own")

    monkeypatch.setattr(health.aio.HealthServicer, "Watch", fail)
    server = GrpcHealthServer(address=parse_address("127.0.0.1:0"), not_ready=lambda: None)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{await server.start()}") as channel, asyncio.timeout(10):
        with capture_logs() as logs, pytest.raises(grpc.aio.AioRpcError) as refusal:
            await health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest()).read()
        await server.close()

    assert refusal.value.code() is grpc.StatusCode.INTERNAL
    assert "its own" not in (refusal.value.details() or "")
    (line,) = (line for line in logs if line["event"] == "health_watch_failed")
    assert isinstance(line["exc_info"], KeyError)


async def test_taken_health_address_ends_the_worker(redis_process: RedisProcess, server: FakeWorkerService) -> None:
    with pytest.raises(OSError, match="gRPC cannot listen"):
        await run(
            _settings(redis_process, server, worker_grpc_health_address=f"127.0.0.1:{server.port}"), asyncio.Event()
        )


async def test_idle_worker_does_not_wait_for_its_pop_to_end(
    redis_process: RedisProcess,
    publisher: ArqPublisher,
    server: FakeWorkerService,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pop_timeout = timedelta(seconds=4)
    monkeypatch.setattr("services.worker.app.POP_TIMEOUT", pop_timeout)
    async with _worker(_settings(redis_process, server)) as stop:
        await publisher.publish("default", [["endpoint-1"]])
        await _called(server, 1)
        stop.set()
        began = machine_time()
    assert machine_time() - began < pop_timeout.total_seconds() / 2


async def test_sigterm_finishes_what_is_held_and_pops_no_more(
    redis_process: RedisProcess, publisher: ArqPublisher, server: FakeWorkerService
) -> None:
    server.is_open.clear()
    await publisher.publish("default", [["held"]])
    process = await _process(
        KONGFLOW_REDIS_URL=redis_process.url,
        KONGFLOW_GRPC_TARGET=server.target,
        KONGFLOW_WORKER_TOKEN=TOKEN,
        KONGFLOW_WORKER_QUEUES="default:10",
    )
    assert process.stderr is not None
    # It loads its modules first.
    await _called(server, 1, within=timedelta(seconds=30))
    process.send_signal(signal.SIGTERM)
    async for line in process.stderr:
        if b"worker_draining" in line:
            break
    await publisher.publish("default", [["later"]])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await process.wait()
    server.is_open.set()
    rest = await process.stderr.read()
    assert await process.wait() == 0
    assert b"worker_stopped" in rest
    assert server.lanes == ["held"]
    assert server.finished == 1
    assert await publisher.waiting("default") == 1


async def test_wrong_settings_end_the_process_and_name_all_variables() -> None:
    process = await _process(KONGFLOW_REDIS_URL="http://secret@redis", KONGFLOW_WORKER_QUEUES="default:0")
    _, text = await process.communicate()
    assert process.returncode == 2
    for variable in (b"KONGFLOW_REDIS_URL", b"KONGFLOW_WORKER_QUEUES", b"KONGFLOW_WORKER_TOKEN"):
        assert variable in text
    assert b"secret" not in text


async def test_taken_health_port_ends_the_process_with_a_sentence(
    redis_process: RedisProcess, server: FakeWorkerService
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = await _process(
            KONGFLOW_REDIS_URL=redis_process.url,
            KONGFLOW_GRPC_TARGET=server.target,
            KONGFLOW_WORKER_TOKEN=TOKEN,
            KONGFLOW_WORKER_HEALTH_ADDRESS=f"127.0.0.1:{port}",
        )
        _, text = await process.communicate()
    assert process.returncode == 1
    (said,) = [line for line in text.decode().splitlines() if not line.startswith("{")]
    assert said.startswith("The worker cannot start: ")
    assert f"('127.0.0.1', {port})" in said
    assert said.endswith("address already in use")


def _events(logs: list[Any], event: str) -> int:
    return sum(line["event"] == event for line in logs)


async def _readiness(logs: list[Any]) -> tuple[int, str]:
    (port,) = (line["port"] for line in logs if line["event"] == "health_listening")
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/readyz") as response:
        return response.status, await response.text()


async def _is_ready(logs: list[Any]) -> bool:
    return await _readiness(logs) == (200, "ok\n")


async def _is_not_ready(logs: list[Any], reason: str) -> bool:
    return await _readiness(logs) == (503, reason)


def _target_of(servers: tuple[FakeWorkerService, ...]) -> str:
    return "ipv4:" + ",".join(f"127.0.0.1:{service.port}" for service in servers)


async def _get(logs: list[Any], path: str) -> str:
    (port,) = (line["port"] for line in logs if line["event"] == "health_listening")
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as response:
        assert response.status == 200
        return await response.text()


async def _process(**variables: str) -> asyncio.subprocess.Process:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("KONGFLOW_")}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "services.worker"),
        cwd=ROOT,
        env={**inherited, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'gen'}", **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
