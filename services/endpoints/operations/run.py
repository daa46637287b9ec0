"""Runs what lanes hold: the one thing a worker's call back asks for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog

from services.endpoints.domain.catalog import CALLING_QUEUES
from services.endpoints.domain.errors import KongflowError
from services.endpoints.domain.tracing import NO_TRACER, set_traceparent
from services.endpoints.operations.batches import BatchRunner
from services.endpoints.operations.calls import CallRunner
from services.endpoints.operations.endings import Endings
from services.endpoints.operations.gathering import RunResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from services.endpoints.domain.ledger_settings import LedgerSettings
    from services.endpoints.domain.ports.clock import Jitter
    from services.endpoints.domain.ports.observer import LedgerObserver
    from services.endpoints.domain.ports.store import Store
    from services.endpoints.domain.ports.tracer import Tracer
    from services.endpoints.domain.queue_job import Queue
    from services.endpoints.operations.finality import Finality
    from services.endpoints.operations.handlers import BatchHandler, CallingHandler
    from services.endpoints.operations.leases import LeaseKeeper


_log = structlog.get_logger(__name__)


class QueueJobRunner:
    """Pulls due queue jobs of rung lanes and carries them out."""

    def __init__(
        self,
        *,
        store: Store,
        batch_handlers: Mapping[str, BatchHandler],
        calling_handlers: Mapping[str, CallingHandler[Any, Any]],
        finality: Finality,
        leases: LeaseKeeper,
        settings: LedgerSettings,
        observer: LedgerObserver,
        jitter: Jitter,
        batches_at_once: int = 3,
        tracer: Tracer = NO_TRACER,
    ) -> None:
        """Hold the ports; more than `batches_at_once` transactions of database work would wait for each other."""
        endings = Endings(finality=finality, backoff=settings.backoff, observer=observer, jitter=jitter)
        self._batches = BatchRunner(
            store=store,
            handlers=batch_handlers,
            endings=endings,
            leases=leases,
            settings=settings,
            at_once=batches_at_once,
            tracer=tracer,
        )
        self._calls = CallRunner(
            store=store,
            handlers=calling_handlers,
            finality=finality,
            endings=endings,
            leases=leases,
            settings=settings,
            jitter=jitter,
            tracer=tracer,
        )
        self._observer = observer
        self._begun: set[asyncio.Task[RunResult]] = set()

    async def run_queue_jobs(self, queue: Queue, lanes: Sequence[str]) -> RunResult:
        """Run what is due in `lanes`; a caller that goes away does not stop what has begun.

        Raises:
            ConflictError: the database gave way every time; the lanes are rung again.
            DatabaseUnavailableError: PostgreSQL is away; the same.
        """
        task = asyncio.create_task(self._run(queue, sorted(set(lanes))))
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            # The shield would keep to itself what it raises from here on.
            task.add_done_callback(_tell_of_failure)
            raise

    @property
    def begun(self) -> Sequence[asyncio.Task[RunResult]]:
        """Return what has begun and not ended; what is cancelled is taken up when its leases have run out."""
        return tuple(self._begun)

    async def drain(self) -> None:
        """Wait until everything that has begun has ended."""
        while self._begun:
            await asyncio.wait(self._begun)

    async def _run(self, queue: Queue, lanes: Sequence[str]) -> RunResult:
        # A call back carries work of many traces, so that none of it belongs to the call back's own.
        set_traceparent(None)
        if queue in CALLING_QUEUES:
            # All of them end, and what they did is counted, before one's failure is told.
            ends = await asyncio.gather(*(self._calls.run(queue, lane) for lane in lanes), return_exceptions=True)
        else:
            ends = await self._batches.run(queue, lanes)
        result = sum((end for end in ends if isinstance(end, RunResult)), RunResult())
        self._observer.count_run(queue.value, completed=result.completed, failed=result.failed)
        if failures := [end for end in ends if isinstance(end, BaseException)]:
            raise failures[0]
        return result


def _tell_of_failure(task: asyncio.Task[RunResult]) -> None:
    """Log what a call back raises whose worker has left: nobody else is told."""
    if task.cancelled() or (error := task.exception()) is None:
        return
    if isinstance(error, KongflowError):
        _log.warning("call_back_failed", reason=error.reason.value)
    else:
        _log.error("call_back_failed", exc_info=error)
