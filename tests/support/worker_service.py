"""A WorkerService that records its calls, holds them, and fails when told to."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from kongflow.v1 import queue_pb2, worker_service_pb2, worker_service_pb2_grpc

from tests.support.ports import free_ports

CHANNEL_OPTIONS = (("grpc.so_reuseport", 0),)


@dataclass(frozen=True, slots=True)
class Call:
    queue: str
    lanes: tuple[str, ...]
    authorization: str | None
    seconds_left: float | None


@dataclass
class FakeWorkerService(worker_service_pb2_grpc.WorkerServiceServicer):
    """Answers at once while `is_open` is set; `failures` are the statuses of the next calls, `refusal` that of all.

    A call without lanes, by which a worker asks whether it is welcome, is refused and counted in `asked` only.

    It has a health service once it was told how it is.
    """

    calls: list[Call] = field(default_factory=list)
    failures: list[grpc.StatusCode] = field(default_factory=list)
    refusal: grpc.StatusCode | None = None
    asked: int = 0
    is_open: asyncio.Event = field(default_factory=asyncio.Event)
    in_flight: int = 0
    most_in_flight: int = 0
    finished: int = 0

    def __post_init__(self) -> None:
        self.is_open.set()
        # Its own, because the workers of another test go on calling a server that was stopped.
        (self.port,) = free_ports(1)
        self._server: grpc.aio.Server | None = None
        self._health: Any = None

    @property
    def target(self) -> str:
        return f"dns:///127.0.0.1:{self.port}"

    @property
    def lanes(self) -> list[str]:
        """The lanes of all calls, in the order they came."""
        return [lane for call in self.calls for lane in call.lanes]

    async def start(self) -> None:
        """Listen, always on the same port."""
        self._server = grpc.aio.server(options=CHANNEL_OPTIONS)
        worker_service_pb2_grpc.add_WorkerServiceServicer_to_server(self, self._server)
        if self._health is not None:
            health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def say(self, *, is_serving: bool) -> None:
        """Say by health how it is, from the next start on if it has no health service yet."""
        if self._health is None:
            self._health = health.aio.HealthServicer()
        status = health_pb2.HealthCheckResponse
        await self._health.set("", status.SERVING if is_serving else status.NOT_SERVING)

    async def stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            await server.stop(None)

    async def RunQueueJobs(  # noqa: N802 - the contract's name
        self,
        request: worker_service_pb2.RunQueueJobsRequest,
        context: grpc.aio.ServicerContext[
            worker_service_pb2.RunQueueJobsRequest, worker_service_pb2.RunQueueJobsResponse
        ],
    ) -> worker_service_pb2.RunQueueJobsResponse:
        if not request.lanes:
            self.asked += 1
            await context.abort(self.refusal or grpc.StatusCode.INVALID_ARGUMENT, "there are no lanes")
        metadata = dict(context.invocation_metadata() or ())
        queue = queue_pb2.Queue.Name(request.queue).removeprefix("QUEUE_").lower()
        authorization = metadata.get("authorization")
        assert authorization is None or isinstance(authorization, str)
        self.calls.append(Call(queue, tuple(request.lanes), authorization, context.time_remaining()))
        if self.refusal is not None:
            await context.abort(self.refusal, "as the test asked")
        if self.failures:
            await context.abort(self.failures.pop(0), "as the test asked")
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await self.is_open.wait()
        finally:
            self.in_flight -= 1
        self.finished += 1
        return worker_service_pb2.RunQueueJobsResponse(outcome=worker_service_pb2.RUN_OUTCOME_DONE)
