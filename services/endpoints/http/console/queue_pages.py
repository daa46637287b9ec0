"""The queues, live; queue jobs and dead letters, which may be retried."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.endpoints.domain.ports.queue_control import QueueJobFilter
from services.endpoints.domain.queue_job import Queue, QueueJobState
from services.endpoints.http.console.charts import pickup_chart, waiting_chart
from services.endpoints.http.console.visits import Shown

if TYPE_CHECKING:
    from uuid import UUID

    from services.endpoints.http.console.history import QueueHistory
    from services.endpoints.http.console.services import ConsoleServices
    from services.endpoints.http.console.visits import Visit

_RETRIABLE: Final = frozenset({QueueJobState.DISCARDED, QueueJobState.CANCELLED, QueueJobState.SCHEDULED})


class QueuePages:
    """Shows the queues and their queue jobs, and retries one."""

    def __init__(self, *, services: ConsoleServices, history: QueueHistory) -> None:
        """Hold what is asked, and what was shown before."""
        self._queue_jobs = services.queue_jobs
        self._history = history

    async def queues(self, visit: Visit) -> Shown:
        """Show each queue's depth and latency, now and over the last minutes."""
        environment_id = visit.optional_id("environment_id", resource="environment")
        stats = await self._queue_jobs.stats(visit.principal, environment_id)
        whose = (visit.principal.organization_id, environment_id or visit.principal.environment_id)
        samples = self._history.add(whose, stats)
        return Shown(
            "queues.html",
            {
                "stats": stats,
                "charts": [waiting_chart(samples), pickup_chart(samples)],
                "queues": list(Queue),
                "states": list(QueueJobState),
                "environment_id": environment_id,
            },
        )

    async def queue_jobs(self, visit: Visit) -> Shown:
        """Show queue jobs by queue, state, kind, lane and environment."""
        return await self._list(visit, state=visit.choice("state", QueueJobState), template="queue_jobs.html")

    async def dead_letters(self, visit: Visit) -> Shown:
        """Show queue jobs that used up their attempts."""
        return await self._list(visit, state=QueueJobState.DISCARDED, template="dead_letters.html")

    async def queue_job(self, visit: Visit) -> Shown:
        """Show a queue job with its errors."""
        queue_job = await self._queue_jobs.get_queue_job(visit.principal, visit.id("queue job"))
        is_retriable = visit.may_operate and queue_job.state in _RETRIABLE
        was_retried = "retried" in visit.request.query
        return Shown(
            "queue_job.html", {"queue_job": queue_job, "is_retriable": is_retriable, "was_retried": was_retried}
        )

    async def retry(self, visit: Visit) -> UUID:
        """Let a queue job run again; return its id.

        Raises:
            PermissionDeniedError: the credential lacks the scope operate.
            NotFoundError: there is none for this principal.
            KongflowError: WRONG_STATE, it has not ended or is COMPLETED; ALREADY_EXISTS, the same work waits already.
        """
        visit.require_operator()
        queue_job, _ = await self._queue_jobs.retry(visit.principal, visit.id("queue job"), allow_repeat=False)
        return queue_job.id

    async def _list(self, visit: Visit, *, state: QueueJobState | None, template: str) -> Shown:
        wanted = QueueJobFilter(
            environment_id=visit.optional_id("environment_id", resource="environment"),
            queue=visit.choice("queue", Queue),
            state=state,
            kind=visit.text("kind"),
            lane=visit.text("lane"),
        )
        page = await self._queue_jobs.list_queue_jobs(visit.principal, wanted, visit.page_request())
        return Shown(
            template,
            {
                "queue_jobs": page.items,
                "paging": visit.paging(page),
                "wanted": wanted,
                "queues": list(Queue),
                "states": list(QueueJobState),
                "retriable": _RETRIABLE if visit.may_operate else frozenset(),
            },
        )
