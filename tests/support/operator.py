"""An operator of one running service: acts through the contract, and lets work run when the test says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kongflow.v1 import endpoint_service_pb2, queue_pb2, queue_service_pb2

from services.endpoints.domain.queue_job import Queue
from tests.support.pair import state_name

if TYPE_CHECKING:
    import asyncpg

    from tests.support.fake_endpoint import FakeEndpoint
    from tests.support.rpc import Caller
    from tests.support.stage import Stage


@dataclass(slots=True)
class Operator:
    """Somebody with every scope in `stage.ours`, with the database and no worker beside."""

    stage: Stage
    connection: asyncpg.Connection[asyncpg.Record]

    @property
    def caller(self) -> Caller:
        return self.stage.writer

    async def work_off(self) -> None:
        """Ring, and answer what is rung, until nothing is rung any more."""
        operations = self.stage.service.operations
        while True:
            await operations.relay.run_once()
            rung = await self.connection.fetch("SELECT queue, lane FROM queue_lanes WHERE state = 'RUNG'")
            if not rung:
                return
            for lane in rung:
                await operations.runner.run_queue_jobs(Queue(lane["queue"]), [lane["lane"]])

    async def create(self, endpoint: FakeEndpoint, *, production: bool = False) -> Any:
        """Register the endpoint in our environment of that kind."""
        environment = self.stage.ours.production if production else self.stage.ours.development
        return await self.caller.endpoints.CreateEndpoint(
            endpoint_service_pb2.CreateEndpointRequest(
                environment_id=environment.id, slug="fake-endpoint", url=endpoint.url
            )
        )

    async def jobs(self, **wanted: Any) -> list[Any]:
        """Return our queue jobs, newest first."""
        request = queue_service_pb2.ListQueueJobsRequest(page_size=1000, **wanted)
        return list((await self.caller.queue.ListQueueJobs(request)).queue_jobs)

    async def job(self, kind: str) -> Any:
        """Return the newest of a kind."""
        return (await self.jobs(kind=kind))[0]

    async def retry(self, queue_job_id: str, *, allow_repeat: bool = False) -> Any:
        request = queue_service_pb2.RetryQueueJobRequest(queue_job_id=queue_job_id, allow_repeat=allow_repeat)
        return await self.caller.queue.RetryQueueJob(request)

    async def retry_all(self, **wanted: Any) -> Any:
        return await self.caller.queue.RetryQueueJobs(queue_service_pb2.RetryQueueJobsRequest(**wanted))

    async def cancel(self, queue_job_id: str) -> Any:
        request = queue_service_pb2.CancelQueueJobRequest(queue_job_id=queue_job_id)
        return await self.caller.queue.CancelQueueJob(request)

    async def index(self, index_id: str) -> Any:
        request = endpoint_service_pb2.GetEndpointIndexRequest(index_id=index_id)
        return (await self.caller.endpoints.GetEndpointIndex(request)).index

    async def items(self, index_id: str) -> dict[str, str]:
        """Return the states of an index's items by key."""
        request = endpoint_service_pb2.ListEndpointIndexItemsRequest(index_id=index_id, page_size=1000)
        items = (await self.caller.endpoints.ListEndpointIndexItems(request)).items
        return {item.key: state_name(item) for item in items}

    async def stats(self, caller: Caller | None = None) -> dict[str, Any]:
        """Return the numbers by queue."""
        response = await (caller or self.caller).queue.GetQueueStats(queue_service_pb2.GetQueueStatsRequest())
        return {queue_pb2.Queue.Name(each.queue).removeprefix("QUEUE_").lower(): each for each in response.queues}
