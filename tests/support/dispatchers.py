"""Dispatchers on a stage: those that an index would have written, and calls that write others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from google.protobuf.field_mask_pb2 import FieldMask
from kongflow.v1 import dispatcher_service_pb2 as messages
from kongflow.v1.dispatcher_pb2 import Dispatcher

from tests.support.catalog import Tenant
from tests.support.offers import dynamic, job, static_trigger

if TYPE_CHECKING:
    from collections.abc import Awaitable

    import asyncpg

    from tests.support.rpc import Caller
    from tests.support.rpc import Tenant as Customer
    from tests.support.stage import Stage


def catalog_of(
    connection: asyncpg.Connection[asyncpg.Record], customer: Customer, *, in_production: bool = False
) -> Tenant:
    """Return where to register what an endpoint of this environment offers."""
    environment = customer.production if in_production else customer.development
    return Tenant(
        connection,
        organization_id=UUID(customer.organization_id),
        project_id=UUID(customer.project_id),
        environment_id=UUID(environment.id),
    )


@dataclass(slots=True)
class DispatcherStage:
    """A stage whose development environment has a job `hello`, which an index's dispatcher starts, and a trigger."""

    stage: Stage
    connection: asyncpg.Connection[asyncpg.Record]
    catalog: Tenant = field(init=False)
    app: UUID = field(init=False)
    job_version_id: str = field(init=False)
    dynamic_trigger_id: str = field(init=False)
    index_dispatcher_id: str = field(init=False)

    async def prepare(self) -> DispatcherStage:
        """Register what the endpoint offers."""
        self.catalog = catalog_of(self.connection, self.stage.ours)
        self.app = await self.catalog.endpoint("dispatching")
        await self.offer(1)
        self.job_version_id = await self._only("job_versions")
        self.dynamic_trigger_id = await self._only("dynamic_triggers")
        self.index_dispatcher_id = await self._only("event_dispatchers")
        return self

    async def offer(self, sequence: int, *names: str, version: str = "1.0.0") -> None:
        """Register the job anew, listening to these names, or to `user.created`."""
        offered = job("hello", version, trigger=static_trigger(list(names) or "user.created"))
        await self.catalog.register(self.app, sequence, jobs=[offered], dynamicTriggers=[dynamic("on-demand")])

    def new(self, **changes: Any) -> Dispatcher:
        """Return a dispatcher as a caller would write it; with None a field is left out."""
        fields = {"event_names": ["order.paid"], "enabled": True, "job_version_id": self.job_version_id, **changes}
        return Dispatcher(**{name: value for name, value in fields.items() if value is not None})

    def create(
        self, *, caller: Caller | None = None, environment_id: str | None = None, request_id: str = "", **changes: Any
    ) -> Awaitable[Any]:
        request = messages.CreateDispatcherRequest(
            environment_id=self.stage.ours.development.id if environment_id is None else environment_id,
            dispatcher=self.new(**changes),
            request_id=request_id,
        )
        answer: Awaitable[Any] = (caller or self.stage.writer).dispatchers.CreateDispatcher(request)
        return answer

    async def created(self, **changes: Any) -> Dispatcher:
        dispatcher: Dispatcher = (await self.create(**changes)).dispatcher
        return dispatcher

    def get(self, dispatcher_id: str, *, caller: Caller | None = None) -> Awaitable[Any]:
        request = messages.GetDispatcherRequest(dispatcher_id=dispatcher_id)
        answer: Awaitable[Any] = (caller or self.stage.writer).dispatchers.GetDispatcher(request)
        return answer

    async def shown(self, dispatcher_id: str) -> Dispatcher:
        dispatcher: Dispatcher = (await self.get(dispatcher_id)).dispatcher
        return dispatcher

    def list_them(self, *, caller: Caller | None = None, **fields: Any) -> Awaitable[Any]:
        request = messages.ListDispatchersRequest(**{"environment_id": self.stage.ours.development.id, **fields})
        answer: Awaitable[Any] = (caller or self.stage.writer).dispatchers.ListDispatchers(request)
        return answer

    async def listed(self, **fields: Any) -> list[str]:
        return [dispatcher.id for dispatcher in (await self.list_them(**fields)).dispatchers]

    def update(self, dispatcher_id: str, *paths: str, caller: Caller | None = None, **fields: Any) -> Awaitable[Any]:
        request = messages.UpdateDispatcherRequest(
            dispatcher=Dispatcher(id=dispatcher_id, **fields), update_mask=FieldMask(paths=paths)
        )
        answer: Awaitable[Any] = (caller or self.stage.writer).dispatchers.UpdateDispatcher(request)
        return answer

    async def updated(self, dispatcher_id: str, *paths: str, **fields: Any) -> Dispatcher:
        dispatcher: Dispatcher = (await self.update(dispatcher_id, *paths, **fields)).dispatcher
        return dispatcher

    def delete(
        self, dispatcher_id: str, *, caller: Caller | None = None, allow_missing: bool = False
    ) -> Awaitable[Any]:
        request = messages.DeleteDispatcherRequest(dispatcher_id=dispatcher_id, allow_missing=allow_missing)
        answer: Awaitable[Any] = (caller or self.stage.writer).dispatchers.DeleteDispatcher(request)
        return answer

    async def _only(self, table: str) -> str:
        (row,) = await self.catalog.rows(f"SELECT id FROM {table}")
        return str(row["id"])
