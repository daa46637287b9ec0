"""Wires every use case to its ports."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from services.endpoints.adapter_settings import call_limits_of
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
from services.endpoints.domain.identifiers import new_uuid7
from services.endpoints.domain.tracing import NO_TRACER
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
from services.endpoints.operations.index_revisions import IndexRevisions
from services.endpoints.operations.indexing import IndexingOperations
from services.endpoints.operations.invoke_dispatcher import InvokeDispatcher
from services.endpoints.operations.leases import LeaseKeeper
from services.endpoints.operations.limits import TenantLimits
from services.endpoints.operations.page_tokens import PageTokens
from services.endpoints.operations.pings import Pinger
from services.endpoints.operations.probe_endpoint import ProbeEndpoint
from services.endpoints.operations.prune import Prune, Upkeep
from services.endpoints.operations.queue_jobs import QueueJobOperations
from services.endpoints.operations.register_items import RegisterItems
from services.endpoints.operations.registration import Registration
from services.endpoints.operations.relay import Relay
from services.endpoints.operations.rescue import Rescue
from services.endpoints.operations.retries import Retries
from services.endpoints.operations.run import QueueJobRunner
from services.endpoints.operations.runs import RunOperations
from services.endpoints.operations.tenancy import TenancyOperations
from services.endpoints.operations.watches import Watches
from services.endpoints.secrets.key_hasher import HmacKeyHasher
from services.endpoints.secrets.keys import derive_key, parse_key, parse_keys
from services.endpoints.secrets.secret_box import AesGcmSecretBox

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.endpoints.domain.callers import Callers
    from services.endpoints.domain.ports.endpoint_client import AddressCheck, EndpointClient
    from services.endpoints.domain.ports.observer import Observer
    from services.endpoints.domain.ports.publisher import Publisher, WakeUps
    from services.endpoints.domain.ports.store import Store
    from services.endpoints.domain.ports.tracer import Tracer
    from services.endpoints.operations.handlers import BatchHandler, CallingHandler
    from services.endpoints.settings import EndpointsSettings


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
    revisions: IndexRevisions
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
    watches = Watches(most_per_tenant=settings.tenant_watches_at_once)
    revisions = IndexRevisions(store=store, wake_ups=wake_ups)
    leases = LeaseKeeper(store=store, settings=ledger_settings)
    limits = TenantLimits(limits=call_limits_of(settings), monotonic=time.monotonic)
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
            revisions=revisions,
            limits=limits,
            hook_delay=settings.hook_delay,
            kept_for=retention.indexes,
        ),
        catalog=CatalogOperations(store=store),
        events=EventOperations(
            store=store,
            new_id=new_uuid7,
            finality=finality,
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
            wake_ups=wake_ups,
            known_kinds=frozenset({*batch_handlers, *calling_handlers}),
        ),
        watches=watches,
        revisions=revisions,
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
            batches_at_once=settings.call_backs_pool_size,
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
