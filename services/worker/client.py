"""Calls the endpoints service back, and knows when there is no point in trying."""

from __future__ import annotations

import asyncio
import json
import random
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Protocol

import grpc
import grpc.aio
import structlog
from kongflow.v1 import queue_pb2, worker_service_pb2, worker_service_pb2_grpc

from services.worker.backoff import backoff
from services.worker.crash_points import crash_point

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from services.worker.metrics import WorkerMetrics

PROBE_PERIOD: Final = timedelta(milliseconds=50)
PROBE_TIMEOUT: Final = timedelta(seconds=5)
CLOSE_GRACE: Final = timedelta(seconds=1)

# What every call of this worker meets, until somebody changes its token or the server.
_REFUSING: Final = frozenset(
    {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED}
)

# What says nothing of whether calls are taken.
_UNANSWERED: Final = frozenset({grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED})

# What another message would meet too. Everything else concerns this one call, and the ledger rings again.
_PAUSING: Final = _REFUSING | {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED}

_CHANNEL_OPTIONS: Final = (
    # A server that says by health that it does not serve is passed over; one that has no health service is called.
    (
        "grpc.service_config",
        json.dumps({"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}),
    ),
    # A frozen or cut-off server is noticed within 9 s, also when no call is under way; servers allow a ping every 5 s.
    ("grpc.keepalive_time_ms", 6_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # gRPC's own pause between attempts to connect grows to two minutes; a server is back in seconds.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.dns_min_time_between_resolutions_ms", 5_000),
    # An idle channel would hang up, and the first message afterwards would wait for a connection.
    ("grpc.client_idle_timeout_ms", 2**31 - 1),
    ("grpc.use_local_subchannel_pool", 1),
)


class Traces(Protocol):
    """Records what calls were part of; it never fails and never waits."""

    def note_call(self, queue: str, *, lanes: int, began_ns: int, traceparents: Sequence[str]) -> None:
        """Record a call that ends now in every trace that it ran something of.

        `began_ns` is in nanoseconds since 1970; `traceparents` are as a server sent them.
        """
        ...


class WorkerClient:
    """Hands rung lanes to the endpoints service.

    A failed call is logged, counted and let go: the ledger rings again. A failure that the next message would meet too
    closes the gate for a moment (50 ms doubling to 2 s), and it stays closed until the channel is connected, so that
    messages keep waiting in Redis while there is nobody to take them.

    Whether the server takes calls of this worker at all is asked with a call that names no lanes, before the first
    message and after each refusal: servers look at the token first.
    """

    def __init__(
        self,
        *,
        target: str,
        token: str,
        call_timeout: timedelta,
        credentials: grpc.ChannelCredentials | None = None,
        metrics: WorkerMetrics,
        traces: Traces | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Prepare a channel to `target`; it connects when first asked whether the server is reachable.

        Must be called where an event loop runs. Without `credentials` it speaks plaintext. `jitter` gives numbers in
        [0, 1). Nothing is recorded without `traces`.
        """
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(target, options=_CHANNEL_OPTIONS)
        else:
            self._channel = grpc.aio.secure_channel(target, credentials, options=_CHANNEL_OPTIONS)
        self._stub: worker_service_pb2_grpc.WorkerServiceAsyncStub = worker_service_pb2_grpc.WorkerServiceStub(
            self._channel
        )
        self._metadata = (("authorization", f"Bearer {token}"),)
        self._timeout_seconds = call_timeout.total_seconds()
        self._metrics = metrics
        self._traces = traces
        self._jitter = jitter
        self._clock = asyncio.get_running_loop().time
        self._failures = 0
        self._resume_at = 0.0
        self._is_away: bool | None = None
        self._is_welcome = False
        self._refusal: str | None = None
        self._probing: asyncio.Task[None] | None = None
        self._log = structlog.get_logger(__name__).bind(target=target)

    @property
    def is_reachable(self) -> bool:
        """Tell whether a call made now has somebody to answer it; begins to connect when not connected."""
        state = self._channel.get_state(try_to_connect=True)
        if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            self._note_away("CONNECTION")
        if state is not grpc.ChannelConnectivity.READY or self._clock() < self._resume_at:
            return False
        if not self._is_welcome and (self._probing is None or self._probing.done()):
            self._probing = asyncio.create_task(self._probe())
        return self._is_welcome

    @property
    def refusal(self) -> str | None:
        """Return the status with which the server refuses whatever this worker calls, None when it does not."""
        return self._refusal

    async def wait_until_reachable(self) -> None:
        """Return when `is_reachable`."""
        # gRPC tells changes of state only to waiters that cannot be cancelled.
        while not self.is_reachable:  # noqa: ASYNC110
            await asyncio.sleep(max(PROBE_PERIOD.total_seconds(), self._resume_at - self._clock()))

    async def run_queue_jobs(self, queue: str, lanes: Sequence[str]) -> None:
        """Have the server run `lanes` of `queue`, and return when it answered or failed."""
        request = worker_service_pb2.RunQueueJobsRequest(queue=_queue_number(queue), lanes=lanes)
        crash_point("before_call_back", queue)
        began_ns = time.time_ns()
        try:
            response = await self._stub.RunQueueJobs(request, timeout=self._timeout_seconds, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            self._metrics.calls.labels(queue, error.code().name).inc()
            if not self._has_paused(error):
                self._log.warning("call_failed", queue=queue, status=error.code().name, details=error.details())
        else:
            crash_point("after_call_back", queue)
            self._answered()
            self._metrics.calls.labels(queue, _outcome_name(response.outcome)).inc()
            if self._traces is not None and response.traceparents:
                self._traces.note_call(queue, lanes=len(lanes), began_ns=began_ns, traceparents=response.traceparents)

    async def close(self) -> None:
        """Hang up; calls still under way get a second to end."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)
        await self._channel.close(CLOSE_GRACE.total_seconds())

    async def _probe(self) -> None:
        """Ask whether calls are taken: they are when the server finds fault with the call itself."""
        request = worker_service_pb2.RunQueueJobsRequest()
        try:
            await self._stub.RunQueueJobs(request, timeout=PROBE_TIMEOUT.total_seconds(), metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            if error.code() in _UNANSWERED or self._has_paused(error):
                return
        self._answered()

    def _answered(self) -> None:
        self._is_welcome = True
        self._refusal = None
        self._failures = 0
        self._resume_at = 0.0
        if self._is_away is not False:
            self._is_away = False
            self._metrics.server_reachable.set(1)
            self._log.info("server_answers")

    def _has_paused(self, error: grpc.aio.AioRpcError) -> bool:
        """Close the gate if the next call would fail too, and tell whether it is closed."""
        code = error.code()
        if code not in _PAUSING:
            return False
        if code in _REFUSING:
            self._is_welcome = False
            self._refusal = code.name
        self._note_away(code.name, error.details())
        # Calls under way fail together: only the first one of a pause lengthens the next.
        if self._clock() >= self._resume_at:
            self._failures += 1
            self._resume_at = self._clock() + backoff(self._failures, jitter=self._jitter()).total_seconds()
        return True

    def _note_away(self, status: str, details: str | None = None) -> None:
        if self._is_away is not True:
            self._is_away = True
            self._metrics.server_reachable.set(0)
            self._log.warning("server_away", status=status, details=details)


def _queue_number(queue: str) -> queue_pb2.Queue.ValueType:
    return queue_pb2.Queue.Value(f"QUEUE_{queue.upper()}")


def _outcome_name(outcome: worker_service_pb2.RunOutcome.ValueType) -> str:
    """Return the outcome's name without its prefix; a newer server may answer one that has no name here."""
    if outcome not in worker_service_pb2.RunOutcome.values():
        return "UNKNOWN"
    return worker_service_pb2.RunOutcome.Name(outcome).removeprefix("RUN_OUTCOME_")
