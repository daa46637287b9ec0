"""Opens what the endpoints service is made of, and runs it; `wiring` gives every use case its ports."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import structlog

from services.endpoints.adapter_settings import credentials_of, deadlines_of, pools_of
from services.endpoints.delivery.client import AiohttpEndpointClient
from services.endpoints.delivery.guard import EgressGuard
from services.endpoints.domain.callers import Callers
from services.endpoints.domain.errors import KongflowError
from services.endpoints.domain.tracing import NO_TRACER
from services.endpoints.http.console.application import ROOT, console
from services.endpoints.http.console.history import QueueHistory
from services.endpoints.http.console.services import ConsoleServices
from services.endpoints.http.console.sessions import Sessions
from services.endpoints.http.server import HttpServer, hooks_and_health, metrics_page
from services.endpoints.operations.readiness import Readiness
from services.endpoints.operations.rounds import Rounds
from services.endpoints.queue.connection import open_redis, pool_reading
from services.endpoints.queue.eviction import EvictionCheck
from services.endpoints.queue.publisher import ArqPublisher
from services.endpoints.queue.wake_ups import RedisWakeUps
from services.endpoints.rpc.memory import MemoryGuard, give_memory_back, share_of_memory
from services.endpoints.rpc.server import RpcServer, RpcServices
from services.endpoints.secrets.keys import derive_key, parse_keys
from services.endpoints.secrets.secret_box import AesGcmSecretBox
from services.endpoints.store.observation import observe_database
from services.endpoints.store.postgres import PostgresStore
from services.endpoints.telemetry.metrics import Metrics
from services.endpoints.wiring import build_operations

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence

    from aiohttp import web

    from services.endpoints.domain.ports.observer import PoolReading
    from services.endpoints.domain.ports.tracer import Tracer
    from services.endpoints.operations.handlers import BatchHandler
    from services.endpoints.operations.rounds import Loop
    from services.endpoints.settings import EndpointsSettings
    from services.endpoints.wiring import Operations

_log = structlog.get_logger(__name__)

_CANCEL_AGAIN_AFTER: Final = timedelta(milliseconds=200)


@dataclass(frozen=True, slots=True)
class Listening:
    """Where a running service listens; `metrics_port` is None when it shows none."""

    grpc_port: int
    http_port: int
    metrics_port: int | None


async def run(
    settings: EndpointsSettings,
    stop: asyncio.Event | None = None,
    on_listening: Callable[[Listening], None] | None = None,
    more_batch_handlers: Mapping[str, BatchHandler] | None = None,
) -> None:
    """Serve until `stop` is set, or SIGTERM or SIGINT comes; then refuse new calls and finish what has begun.

    PostgreSQL and Redis may be absent at the start: the service listens, says that it is not ready, and keeps trying.
    `on_listening` is told where, once every address is open. `more_batch_handlers` carry kinds, by name, that the
    catalog does not have.

    Raises:
        OSError: an address cannot be listened on.
    """
    stopping = stop if stop is not None else _stopped_by_signals()
    async with AsyncExitStack() as stack:
        redis = open_redis(settings.redis_url)
        stack.push_async_callback(redis.aclose)
        wake_ups = RedisWakeUps(redis=redis)
        eviction = EvictionCheck(redis=redis)
        callers = Callers()
        store = PostgresStore(
            database_url=settings.database_url,
            on_ledger_change=wake_ups.notify,
            pools=pools_of(settings),
            callers=callers,
        )
        stack.push_async_callback(store.close)
        guard = EgressGuard(allowed_networks=settings.egress_allow)
        stack.callback(guard.close)
        tracer = _tracer(settings, stack)
        metrics = Metrics(most_environments=settings.metrics_largest)
        client = await stack.enter_async_context(
            AiohttpEndpointClient(
                tracer=tracer,
                observer=metrics,
                guard=guard,
                timeout=timedelta(seconds=settings.endpoint_timeout_seconds),
                max_answer_bytes=settings.max_answer_bytes,
                max_connections=settings.api_client_max_connections,
                user_agent=settings.api_client_user_agent,
            )
        )
        operations = build_operations(
            settings=settings,
            store=store,
            publisher=ArqPublisher(redis=redis, window=settings.ledger_max_waiting_messages),
            wake_ups=wake_ups,
            client=client,
            addresses=guard,
            observer=metrics,
            callers=callers,
            more_batch_handlers=more_batch_handlers,
            tracer=tracer,
        )
        memory = MemoryGuard(share=share_of_memory(settings.memory_limit_bytes), give_back=give_memory_back)
        rpc = _rpc_server(settings, operations, metrics=metrics, callers=callers, memory=memory, tracer=tracer)
        readiness = Readiness(database=store, health=rpc, finding=lambda: memory.finding() or eviction.finding)
        listening = await _listen(
            stack,
            settings,
            store=store,
            redis_pool_reading=lambda: pool_reading(redis),
            readiness=readiness,
            operations=operations,
            metrics=metrics,
            rpc=rpc,
            admit=memory.admit,
        )
        if on_listening is not None:
            on_listening(listening)
        await _serve_until(
            stopping,
            work=(_work_when_ready(store, readiness, operations, metrics), wake_ups.run(), eviction.run()),
            drain=timedelta(seconds=settings.drain_timeout_seconds),
            readiness=readiness,
            operations=operations,
            rpc=rpc,
        )
    _log.info("stopped")


async def _serve_until(
    stopping: asyncio.Event,
    *,
    work: Iterable[Coroutine[Any, Any, None]],
    drain: timedelta,
    readiness: Readiness,
    operations: Operations,
    rpc: RpcServer,
) -> None:
    """Do the work until told to stop, or some of it fails; then refuse new calls and finish what has begun."""
    tasks = [asyncio.create_task(each) for each in work]
    stop_wait = asyncio.create_task(stopping.wait())
    done, _ = await asyncio.wait([*tasks, stop_wait], return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        if (error := task.exception()) is not None:
            # Its traceback comes when the drain is over, and somebody may not wait for that.
            _log.error("server_fails", exc_info=error)
    _log.info("draining")
    readiness.drain()
    operations.watches.end()
    drained_by = asyncio.get_running_loop().time() + drain.total_seconds()
    await rpc.stop(grace=drain)
    with suppress(TimeoutError):
        async with asyncio.timeout_at(drained_by):
            await operations.runner.drain()
    # A call that still waits would fail with its connection, and its endpoint would be blamed.
    await _end([*tasks, stop_wait, *operations.runner.begun])
    for task in tasks:
        if not task.cancelled():
            task.result()


def _rpc_server(
    settings: EndpointsSettings,
    operations: Operations,
    *,
    metrics: Metrics,
    callers: Callers,
    memory: MemoryGuard,
    tracer: Tracer,
) -> RpcServer:
    return RpcServer(
        services=RpcServices(
            tenancy=operations.tenancy,
            endpoints=operations.endpoints,
            indexing=operations.indexing,
            catalog=operations.catalog,
            events=operations.events,
            explanations=operations.explanations,
            dispatchers=operations.dispatchers,
            runs=operations.runs,
            queue_jobs=operations.queue_jobs,
            runner=operations.runner,
            page_tokens=operations.page_tokens,
        ),
        authenticator=operations.authentication,
        observer=metrics,
        callers=callers,
        limits=operations.limits,
        memory=memory,
        tracer=tracer,
        address=str(settings.grpc_address),
        credentials=credentials_of(settings),
        deadlines=deadlines_of(settings),
        max_request_bytes=settings.rpc_max_request_bytes,
        max_metadata_bytes=settings.rpc_max_metadata_bytes,
    )


async def _listen(
    stack: AsyncExitStack,
    settings: EndpointsSettings,
    *,
    store: PostgresStore,
    redis_pool_reading: Callable[[], PoolReading],
    readiness: Readiness,
    operations: Operations,
    metrics: Metrics,
    rpc: RpcServer,
    admit: Callable[[], None],
) -> Listening:
    next_reading = time.monotonic()

    async def render() -> bytes:
        nonlocal next_reading
        metrics.show_pools("postgresql", store.pool_readings())
        metrics.show_pools("redis", [redis_pool_reading()])
        metrics.show_watches(operations.watches.count)
        if time.monotonic() >= next_reading:
            # However many scrape, and however often.
            next_reading = time.monotonic() + settings.metrics_read_every_seconds
            with suppress(KongflowError):
                metrics.show_queues(await operations.queue_jobs.stats_of_all())
                metrics.show_database(await observe_database(store))
        return metrics.render()

    hooks = hooks_and_health(deployed=operations.indexing.deployed, not_ready=readiness.why_not, admit=admit)
    hooks.add_subapp(ROOT, _console(settings, operations, admit=admit))
    http = HttpServer(
        hooks,
        host=settings.http_address.host,
        port=settings.http_address.port,
    )
    stack.push_async_callback(http.close)
    http_port = await http.start()
    metrics_port = None
    if settings.metrics_address is not None:
        metrics_http = HttpServer(
            metrics_page(render), host=settings.metrics_address.host, port=settings.metrics_address.port
        )
        stack.push_async_callback(metrics_http.close)
        metrics_port = await metrics_http.start()
    grpc_port = await rpc.start()
    _log.info("listening", grpc_port=grpc_port, http_port=http_port, metrics_port=metrics_port)
    return Listening(grpc_port, http_port, metrics_port)


def _console(settings: EndpointsSettings, operations: Operations, *, admit: Callable[[], None]) -> web.Application:
    keys = parse_keys(settings.secret_keys.get_secret_value())
    return console(
        services=ConsoleServices(
            authentication=operations.authentication,
            tenancy=operations.tenancy,
            endpoints=operations.endpoints,
            indexing=operations.indexing,
            catalog=operations.catalog,
            events=operations.events,
            explanations=operations.explanations,
            runs=operations.runs,
            queue_jobs=operations.queue_jobs,
            page_tokens=operations.page_tokens,
            limits=operations.limits,
        ),
        sessions=Sessions(
            box=AesGcmSecretBox(keys=[derive_key(key, purpose="console sessions") for key in keys]),
        ),
        history=QueueHistory(monotonic=time.monotonic),
        admit=admit,
    )


async def _work_when_ready(
    store: PostgresStore, readiness: Readiness, operations: Operations, metrics: Metrics
) -> None:
    """Connect to PostgreSQL, however long that takes, then ring, rescue and renew until cancelled."""
    await Rounds("database", observer=metrics).complete(store.open)
    await readiness.run_once()
    named: dict[str, Loop] = {
        "readiness": readiness,
        "relay": operations.relay,
        "rescue": operations.rescue,
        "leases": operations.leases,
        "index_revisions": operations.revisions,
        "upkeep": operations.upkeep,
        "credential_uses": operations.uses,
        "endpoint_upkeep": operations.endpoint_upkeep,
    }
    loops = [asyncio.create_task(loop.run(Rounds(name, observer=metrics))) for name, loop in named.items()]
    try:
        done, _ = await asyncio.wait(loops, return_when=asyncio.FIRST_COMPLETED)
        for loop in done:
            loop.result()
    finally:
        await _end(loops)


async def _end(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they have ended: a library that is cancelled as it finishes may swallow the first word."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_CANCEL_AGAIN_AFTER.total_seconds())


def _tracer(settings: EndpointsSettings, stack: AsyncExitStack) -> Tracer:
    if settings.traces_endpoint is None:
        return NO_TRACER
    # Its SDK costs a third of a second and memory: only who wants traces pays.
    from services.endpoints.telemetry.traces import open_tracer  # noqa: PLC0415

    tracer = open_tracer(endpoint=settings.traces_endpoint, ratio=settings.traces_ratio, service="kongflow-endpoints")
    stack.push_async_callback(asyncio.to_thread, tracer.close)
    return tracer


def _stopped_by_signals() -> asyncio.Event:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    return stopping
