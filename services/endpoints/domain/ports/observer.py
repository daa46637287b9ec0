"""Who takes notice of what the ledger does."""

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
