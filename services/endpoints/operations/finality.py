"""Runs each kind's `on_final`, whatever led a queue job to its final state."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import structlog

from services.endpoints.domain.errors import ConflictError, DatabaseUnavailableError
from services.endpoints.domain.queue_job import QueueJobState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from services.endpoints.domain.ports.ledger import FinalQueueJob
    from services.endpoints.domain.ports.observer import DiscardObserver
    from services.endpoints.domain.ports.store import Transaction
    from services.endpoints.operations.handlers import OnFinal

_log = structlog.get_logger(__name__)


class Finality:
    """Knows each kind's `on_final`; kinds nobody knows have none."""

    def __init__(self, *, handlers: Mapping[str, OnFinal], observer: DiscardObserver | None = None) -> None:
        """Take the handlers by kind, and who counts what is discarded."""
        self._handlers = handlers
        self._observer = observer

    async def settle(self, tx: Transaction, queue_jobs: Sequence[FinalQueueJob], *, isolating: bool = False) -> None:
        """Run `on_final` for queue jobs that became final in this transaction, handler by handler.

        `isolating` runs it for each queue job behind a savepoint of its own: one that fails is logged and final all the
        same, so that it cannot hold up its lane for ever.
        """
        batches: dict[OnFinal, list[FinalQueueJob]] = {}
        for queue_job in queue_jobs:
            if self._observer is not None and queue_job.state is QueueJobState.DISCARDED:
                tx.after_commit(partial(self._observer.count_discarded, queue_job.kind, queue_job.reason or ""))
            if handler := self._handlers.get(queue_job.kind):
                batches.setdefault(handler, []).append(queue_job)
        for handler, batch in batches.items():
            if isolating:
                for queue_job in batch:
                    await _settle_alone(tx, handler, queue_job)
            else:
                await handler.on_final(tx, batch)


async def _settle_alone(tx: Transaction, handler: OnFinal, queue_job: FinalQueueJob) -> None:
    try:
        async with tx.savepoint():
            await handler.on_final(tx, [queue_job])
    except (ConflictError, DatabaseUnavailableError):
        raise
    except Exception as error:  # noqa: BLE001 - logged; the queue job stays final
        _log.error("on_final_failed", queue_job_id=str(queue_job.id), kind=queue_job.kind, exc_info=error)
