"""Events on a real database: a tenant with jobs and dispatchers, and the handlers of events behind a real ledger."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from services.endpoints.domain.catalog import DELIVER_EVENT, INVOKE_DISPATCHER, new_queue_job
from services.endpoints.domain.identifiers import new_uuid7
from services.endpoints.domain.json_text import dump_json
from services.endpoints.domain.lanes import event_lane
from services.endpoints.domain.ledger_settings import LedgerSettings
from services.endpoints.domain.queue_job import Priority, Queue
from services.endpoints.operations.deliver_event import DeliverEvent
from services.endpoints.operations.dispatch_retries import RetryDelivery, RetryInvocation
from services.endpoints.operations.finality import Finality
from services.endpoints.operations.invoke_dispatcher import InvokeDispatcher
from services.endpoints.operations.leases import LeaseKeeper
from services.endpoints.operations.relay import Relay
from services.endpoints.operations.retries import Retries
from services.endpoints.operations.run import QueueJobRunner
from services.endpoints.telemetry.metrics import Metrics
from tests.support.catalog import Tenant
from tests.support.memory_queue import MemoryPublisher, MemoryWakeUps
from tests.support.offers import job, static_trigger

if TYPE_CHECKING:
    from uuid import UUID

    import asyncpg

    from services.endpoints.domain.queue_job import QueueJob
    from services.endpoints.store.postgres import PostgresStore

_RING_ALL_OF = """
INSERT INTO queue_lanes (queue, lane, environment_id, state, lease_until)
SELECT DISTINCT queue, lane, environment_id, 'RUNG', now() FROM queue_jobs WHERE kind = $1
RETURNING lane
"""
_INSERT_EVENT = """
INSERT INTO events (
    id, event_id, name, source, payload, context, payload_type, external_account_id, priority, queue_job_id, is_test,
    environment_id, organization_id, project_id
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
"""
_INSERT_DISPATCHER = """
INSERT INTO event_dispatchers (
    id, origin, event_names, source, payload_filter, context_filter, dispatchable_type, dispatchable_id, job_version_id,
    dynamic_trigger_id, external_account_id, environment_id, enabled, operator_disabled, manual
)
VALUES ($1, 'API', $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
"""


@dataclass
class Scene:
    """One tenant, the store, and the handlers as the product wires them; `runner` works off what `relay` rang."""

    store: PostgresStore
    connection: asyncpg.Connection[asyncpg.Record]
    tenant: Tenant
    endpoint_id: UUID
    metrics: Metrics = field(default_factory=Metrics)
    publisher: MemoryPublisher = field(default_factory=MemoryPublisher)

    def __post_init__(self) -> None:
        self.deliver = DeliverEvent(new_id=new_uuid7, observer=self.metrics)
        self.invoke = InvokeDispatcher(new_id=new_uuid7)
        self.finality = Finality(handlers={DELIVER_EVENT.name: self.deliver, INVOKE_DISPATCHER.name: self.invoke})
        self.retries = Retries(
            handlers={DELIVER_EVENT.name: RetryDelivery(), INVOKE_DISPATCHER.name: RetryInvocation()}
        )
        settings = LedgerSettings()
        self.relay = Relay(store=self.store, publisher=self.publisher, wake_ups=MemoryWakeUps(), settings=settings)
        self.runner = QueueJobRunner(
            store=self.store,
            batch_handlers={DELIVER_EVENT.name: self.deliver, INVOKE_DISPATCHER.name: self.invoke},
            calling_handlers={},
            finality=self.finality,
            leases=LeaseKeeper(store=self.store, settings=settings),
            settings=settings,
            observer=self.metrics,
            jitter=lambda: 0.0,
        )

    async def work_off(self) -> None:
        """Ring and answer until nothing is due in the queue of events."""
        while True:
            await self.relay.run_once()
            messages = self.publisher.messages.pop(Queue.EVENTS.value, [])
            if not messages:
                return
            for lanes in messages:
                await self.runner.run_queue_jobs(Queue.EVENTS, lanes)

    async def register(self, *slugs: str, event: str = "user.created", version: str = "1.0.0", **rule: Any) -> None:
        """Register jobs that listen to an event; their dispatchers are written with them."""
        jobs = [job(slug, version, trigger=static_trigger(event, **rule)) for slug in slugs]
        await self.tenant.register(self.endpoint_id, sequence=self._next_sequence(), jobs=jobs)

    def _next_sequence(self) -> int:
        self.sequence = getattr(self, "sequence", 0) + 1
        return self.sequence

    async def version_id(self, slug: str, version: str = "1.0.0") -> UUID:
        found: UUID = await self.connection.fetchval(
            "SELECT v.id FROM job_versions v JOIN jobs j ON j.id = v.job_id WHERE j.slug = $1 AND v.version = $2",
            slug,
            version,
        )
        return found

    async def account(self, identifier: str) -> UUID:
        account_id = new_uuid7()
        await self.connection.execute(
            "INSERT INTO external_accounts (id, identifier, organization_id, environment_id) VALUES ($1, $2, $3, $4)",
            account_id,
            identifier,
            self.tenant.organization_id,
            self.tenant.environment_id,
        )
        return account_id

    async def dispatcher(
        self,
        *names: str,
        version_id: UUID | None = None,
        trigger_id: UUID | None = None,
        source: str = "trigger.dev",
        payload_filter: Any = None,
        context_filter: Any = None,
        account_id: UUID | None = None,
        enabled: bool = True,
        operator_disabled: bool = False,
        manual: bool = False,
    ) -> UUID:
        """Write a dispatcher of origin API."""
        dispatcher_id = new_uuid7()
        await self.connection.execute(
            _INSERT_DISPATCHER,
            dispatcher_id,
            names or ("user.created",),
            source,
            dump_json({} if payload_filter is None else payload_filter),
            dump_json({} if context_filter is None else context_filter),
            "JOB_VERSION" if version_id else "DYNAMIC_TRIGGER",
            version_id or trigger_id,
            version_id,
            trigger_id,
            account_id,
            self.tenant.environment_id,
            enabled,
            operator_disabled,
            manual,
        )
        return dispatcher_id

    async def send(
        self,
        name: str = "user.created",
        *,
        payload: str = "{}",
        context: str = "{}",
        source: str = "trigger.dev",
        payload_type: str = "JSON",
        account_id: UUID | None = None,
        priority: Priority = Priority.NORMAL,
        is_test: bool = False,
        event_id: str | None = None,
    ) -> UUID:
        """Write an event and ask for its delivery, as SendEvent does; return the id of its record."""
        record_id, queue_job_id = new_uuid7(), new_uuid7()
        event_id = event_id or str(record_id)
        tenant = self.tenant
        await self.connection.execute(
            _INSERT_EVENT,
            record_id,
            event_id,
            name,
            source,
            payload,
            context,
            payload_type,
            account_id,
            priority.value,
            queue_job_id,
            is_test,
            tenant.environment_id,
            tenant.organization_id,
            tenant.project_id,
        )
        queue_job = new_queue_job(
            DELIVER_EVENT,
            {"id": str(record_id)},
            queue_job_id=queue_job_id,
            lane=event_lane(tenant.environment_id, event_id),
            environment_id=tenant.environment_id,
            priority=priority,
        )
        async with self.store.transaction() as tx:
            await tx.ledger.enqueue([queue_job])
        return record_id

    async def somebody_waits_for_a_lock(self) -> bool:
        waiting: int = await self.connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return waiting > 0

    async def event(self, record_id: UUID) -> dict[str, Any]:
        return await self.tenant.row("SELECT state, match_count, delivered_at FROM events WHERE id = $1", record_id)

    async def invocations(self, record_id: UUID) -> list[dict[str, Any]]:
        return await self.tenant.rows(
            "SELECT dispatcher_id, state, run_count, reason FROM event_invocations WHERE event_record_id = $1"
            " ORDER BY dispatcher_id",
            record_id,
        )

    async def invocation(self, record_id: UUID) -> dict[str, Any]:
        (invocation,) = await self.invocations(record_id)
        return invocation

    async def runs(self) -> list[tuple[str, int, str]]:
        """Return slug, number and version of every run."""
        rows = await self.connection.fetch(
            "SELECT j.slug, r.number, v.version FROM job_runs r JOIN jobs j ON j.id = r.job_id"
            " JOIN job_versions v ON v.id = r.version_id ORDER BY j.slug, r.number"
        )
        return [(row["slug"], row["number"], row["version"]) for row in rows]

    async def queue_jobs(self, kind: str) -> list[dict[str, Any]]:
        return await self.tenant.rows(
            "SELECT id, state, lane, priority, args::text AS args, errors::text AS errors FROM queue_jobs"
            " WHERE kind = $1 ORDER BY seq",
            kind,
        )

    async def pulled(self, kind: str) -> list[QueueJob]:
        """Return the due queue jobs of a kind, as a call back gets them, without their locks."""
        lanes = [lane for (lane,) in await self.connection.fetch(_RING_ALL_OF, kind)]
        async with self.store.transaction() as tx:
            pulled = await tx.ledger.pull(Queue.EVENTS, lanes, limit=200)
            await tx.ledger.close_lanes(Queue.EVENTS, lanes)
        return [queue_job for queue_job in pulled.queue_jobs if queue_job.kind == kind]


async def new_scene(store: PostgresStore, connection: asyncpg.Connection[asyncpg.Record]) -> Scene:
    """Create a tenant with one endpoint."""
    tenant = Tenant(connection)
    await tenant.create()
    return Scene(store, connection, tenant, await tenant.endpoint())
