"""WorkerService: validates, calls the operations, converts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from kongflow.v1 import worker_service_pb2 as messages
from kongflow.v1.worker_service_pb2_grpc import WorkerServiceServicer

from services.endpoints.rpc import enums
from services.endpoints.rpc.validate import Checks

if TYPE_CHECKING:
    from collections.abc import Sequence

    import grpc

    from services.endpoints.domain.queue_job import Queue
    from services.endpoints.operations.gathering import RunResult

    Context = grpc.aio.ServicerContext[Any, Any]

MAX_LANES: Final = 50
MAX_LANE_CHARACTERS: Final = 200
MAX_TRACEPARENTS: Final = 100

_QUEUES: Final = enums.members(enums.QUEUE)


class QueueJobRunner(Protocol):
    """Runs what lanes hold."""

    async def run_queue_jobs(self, queue: Queue, lanes: Sequence[str]) -> RunResult:
        """Run what is due in `lanes`."""
        ...


class WorkerServicer(WorkerServiceServicer):
    """Serves the call back of the workers."""

    def __init__(self, *, runner: QueueJobRunner) -> None:
        self._runner = runner

    async def RunQueueJobs(
        self, request: messages.RunQueueJobsRequest, context: Context
    ) -> messages.RunQueueJobsResponse:
        """Run what lanes hold."""
        checks = Checks()
        queue = checks.required_enum("queue", request.queue, _QUEUES)
        lanes = list(dict.fromkeys(request.lanes))
        if not 1 <= len(request.lanes) <= MAX_LANES:
            checks.refuse("lanes", f"must hold 1 to {MAX_LANES} names")
        for position, lane in enumerate(request.lanes[:MAX_LANES]):
            if not 1 <= len(lane) <= MAX_LANE_CHARACTERS or "\x00" in lane:
                checks.refuse(f"lanes[{position}]", f"must be 1 to {MAX_LANE_CHARACTERS} characters without NUL")
        checks.finish()
        result = await self._runner.run_queue_jobs(queue, lanes)
        outcome = messages.RUN_OUTCOME_NOTHING_DUE if result.is_nothing_due else messages.RUN_OUTCOME_DONE
        return messages.RunQueueJobsResponse(
            outcome=outcome,
            completed=result.completed,
            failed=result.failed,
            traceparents=list(dict.fromkeys(result.traceparents))[:MAX_TRACEPARENTS],
        )
