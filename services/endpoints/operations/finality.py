"""Runs each kind's `on_final`, whatever led a queue job to its final state."""

from __future__ import annotations

from itertools import groupby
from operator import attrgetter
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
        """Run `on_final` for queue jobs that became final in this transaction, kind by kind."""
        kind_of = attrgetter("kind")
        for kind, group in groupby(sorted(queue_jobs, key=kind_of), key=kind_of):
            if handler := self._handlers.get(kind):
                await handler.on_final(tx, list(group))
