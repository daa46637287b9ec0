"""What a named fault test does again and again: one endpoint on a running stack, asked for its index."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import grpc
from kongflow.v1 import endpoint_service_pb2

from tests.support.eventually import eventually
from tests.support.machine_time import machine_time

if TYPE_CHECKING:
    from tests.support.endpoint_farm import FarmEndpoint
    from tests.support.fault_stack import FaultStack
    from tests.support.pair import Tenant

PATIENCE: Final = timedelta(seconds=15)
# A ring waits 5 s for its answer, a sweep comes every second, and a machine may be slow.
RUNG_AGAIN: Final = timedelta(seconds=10)


@dataclass(frozen=True)
class Scene:
    """One endpoint that has been indexed once."""

    stack: FaultStack
    tenant: Tenant
    endpoint_id: str
    farm: FarmEndpoint

    async def ask(self, *, server: int = 0, request_id: str = "", run_in: timedelta | None = None) -> Any:
        """Ask one server for an index, now or `run_in` after now."""
        client = self.stack.pairs[server].client(self.tenant.api_key)
        request = endpoint_service_pb2.IndexEndpointRequest(endpoint_id=self.endpoint_id, request_id=request_id)
        if run_in is not None:
            request.run_time.FromDatetime(await self.stack.postgres.value("SELECT clock_timestamp()") + run_in)
        return await client.call(client.endpoints.IndexEndpoint, request, timeout=PATIENCE.total_seconds())

    async def refused(self, *, server: int = 0, request_id: str = "") -> grpc.aio.AioRpcError:
        """Ask, and return the error that answered."""
        try:
            await self.ask(server=server, request_id=request_id)
        except grpc.aio.AioRpcError as error:
            return error
        raise AssertionError("It was answered.")

    async def is_called(self, *, within: timedelta = PATIENCE) -> None:
        """Return once one more call than now waits for the endpoint's answer."""
        before = len(self.farm.index_calls())
        await eventually(lambda: len(self.farm.index_calls()) > before, within=within)

    async def call_begins(self, *, server: int = 0) -> str:
        """Ask for an index whose answer is held back, and return its queue job once the endpoint was called."""
        self.stack.farm.answers.clear()
        called = asyncio.create_task(self.is_called())
        answer = await self.ask(server=server)
        await called
        return str(answer.queue_job_id)

    async def queue_job(self, queue_job_id: str) -> dict[str, Any]:
        """Return a queue job's row."""
        (row,) = await self.stack.postgres.fetch(
            "SELECT state, attempt, rescues, errors::text FROM queue_jobs WHERE id = $1", uuid.UUID(queue_job_id)
        )
        return dict(row)

    async def indexes(self) -> int:
        """Return how many indexes the endpoint has."""
        return int(
            await self.stack.postgres.value(
                "SELECT count(*) FROM endpoint_indexes WHERE endpoint_id = $1", uuid.UUID(self.endpoint_id)
            )
        )

    async def effects(self) -> int:
        """Return how often one of the endpoint's jobs was registered."""
        return int(
            await self.stack.postgres.value(
                "SELECT count(*) FROM audit_effects JOIN job_versions ON job_versions.id = job_version_id"
                " WHERE endpoint_id = $1",
                uuid.UUID(self.endpoint_id),
            )
        )

    async def is_done(self, queue_job_id: str, *, within: timedelta = PATIENCE) -> timedelta:
        """Wait until a queue job is COMPLETED; return how long that took, in the machine's time."""
        began = machine_time()

        async def completed() -> bool:
            row = await self.queue_job(queue_job_id)
            assert row["state"] == "COMPLETED", row
            return True

        await eventually(completed, within=within)
        return timedelta(seconds=machine_time() - began)


async def new_scene(stack: FaultStack, *, jobs: int = 20, tenant: Tenant | None = None, settled: bool = True) -> Scene:
    """Register an endpoint, of a new tenant when none is given, and wait until it is indexed if that is wanted."""
    tenant = tenant or await stack.new_tenant()
    endpoint_id, farm = await stack.new_endpoint(tenant, f"endpoint-{uuid.uuid4().hex[:8]}", jobs=jobs)
    if settled:
        await stack.settle()
    return Scene(stack, tenant, endpoint_id, farm)
