"""Who takes notice of what the ledger and the dispatchers do."""

from __future__ import annotations

from typing import Protocol


class LedgerObserver(Protocol):
    """Counts; it never fails and never waits."""

    def count_run(self, queue: str, *, completed: int, failed: int) -> None:
        """Count queue jobs that a call back carried out."""
        ...

    def count_rung_again(self, lanes: int) -> None:
        """Count lanes whose lease ran out."""
        ...


class DispatchObserver(Protocol):
    """Counts what is wrong with dispatchers; it never fails and never waits."""

    def count_unreadable_filters(self, dispatchers: int) -> None:
        """Count dispatchers that an event passed by because their filter cannot be read."""
        ...


class Observer(LedgerObserver, DispatchObserver, Protocol):
    """Takes notice of everything."""
