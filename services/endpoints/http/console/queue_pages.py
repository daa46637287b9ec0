"""The queues, live; queue jobs and dead letters; and what operators do with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from services.endpoints.domain.errors import FieldViolation, InvalidRequestError
from services.endpoints.domain.lanes import lane_owner
from services.endpoints.domain.operator_decisions import lane_problem, pause_reason_problem
from services.endpoints.domain.ports.queue_control import QueueJobFilter
from services.endpoints.domain.queue_job import Queue, QueueJobState
from services.endpoints.http.console.charts import pickup_chart, waiting_chart
from services.endpoints.http.console.visits import Shown
from services.endpoints.operations.queue_jobs import RetryMany

if TYPE_CHECKING:
    from services.endpoints.http.console.history import QueueHistory
    from services.endpoints.http.console.services import ConsoleServices
    from services.endpoints.http.console.visits import Visit

MAX_RETRIED_AT_ONCE: Final = 1_000

_MAX_DIGITS: Final = 7
_RETRIABLE: Final = frozenset({QueueJobState.DISCARDED, QueueJobState.CANCELLED, QueueJobState.SCHEDULED})


class QueuePages:
    """Shows the queues and their queue jobs; retries, cancels, pauses and resumes.

    What changes anything returns the address that shows it, and is called for operators only.
    """

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
                "pauses": [pause for each in stats for pause in each.pauses],
                "is_admin": visit.is_admin,
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
        may_pause = visit.may_operate and (visit.is_admin or lane_owner(queue_job.lane) is not None)
        return Shown(
            "queue_job.html",
            {
                "queue_job": queue_job,
                "is_retriable": visit.may_operate and queue_job.state in _RETRIABLE,
                "is_cancellable": visit.may_operate
                and not queue_job.state.is_final
                and queue_job.cancel_requested_at is None,
                "may_pause": may_pause,
                "was_retried": "retried" in visit.request.query,
                "was_cancelled": "cancelled" in visit.request.query,
            },
        )

    async def ask_to_retry(self, visit: Visit) -> Shown:
        """Show how many dead letters a filter finds, before all of them are retried.

        Raises:
            PermissionDeniedError: the credential lacks the scope operate.
        """
        visit.require_operator()
        wanted = _dead_letters(visit)
        found = await self._queue_jobs.retry_many(
            visit.principal, RetryMany(wanted, most=MAX_RETRIED_AT_ONCE, validate_only=True)
        )
        return Shown("retry_all.html", {"wanted": wanted, "filters": _filters(wanted), "found": found})

    async def retry(self, visit: Visit) -> str:
        """Let a queue job run again.

        Raises:
            NotFoundError: there is none for this principal.
            KongflowError: WRONG_STATE, it has not ended or is COMPLETED; ALREADY_EXISTS, the same work waits already.
        """
        queue_job, _ = await self._queue_jobs.retry(visit.principal, visit.id("queue job"), allow_repeat=False)
        return f"/queue-jobs/{queue_job.id}?retried"

    async def retry_all(self, visit: Visit) -> str:
        """Let all dead letters of a filter run again, the oldest thousand first."""
        wanted = _dead_letters(visit)
        done = await self._queue_jobs.retry_many(visit.principal, RetryMany(wanted, most=MAX_RETRIED_AT_ONCE))
        counts = {"retried": done.retried, "refused": len(done.refusals)}
        return f"/dead-letters?{urlencode({**_filters(wanted), **counts})}"

    async def cancel(self, visit: Visit) -> str:
        """Cancel a queue job: at once when it waits, without effect when it runs.

        Raises:
            NotFoundError: there is none for this principal.
            KongflowError: WRONG_STATE, it is COMPLETED or DISCARDED.
        """
        queue_job = await self._queue_jobs.cancel(visit.principal, visit.id("queue job"))
        return f"/queue-jobs/{queue_job.id}?cancelled"

    async def pause(self, visit: Visit) -> str:
        """Let nothing more be taken from a queue or a lane; the reason is kept for those who wonder.

        Raises:
            InvalidRequestError: the form names no queue, or its lane or reason cannot be kept.
            NotFoundError: whoever the lane belongs to is not there for this principal.
            PermissionDeniedError: it is a whole queue, and the principal is no admin.
        """
        reason = visit.text("reason") or ""
        if problem := pause_reason_problem(reason):
            raise InvalidRequestError([FieldViolation("reason", problem)])
        queue, lane = _queue_and_lane(visit)
        await self._queue_jobs.pause(visit.principal, queue, lane, reason=reason)
        return "/queues"

    async def resume(self, visit: Visit) -> str:
        """End a pause; nothing happens when there is none.

        Raises:
            InvalidRequestError: the form names no queue, or no lane that could be one.
            NotFoundError, PermissionDeniedError: as in `pause`.
        """
        queue, lane = _queue_and_lane(visit)
        await self._queue_jobs.resume(visit.principal, queue, lane)
        return "/queues"

    async def _list(self, visit: Visit, *, state: QueueJobState | None, template: str) -> Shown:
        wanted = _wanted(visit, state)
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
                "retry_all": f"/console/dead-letters/retry?{urlencode(_filters(wanted))}",
                "counts": {name: _count(visit, name) for name in ("retried", "refused")},
            },
        )


def _wanted(visit: Visit, state: QueueJobState | None) -> QueueJobFilter:
    return QueueJobFilter(
        environment_id=visit.optional_id("environment_id", resource="environment"),
        queue=visit.choice("queue", Queue),
        state=state,
        kind=visit.text("kind"),
        lane=visit.text("lane"),
    )


def _dead_letters(visit: Visit) -> QueueJobFilter:
    return _wanted(visit, QueueJobState.DISCARDED)


def _filters(wanted: QueueJobFilter) -> dict[str, str]:
    """Return a filter as an address or a form says it, its state aside."""
    named = {
        "environment_id": wanted.environment_id,
        "queue": wanted.queue.value if wanted.queue else None,
        "kind": wanted.kind,
        "lane": wanted.lane,
    }
    return {name: str(value) for name, value in named.items() if value is not None}


def _queue_and_lane(visit: Visit) -> tuple[Queue, str | None]:
    queue, lane = visit.choice("queue", Queue), visit.text("lane")
    violations = [] if queue is not None else [FieldViolation("queue", "is required")]
    if lane is not None and (problem := lane_problem(lane)):
        violations.append(FieldViolation("lane", problem))
    if queue is None or violations:
        raise InvalidRequestError(violations)
    return queue, lane


def _count(visit: Visit, name: str) -> int | None:
    """Return a number that an action put into the address; None when there is none."""
    text = visit.request.query.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < _MAX_DIGITS else None
