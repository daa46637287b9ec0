"""QueueService: validates, calls the operations, converts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from kongflow.v1 import queue_service_pb2 as messages
from kongflow.v1.queue_service_pb2_grpc import QueueServiceServicer

from services.endpoints.domain.ports.ledger import QueueJobFilter
from services.endpoints.rpc import enums
from services.endpoints.rpc.auth import current_principal
from services.endpoints.rpc.convert import queue_job_message, queue_stats_message
from services.endpoints.rpc.validate import Checks

if TYPE_CHECKING:
    import grpc

    from services.endpoints.operations.queue_jobs import QueueJobOperations
    from services.endpoints.rpc.paging import Paging

    Context = grpc.aio.ServicerContext[Any, Any]

_STATES: Final = enums.members(enums.QUEUE_JOB_STATE)
_QUEUES: Final = enums.members(enums.QUEUE)


class QueueServicer(QueueServiceServicer):
    """Serves the ledger to operators."""

    def __init__(self, *, operations: QueueJobOperations, paging: Paging) -> None:
        self._operations = operations
        self._paging = paging

    async def ListQueueJobs(
        self, request: messages.ListQueueJobsRequest, context: Context
    ) -> messages.ListQueueJobsResponse:
        """List queue jobs."""
        principal, checks = current_principal(), Checks()
        wanted = QueueJobFilter(
            environment_id=checks.optional_uuid("environment_id", request.environment_id),
            state=checks.enum("state", request.state, _STATES),
            queue=checks.enum("queue", request.queue, _QUEUES),
            kind=checks.filter_text("kind", request.kind),
            lane=checks.filter_text("lane", request.lane),
        )
        asked = self._paging.request(checks, principal, request)
        checks.finish()
        page = await self._operations.list_queue_jobs(principal, wanted, asked)
        return messages.ListQueueJobsResponse(
            queue_jobs=[queue_job_message(queue_job, with_args=False) for queue_job in page.items],
            next_page_token=self._paging.next_token(principal, request, page),
        )

    async def GetQueueJob(self, request: messages.GetQueueJobRequest, context: Context) -> messages.GetQueueJobResponse:
        """Return one queue job."""
        checks = Checks()
        queue_job_id = checks.uuid("queue_job_id", request.queue_job_id)
        checks.finish()
        queue_job = await self._operations.get_queue_job(current_principal(), queue_job_id)
        return messages.GetQueueJobResponse(queue_job=queue_job_message(queue_job, with_args=True))

    async def GetQueueStats(
        self, request: messages.GetQueueStatsRequest, context: Context
    ) -> messages.GetQueueStatsResponse:
        """Return the queues in numbers."""
        checks = Checks()
        environment_id = checks.optional_uuid("environment_id", request.environment_id)
        checks.finish()
        stats = await self._operations.stats(current_principal(), environment_id)
        return messages.GetQueueStatsResponse(queues=map(queue_stats_message, stats))
