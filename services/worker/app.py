"""Puts the worker together and runs it: one consumer per queue, until told to stop."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import structlog

from services.tls import client_credentials
from services.worker.client import WorkerClient
from services.worker.consumer import PoppingWorker
from services.worker.health import GrpcHealthServer, HealthServer
from services.worker.metrics import WorkerMetrics
from services.worker.redis_connection import CONNECT_TIMEOUT, open_redis
from services.worker.supervisor import supervise

if TYPE_CHECKING:
    from collections.abc import Mapping

    import grpc

    from services.worker.settings import WorkerSettings
    from services.worker.traces import CallTraces

POP_TIMEOUT: Final = timedelta(seconds=1)
# How far a call may outlast its own deadline before it is ended from outside.
CALL_OVERRUN: Final = timedelta(seconds=5)


def _credentials(settings: WorkerSettings) -> grpc.ChannelCredentials | None:
    if settings.tls_ca_file is None:
        return None
    return client_credentials(
        authorities=settings.tls_ca_file,
        certificate=settings.tls_client_certificate_file,
        key=settings.tls_client_key_file,
    )


def _traces(settings: WorkerSettings, stack: AsyncExitStack) -> CallTraces | None:
    """Return who records calls, nobody when traces are off; what was recorded is sent before the stack unwinds."""
    if settings.traces_endpoint is None:
        return None
    # OpenTelemetry's SDK is imported by those who asked for traces only.
    from services.worker.traces import open_traces  # noqa: PLC0415

    traces = open_traces(endpoint=settings.traces_endpoint)
    stack.push_async_callback(asyncio.to_thread, traces.close)
    return traces


async def run(settings: WorkerSettings, stop: asyncio.Event | None = None) -> None:
    """Serve the queues of `settings` until `stop` is set, then finish what is held.

    Without `stop`, SIGTERM and SIGINT stop it. Redis and the endpoints service may come, go and come back at any time.

    Raises:
        OSError: the health address cannot be listened on.
    """
    stopping = stop if stop is not None else _stopped_by_signals()
    log = structlog.get_logger(__name__)
    async with AsyncExitStack() as stack:
        metrics = WorkerMetrics()
        client = WorkerClient(
            target=settings.grpc_target,
            token=settings.worker_token.get_secret_value(),
            call_timeout=settings.call_timeout,
            credentials=_credentials(settings),
            metrics=metrics,
            traces=_traces(settings, stack),
        )
        stack.push_async_callback(client.close)
        workers: dict[str, PoppingWorker] = {}

        def not_ready() -> str | None:
            return _why_not_ready(stopping, workers, client)

        if settings.worker_health_address is not None:
            health = HealthServer(address=settings.worker_health_address, metrics=metrics, not_ready=not_ready)
            stack.push_async_callback(health.close)
            log.info("health_listening", port=await health.start())
        if settings.worker_grpc_health_address is not None:
            grpc_health = GrpcHealthServer(address=settings.worker_grpc_health_address, not_ready=not_ready)
            stack.push_async_callback(grpc_health.close)
            log.info("grpc_health_listening", port=await grpc_health.start())
        for queue, concurrency in settings.worker_queues.items():
            redis = open_redis(settings.redis_url)
            stack.push_async_callback(redis.aclose)
            workers[queue] = PoppingWorker(
                queue=queue,
                concurrency=concurrency,
                server=client,
                redis=redis,
                metrics=metrics,
                pop_timeout=POP_TIMEOUT,
                job_timeout=settings.call_timeout + CALL_OVERRUN,
            )
            stack.push_async_callback(workers[queue].close)
        log.info("worker_started", queues=dict(settings.worker_queues))
        await _pop_until(stopping, workers)
        held = sum(len(worker.tasks) for worker in workers.values())
        log.info("worker_draining", held=held)
        late = await asyncio.gather(*(worker.drain(settings.drain_timeout) for worker in workers.values()))
        log.info("worker_stopped", cancelled=sum(late))


def _why_not_ready(stopping: asyncio.Event, workers: Mapping[str, PoppingWorker], client: WorkerClient) -> str | None:
    """Return in one sentence why no work gets through, or None when it does."""
    if stopping.is_set():
        return "It is stopping."
    if not workers or not all(worker.is_popping for worker in workers.values()):
        return "Redis is away."
    if client.is_reachable:
        return None
    if client.refusal is not None:
        return f"The endpoints service refuses this worker: {client.refusal}."
    return "The endpoints service is away."


async def _pop_until(stopping: asyncio.Event, workers: dict[str, PoppingWorker]) -> None:
    """Run all consumers; when `stopping` is set have them pop no more, and return when the last pop ended."""
    supervisors = [
        asyncio.create_task(supervise(worker, queue=queue, stopping=stopping)) for queue, worker in workers.items()
    ]
    stopper = asyncio.create_task(stopping.wait())
    enders: list[asyncio.Task[None]] = []
    try:
        await asyncio.wait([stopper, *supervisors], return_when=asyncio.FIRST_COMPLETED)
        for worker in workers.values():
            worker.stop_popping()
        enders = [asyncio.create_task(worker.end_pop()) for worker in workers.values()]
        # A frozen Redis would hold the pop for its whole read timeout.
        await asyncio.wait([*enders, *supervisors], timeout=(POP_TIMEOUT + CONNECT_TIMEOUT).total_seconds())
    finally:
        for task in (stopper, *enders, *supervisors):
            task.cancel()
        ends = await asyncio.gather(*supervisors, *enders, stopper, return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception):
            raise end


def _stopped_by_signals() -> asyncio.Event:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    return stopping
