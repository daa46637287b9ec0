"""QueueService: validates, calls the operations, converts."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from kongflow.v1 import queue_service_pb2 as messages
from kongflow.v1.queue_service_pb2_grpc import QueueServiceServicer

from services.endpoints.domain.operator_decisions import lane_problem, pause_reason_problem
from services.endpoints.domain.ports.queue_control import QueueJobFilter
from services.endpoints.domain.queue_job import QueueJobState
from services.endpoints.domain.transitions import TRANSITIONS, Transition
from services.endpoints.operations.queue_jobs import MAX_RETRIED, RetryMany
from services.endpoints.rpc import enums
from services.endpoints.rpc.auth import current_principal, readmit_caller
from services.endpoints.rpc.convert import pause_message, queue_job_message, queue_stats_message
from services.endpoints.rpc.validate import Checks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    import grpc

    from services.endpoints.domain.queue_job import Queue
    from services.endpoints.operations.queue_jobs import QueueJobOperations
    from services.endpoints.rpc.paging import Paging

    Context = grpc.aio.ServicerContext[Any, Any]
    Filtering = messages.ListQueueJobsRequest | messages.RetryQueueJobsRequest
    Pausing = messages.PauseQueueRequest | messages.ResumeQueueRequest

_STATES: Final = enums.members(enums.QUEUE_JOB_STATE)
_QUEUES: Final = enums.members(enums.QUEUE)
_DEFAULT_RETRIED: Final = 1_000
_MAX_REFUSALS: Final = 100


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
        wanted = _filter(checks, request)
        asked = self._paging.request(checks, principal, request)
        checks.finish()
        page = await self._operations.list_queue_jobs(principal, wanted, asked)
        return messages.ListQueueJobsResponse(
            queue_jobs=map(queue_job_message, page.items),
            next_page_token=self._paging.next_token(principal, request, page),
        )

    async def GetQueueJob(self, request: messages.GetQueueJobRequest, context: Context) -> messages.GetQueueJobResponse:
        """Return one queue job."""
        queue_job_id = _queue_job_id(request.queue_job_id)
        queue_job = await self._operations.get_queue_job(current_principal(), queue_job_id)
        return messages.GetQueueJobResponse(queue_job=queue_job_message(queue_job))

    async def RetryQueueJob(
        self, request: messages.RetryQueueJobRequest, context: Context
    ) -> messages.RetryQueueJobResponse:
        """Let one queue job run again."""
        queue_job_id = _queue_job_id(request.queue_job_id)
        queue_job, repeats_effect = await self._operations.retry(
            current_principal(), queue_job_id, allow_repeat=request.allow_repeat
        )
        return messages.RetryQueueJobResponse(queue_job=queue_job_message(queue_job), repeats_effect=repeats_effect)

    async def RetryQueueJobs(
        self, request: messages.RetryQueueJobsRequest, context: Context
    ) -> messages.RetryQueueJobsResponse:
        """Let all queue jobs of a filter run again."""
        wanted = _retry_request(request)
        result = await self._operations.retry_many(current_principal(), wanted)
        return messages.RetryQueueJobsResponse(
            matched_count=result.matched,
            retried_count=result.retried,
            refused_count=len(result.refusals),
            refusals=[
                messages.RetryRefusal(queue_job_id=str(queue_job_id), reason=error.reason.value, message=error.message)
                for queue_job_id, error in list(result.refusals.items())[:_MAX_REFUSALS]
            ],
            has_more=result.has_more,
        )

    async def CancelQueueJob(
        self, request: messages.CancelQueueJobRequest, context: Context
    ) -> messages.CancelQueueJobResponse:
        """Cancel one queue job."""
        queue_job_id = _queue_job_id(request.queue_job_id)
        queue_job = await self._operations.cancel(current_principal(), queue_job_id)
        return messages.CancelQueueJobResponse(
            queue_job=queue_job_message(queue_job),
            is_pending=queue_job.state is QueueJobState.RUNNING,
        )

    async def PauseQueue(self, request: messages.PauseQueueRequest, context: Context) -> messages.PauseQueueResponse:
        """Pause a queue or a lane."""
        queue, lane = _queue_and_lane(request)
        pause = await self._operations.pause(current_principal(), queue, lane, reason=request.reason)
        return messages.PauseQueueResponse(pause=pause_message(pause))

    async def ResumeQueue(self, request: messages.ResumeQueueRequest, context: Context) -> messages.ResumeQueueResponse:
        """End a pause."""
        queue, lane = _queue_and_lane(request)
        was_paused = await self._operations.resume(current_principal(), queue, lane)
        return messages.ResumeQueueResponse(was_paused=was_paused)

    async def GetQueueStats(
        self, request: messages.GetQueueStatsRequest, context: Context
    ) -> messages.GetQueueStatsResponse:
        """Return the queues in numbers."""
        environment_id = _environment_id(request.environment_id)
        stats = await self._operations.stats(current_principal(), environment_id)
        return messages.GetQueueStatsResponse(queues=map(queue_stats_message, stats))

    async def WatchQueueStats(
        self, request: messages.WatchQueueStatsRequest, context: Context
    ) -> AsyncIterator[messages.WatchQueueStatsResponse]:
        """Stream the queues in numbers."""
        environment_id = _environment_id(request.environment_id)
        watch = self._operations.watch_stats(current_principal(), environment_id, readmit=readmit_caller)
        async with aclosing(watch) as states:
            async for stats in states:
                yield messages.WatchQueueStatsResponse(queues=map(queue_stats_message, stats))


def _queue_job_id(text: str) -> UUID:
    checks = Checks()
    queue_job_id = checks.uuid("queue_job_id", text)
    checks.finish()
    return queue_job_id


def _environment_id(text: str) -> UUID | None:
    checks = Checks()
    environment_id = checks.optional_uuid("environment_id", text)
    checks.finish()
    return environment_id


def _filter(checks: Checks, request: Filtering) -> QueueJobFilter:
    created_from = checks.time("created_from", request.created_from) if request.HasField("created_from") else None
    created_before = None
    if request.HasField("created_before"):
        created_before = checks.time("created_before", request.created_before)
    if created_from is not None and created_before is not None and created_before <= created_from:
        checks.refuse("created_before", "must be after created_from")
    return QueueJobFilter(
        environment_id=checks.optional_uuid("environment_id", request.environment_id),
        state=checks.enum("state", request.state, _STATES),
        queue=checks.enum("queue", request.queue, _QUEUES),
        kind=checks.filter_text("kind", request.kind),
        lane=checks.filter_text("lane", request.lane),
        created_from=created_from,
        created_before=created_before,
    )


def _retry_request(request: messages.RetryQueueJobsRequest) -> RetryMany:
    checks = Checks()
    wanted = _filter(checks, request)
    if wanted.state is None and not request.state:
        wanted = replace(wanted, state=QueueJobState.DISCARDED)
    if wanted.state is not None and wanted.state not in TRANSITIONS[Transition.RETRY]:
        checks.refuse("state", f"must not be {wanted.state.value}: such a queue job has not ended")
    if wanted.state is QueueJobState.COMPLETED and not request.allow_repeat:
        checks.refuse("allow_repeat", "must be true to retry COMPLETED queue jobs, because their effects are repeated")
    if not 0 <= request.max_count <= MAX_RETRIED:
        checks.refuse("max_count", f"must be 0 to {MAX_RETRIED}")
    checks.finish()
    return RetryMany(
        wanted,
        most=request.max_count or _DEFAULT_RETRIED,
        allow_repeat=request.allow_repeat,
        validate_only=request.validate_only,
    )


def _queue_and_lane(request: Pausing) -> tuple[Queue, str | None]:
    checks = Checks()
    queue = checks.required_enum("queue", request.queue, _QUEUES)
    if problem := lane_problem(request.lane):
        checks.refuse("lane", problem)
    if isinstance(request, messages.PauseQueueRequest) and (problem := pause_reason_problem(request.reason)):
        checks.refuse("reason", problem)
    checks.finish()
    return queue, request.lane or None
