"""Puts the endpoints service together and runs it: the only place that names concrete classes."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import structlog

from services.endpoints.delivery.client import AiohttpEndpointClient
from services.endpoints.delivery.guard import EgressGuard
from services.endpoints.domain.callers import Callers
from services.endpoints.domain.catalog import (
    DELIVER_EVENT,
    INDEX_ENDPOINT,
    INVOKE_DISPATCHER,
    PROBE_ENDPOINT,
    PRUNE,
    REGISTER_DYNAMIC_SCHEDULE,
    REGISTER_DYNAMIC_TRIGGER,
    REGISTER_JOB,
    REGISTER_SOURCE,
)
from services.endpoints.domain.errors import KongflowError
from services.endpoints.domain.identifiers import new_uuid7
from services.endpoints.domain.ports.store import Pool
from services.endpoints.domain.tracing import NO_TRACER
from services.endpoints.http.console.application import ROOT, console
from services.endpoints.http.console.history import QueueHistory
from services.endpoints.http.console.services import ConsoleServices
from services.endpoints.http.console.sessions import Sessions
from services.endpoints.http.server import HttpServer, hooks_and_health, metrics_page
from services.endpoints.operations.authentication import Authentication
from services.endpoints.operations.catalog import CatalogOperations
from services.endpoints.operations.credential_uses import CredentialUses
from services.endpoints.operations.deliver_event import DeliverEvent
from services.endpoints.operations.dispatch_retries import RetryDelivery, RetryInvocation
from services.endpoints.operations.dispatchers import DispatcherOperations
from services.endpoints.operations.endpoint_health import EndpointHealth
from services.endpoints.operations.endpoint_upkeep import EndpointUpkeep
from services.endpoints.operations.endpoints import EndpointOperations
from services.endpoints.operations.events import EventOperations
from services.endpoints.operations.explanations import EventExplanations
from services.endpoints.operations.finality import Finality
from services.endpoints.operations.index_endpoint import IndexEndpoint
from services.endpoints.operations.index_requests import IndexRequests
from services.endpoints.operations.index_retries import RetryIndex, RetryRegistration
from services.endpoints.operations.indexing import IndexingOperations
from services.endpoints.operations.invoke_dispatcher import InvokeDispatcher
from services.endpoints.operations.leases import LeaseKeeper
from services.endpoints.operations.limits import CallLimits, TenantLimits
from services.endpoints.operations.page_tokens import PageTokens
from services.endpoints.operations.pings import Pinger
from services.endpoints.operations.probe_endpoint import ProbeEndpoint
from services.endpoints.operations.prune import Prune, Upkeep
from services.endpoints.operations.queue_jobs import QueueJobOperations
from services.endpoints.operations.readiness import Readiness
from services.endpoints.operations.register_items import RegisterItems
from services.endpoints.operations.registration import Registration
from services.endpoints.operations.relay import Relay
from services.endpoints.operations.rescue import Rescue
from services.endpoints.operations.retries import Retries
from services.endpoints.operations.run import QueueJobRunner
from services.endpoints.operations.runs import RunOperations
from services.endpoints.operations.tenancy import TenancyOperations
from services.endpoints.operations.watches import Watches
from services.endpoints.queue.connection import open_redis, pool_reading
from services.endpoints.queue.eviction import EvictionCheck
from services.endpoints.queue.publisher import ArqPublisher
from services.endpoints.queue.wake_ups import RedisWakeUps
from services.endpoints.rpc.deadlines import Deadlines
from services.endpoints.rpc.server import RpcServer, RpcServices
from services.endpoints.secrets.key_hasher import HmacKeyHasher
from services.endpoints.secrets.keys import derive_key, parse_key, parse_keys
from services.endpoints.secrets.secret_box import AesGcmSecretBox
from services.endpoints.store.observation import observe_database
from services.endpoints.store.postgres import DEFAULT_POOLS, PoolSettings, PostgresStore
from services.endpoints.telemetry.metrics import Metrics
from services.tls import server_credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import grpc
    from aiohttp import web

    from services.endpoints.domain.ports.endpoint_client import AddressCheck, EndpointClient
    from services.endpoints.domain.ports.observer import Observer, PoolReading
    from services.endpoints.domain.ports.publisher import Publisher, WakeUps
    from services.endpoints.domain.ports.store import Store
    from services.endpoints.domain.ports.tracer import Tracer
    from services.endpoints.operations.handlers import BatchHandler, CallingHandler
    from services.endpoints.settings import EndpointsSettings

_log = structlog.get_logger(__name__)

_RECONNECT_EVERY: Final = timedelta(seconds=1)
_CANCEL_AGAIN_AFTER: Final = timedelta(milliseconds=200)


@dataclass(frozen=True, slots=True)
class Listening:
    """Where a running service listens; `metrics_port` is None when it shows none."""

    grpc_port: int
    http_port: int
    metrics_port: int | None


@dataclass(frozen=True, slots=True)
class Operations:
    """Every use case of the service, wired to its ports."""

    authentication: Authentication
    uses: CredentialUses
    tenancy: TenancyOperations
    endpoints: EndpointOperations
    indexing: IndexingOperations
    catalog: CatalogOperations
    events: EventOperations
    explanations: EventExplanations
    dispatchers: DispatcherOperations
    runs: RunOperations
    queue_jobs: QueueJobOperations
    watches: Watches
    page_tokens: PageTokens
    runner: QueueJobRunner
    leases: LeaseKeeper
    relay: Relay
    rescue: Rescue
    upkeep: Upkeep
    endpoint_upkeep: EndpointUpkeep
    limits: TenantLimits


def build_operations(
    *,
    settings: EndpointsSettings,
    store: Store,
    publisher: Publisher,
    wake_ups: WakeUps,
    client: EndpointClient,
    addresses: AddressCheck,
    observer: Observer,
    callers: Callers,
    more_batch_handlers: Mapping[str, BatchHandler] | None = None,
    tracer: Tracer = NO_TRACER,
) -> Operations:
    """Wire every use case to these ports; `more_batch_handlers` carry kinds, by name, that the catalog lacks."""
    ledger_settings = settings.ledger
    retention = settings.retention
    pepper = parse_key(settings.lookup_pepper.get_secret_value())
    key_hasher = HmacKeyHasher(pepper=pepper)
    secret_box = AesGcmSecretBox(keys=parse_keys(settings.secret_keys.get_secret_value()))
    admin_token = settings.admin_token.get_secret_value() if settings.admin_token else None
    uses = CredentialUses(store=store)
    authentication = Authentication(
        store=store, key_hasher=key_hasher, admin_token=admin_token, uses=uses, monotonic=time.monotonic
    )
    health_policy = settings.health_policy
    health = EndpointHealth(policy=health_policy, jitter=random.random)
    index_requests = IndexRequests(
        new_id=new_uuid7, window=settings.index_window, max_attempts=settings.queue_max_attempts
    )
    index_endpoint = IndexEndpoint(
        client=client,
        secret_box=secret_box,
        requests=index_requests,
        health=health,
        new_id=new_uuid7,
        max_items=settings.max_index_items,
        registration_attempts=settings.queue_registration_max_attempts,
    )
    registrations = (REGISTER_JOB, REGISTER_SOURCE, REGISTER_DYNAMIC_TRIGGER, REGISTER_DYNAMIC_SCHEDULE)
    retry_registration = RetryRegistration()
    register_items = RegisterItems(registration=Registration(secret_box=secret_box), index_requests=index_requests)
    prune = Prune(retention=retention, new_id=new_uuid7)
    batch_handlers: dict[str, BatchHandler] = {**(more_batch_handlers or {}), PRUNE.name: prune}
    batch_handlers |= {kind.name: register_items for kind in registrations}
    batch_handlers[DELIVER_EVENT.name] = DeliverEvent(
        new_id=new_uuid7, observer=observer, max_attempts=settings.queue_max_attempts
    )
    batch_handlers[INVOKE_DISPATCHER.name] = InvokeDispatcher(new_id=new_uuid7)
    calling_handlers: dict[str, CallingHandler[Any, Any]] = {
        INDEX_ENDPOINT.name: index_endpoint,
        PROBE_ENDPOINT.name: ProbeEndpoint(client=client, secret_box=secret_box, health=health),
    }
    finality = Finality(handlers={**batch_handlers, **calling_handlers}, observer=observer)
    retries = Retries(
        handlers={
            INDEX_ENDPOINT.name: RetryIndex(requests=index_requests),
            **{kind.name: retry_registration for kind in registrations},
            DELIVER_EVENT.name: RetryDelivery(),
            INVOKE_DISPATCHER.name: RetryInvocation(),
        }
    )
    watches = Watches(wake_ups=wake_ups, most_per_tenant=settings.tenant_watches_at_once)
    leases = LeaseKeeper(store=store, settings=ledger_settings)
    limits = TenantLimits(limits=_call_limits(settings), monotonic=time.monotonic)
    return Operations(
        limits=limits,
        authentication=authentication,
        uses=uses,
        tenancy=TenancyOperations(
            store=store,
            secret_box=secret_box,
            key_hasher=key_hasher,
            authentication=authentication,
            new_id=new_uuid7,
        ),
        endpoints=EndpointOperations(
            store=store,
            observer=observer,
            pinger=Pinger(
                client=client,
                callers=callers,
                total=timedelta(seconds=settings.ping_total_seconds),
                each=timedelta(seconds=settings.endpoint_timeout_seconds),
                tries=settings.api_client_max_retries,
                pause=settings.retry_backoff,
            ),
            addresses=addresses,
            secret_box=secret_box,
            index_requests=index_requests,
            finality=finality,
            health=health,
            next_index_in=lambda: health_policy.next_index_in(jitter=random.random()),  # noqa: S311 - spreads load
            new_id=new_uuid7,
        ),
        indexing=IndexingOperations(
            store=store,
            index_requests=index_requests,
            watches=watches,
            limits=limits,
            hook_delay=settings.hook_delay,
            kept_for=retention.indexes,
        ),
        catalog=CatalogOperations(store=store),
        events=EventOperations(
            store=store,
            finality=finality,
            new_id=new_uuid7,
            max_attempts=settings.queue_max_attempts,
            kept_for=retention.events,
        ),
        explanations=EventExplanations(store=store),
        dispatchers=DispatcherOperations(store=store, new_id=new_uuid7),
        runs=RunOperations(store=store),
        queue_jobs=QueueJobOperations(
            store=store,
            finality=finality,
            retries=retries,
            watches=watches,
            known_kinds=frozenset({*batch_handlers, *calling_handlers}),
        ),
        watches=watches,
        page_tokens=PageTokens(key=derive_key(pepper, purpose="page tokens")),
        runner=QueueJobRunner(
            store=store,
            batch_handlers=batch_handlers,
            calling_handlers=calling_handlers,
            finality=finality,
            leases=leases,
            settings=ledger_settings,
            observer=observer,
            jitter=random.random,
            tracer=tracer,
        ),
        leases=leases,
        relay=Relay(store=store, publisher=publisher, wake_ups=wake_ups, settings=ledger_settings),
        rescue=Rescue(store=store, publisher=publisher, finality=finality, observer=observer, settings=ledger_settings),
        upkeep=Upkeep(store=store, new_id=new_uuid7, retention=retention),
        endpoint_upkeep=EndpointUpkeep(
            store=store, requests=index_requests, policy=health_policy, new_id=new_uuid7, jitter=random.random
        ),
    )


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
        rpc = RpcServer(
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
            tracer=tracer,
            address=str(settings.grpc_address),
            credentials=_credentials(settings),
            deadlines=deadlines_of(settings),
            max_request_bytes=settings.rpc_max_request_bytes,
            max_metadata_bytes=settings.rpc_max_metadata_bytes,
        )
        readiness = Readiness(database=store, health=rpc, finding=lambda: eviction.finding)
        listening = await _listen(
            stack,
            settings,
            store=store,
            redis_pool_reading=lambda: pool_reading(redis),
            readiness=readiness,
            operations=operations,
            metrics=metrics,
            rpc=rpc,
        )
        if on_listening is not None:
            on_listening(listening)
        work = [
            asyncio.create_task(_work_when_ready(store, readiness, operations)),
            asyncio.create_task(wake_ups.run()),
            asyncio.create_task(eviction.run()),
        ]
        stop_wait = asyncio.create_task(stopping.wait())
        done, _ = await asyncio.wait([*work, stop_wait], return_when=asyncio.FIRST_COMPLETED)
        _log.info("draining")
        readiness.drain()
        operations.watches.end()
        await rpc.stop(grace=timedelta(seconds=settings.drain_timeout_seconds))
        with suppress(TimeoutError):
            async with asyncio.timeout(settings.drain_timeout_seconds):
                await operations.runner.drain()
        await _end([*work, stop_wait])
        for task in done:
            task.result()
    _log.info("stopped")


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

    hooks = hooks_and_health(deployed=operations.indexing.deployed, not_ready=readiness.why_not)
    hooks.add_subapp(ROOT, _console(settings, operations))
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


def _console(settings: EndpointsSettings, operations: Operations) -> web.Application:
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
    )


async def _work_when_ready(store: PostgresStore, readiness: Readiness, operations: Operations) -> None:
    """Connect to PostgreSQL, however long that takes, then ring, rescue and renew until cancelled."""
    while True:
        try:
            await store.open()
            break
        except KongflowError as error:
            _log.warning("database_awaited", message=error.message, cause=type(error.__cause__).__name__)
            await asyncio.sleep(_RECONNECT_EVERY.total_seconds())
    await readiness.run_once()
    loops = [
        asyncio.create_task(readiness.run()),
        asyncio.create_task(operations.relay.run()),
        asyncio.create_task(operations.rescue.run()),
        asyncio.create_task(operations.leases.run()),
        asyncio.create_task(operations.upkeep.run()),
        asyncio.create_task(operations.uses.run()),
        asyncio.create_task(operations.endpoint_upkeep.run()),
    ]
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


def pools_of(settings: EndpointsSettings) -> Mapping[Pool, PoolSettings]:
    """Return how each pool of connections behaves."""
    call_backs = (
        settings.database_call_backs_statement_timeout_seconds,
        settings.database_call_backs_lock_timeout_seconds,
    )
    callers = (settings.database_callers_statement_timeout_seconds, settings.database_callers_lock_timeout_seconds)
    relay = (settings.database_relay_statement_timeout_seconds, settings.database_relay_lock_timeout_seconds)
    given = {
        Pool.CALLERS: (settings.callers_pool_size, *callers),
        Pool.READERS: (settings.readers_pool_size, *callers),
        Pool.CALLS: (settings.calls_pool_size, *call_backs),
        Pool.CALL_BACKS: (settings.call_backs_pool_size, *call_backs),
        Pool.RELAY: (settings.relay_pool_size, *relay),
    }
    return {
        pool: replace(
            DEFAULT_POOLS[pool],
            max_size=size,
            statement_timeout=timedelta(seconds=statement_timeout),
            lock_timeout=timedelta(seconds=lock_timeout),
            idle_in_transaction_timeout=timedelta(seconds=settings.database_idle_in_transaction_timeout_seconds),
            tcp_user_timeout=timedelta(seconds=settings.database_tcp_user_timeout_seconds),
        )
        for pool, (size, statement_timeout, lock_timeout) in given.items()
    }


def deadlines_of(settings: EndpointsSettings) -> Deadlines:
    """Return how long unary calls may take."""
    return Deadlines(
        default=timedelta(seconds=settings.rpc_default_deadline_seconds),
        pinging=timedelta(seconds=settings.rpc_ping_deadline_seconds),
        call_back=timedelta(seconds=settings.rpc_call_back_deadline_seconds),
        longest=timedelta(seconds=settings.rpc_max_deadline_seconds),
    )


def _credentials(settings: EndpointsSettings) -> grpc.ServerCredentials | None:
    if settings.tls_certificate_file is None or settings.tls_key_file is None:
        return None
    return server_credentials(
        certificate=settings.tls_certificate_file,
        key=settings.tls_key_file,
        client_authorities=settings.tls_client_ca_file,
    )


def _call_limits(settings: EndpointsSettings) -> CallLimits:
    return CallLimits(
        calls_per_second=settings.tenant_calls_per_second,
        burst=settings.tenant_calls_burst,
        at_once=settings.tenant_calls_at_once,
    )


def _stopped_by_signals() -> asyncio.Event:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    return stopping
