"""Runs each kind's `on_final`, whatever led a queue job to its final state."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from services.endpoints.domain.ports.ledger import FinalQueueJob
    from services.endpoints.domain.ports.store import Transaction
    from services.endpoints.operations.handlers import OnFinal


class Finality:
    """Knows each kind's `on_final`; kinds nobody knows have none."""

    def __init__(self, *, handlers: Mapping[str, OnFinal]) -> None:
        """Take the handlers by kind."""
        self._handlers = handlers

    async def settle(self, tx: Transaction, queue_jobs: Sequence[FinalQueueJob]) -> None:
        """Run `on_final` for queue jobs that became final in this transaction, handler by handler."""
        batches: dict[OnFinal, list[FinalQueueJob]] = {}
        for queue_job in queue_jobs:
            if handler := self._handlers.get(queue_job.kind):
                batches.setdefault(handler, []).append(queue_job)
        for handler, batch in batches.items():
            await handler.on_final(tx, batch)
