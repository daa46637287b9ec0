"""Who takes notice of what the ledger and the dispatchers do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from datetime import timedelta


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


class EndpointCallObserver(Protocol):
    """Measures calls to customers; it never fails and never waits. `status` is `ok` or the name of a call's failure."""

    def observe_ping(self, status: str, duration: timedelta) -> None:
        """Count a ping."""
        ...

    def observe_index(self, status: str, duration: timedelta) -> None:
        """Count the fetch of an index, its reading included."""
        ...


class Observer(LedgerObserver, DispatchObserver, Protocol):
    """Takes notice of everything."""
