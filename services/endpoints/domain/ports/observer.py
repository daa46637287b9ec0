"""Who takes notice of what the ledger and the dispatchers do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta
    from uuid import UUID


@dataclass(frozen=True, slots=True)
class PoolReading:
    """How a pool of connections is used: how many it has, how many are lent, and how many borrowers wait."""

    name: str
    size: int
    in_use: int
    waiting: int


@dataclass(frozen=True, slots=True)
class DatabaseReading:
    """What the database says of itself: lag by queue and snapshots in seconds, endpoints by state."""

    ring_lag_seconds: Mapping[str, float]
    oldest_snapshot_seconds: float
    endpoints: Mapping[str, int]


class LedgerObserver(Protocol):
    """Counts; it never fails and never waits."""

    def count_run(self, queue: str, *, completed: int, failed: int) -> None:
        """Count queue jobs that a call back carried out."""
        ...

    def count_rung_again(self, lanes: int) -> None:
        """Count lanes whose lease ran out."""
        ...

    def count_attempts(self, kind: str, result: str, attempts: int) -> None:
        """Count attempts that ended: `completed`, `failed` or `snoozed`."""
        ...


class LoopObserver(Protocol):
    """Counts what fails in the background; it never fails and never waits."""

    def count_failed_round(self, loop: str) -> None:
        """Count a round of a loop that failed and is repeated."""
        ...


class DiscardObserver(Protocol):
    """Counts what is given up; it never fails and never waits."""

    def count_discarded(self, kind: str, reason: str) -> None:
        """Count a queue job that will not be tried again."""
        ...


class EndpointObserver(Protocol):
    """Counts what becomes of endpoints; it never fails and never waits."""

    def count_created(self, *, environment_id: UUID, organization_id: UUID) -> None:
        """Count an endpoint that was registered."""
        ...


class DispatchObserver(Protocol):
    """Counts what is wrong with dispatchers; it never fails and never waits."""

    def count_unreadable_filters(self, dispatchers: int) -> None:
        """Count dispatchers that an event passed by because their filter cannot be read."""
        ...

    def count_delivered(self, events: int, *, invocations: int) -> None:
        """Count events that were given to dispatchers, and the invocations that were asked for."""
        ...


class EndpointCallObserver(Protocol):
    """Measures calls to customers; it never fails and never waits. `status` is `ok` or the name of a call's failure."""

    def observe_ping(self, status: str, duration: timedelta) -> None:
        """Count a ping."""
        ...

    def observe_index(self, status: str, duration: timedelta) -> None:
        """Count the fetch of an index, its reading included."""
        ...


class Observer(LedgerObserver, DispatchObserver, DiscardObserver, EndpointObserver, Protocol):
    """Takes notice of everything."""
