"""What the endpoints service needs from the doorbell: publish lane names, know how many wait, wake who listens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta


class QueueUnavailableError(Exception):
    """The doorbell is away, full or refuses commands; nothing is lost, because the ledger rings again."""


class Publisher(Protocol):
    """Hands messages to the workers of a queue."""

    async def publish(
        self, queue: str, batches: Sequence[Sequence[str]], *, behind: Sequence[timedelta] = ()
    ) -> int | None:
        """Publish one message per batch of lane names, in the order given, and return `room`, in one round trip.

        Each batch holds 1 to 50 lane names. `behind` says of each message how much later ones still go before it;
        empty means none. No batches means no round trip, and None. When it fails, some messages may have gone out all
        the same: a doubled message is harmless.

        Raises:
            QueueUnavailableError: the doorbell did not take all of them.
            ValueError: a batch is empty, too long or names an impossible lane.
        """
        ...

    async def waiting(self, queue: str) -> int:
        """Return how many messages of `queue` no worker has picked up yet.

        Raises:
            QueueUnavailableError: the doorbell did not answer.
        """
        ...

    async def room(self, queues: Sequence[str]) -> Mapping[str, int]:
        """Return for each queue how many messages its window still takes (0 or more), in one round trip for all.

        Raises:
            QueueUnavailableError: the doorbell did not answer.
        """
        ...


class WakeUp(Protocol):
    """One listener's flag."""

    async def wait(self, timeout: timedelta) -> bool:
        """Return True when woken, False after `timeout`; at once when woken since the last call.

        The flag is down when this returns, so whoever looks afterwards misses nothing: a wake-up during the look is
        answered by the next call. A wake-up is a hint and may come without cause.
        """
        ...

    def wake(self) -> None:
        """Wake this listener alone."""
        ...

    def close(self) -> None:
        """Stop listening; a second call does nothing."""
        ...


class WakeUps(Protocol):
    """Tells every relay and watcher, in this process and in others, that there is something to look at."""

    def notify(self) -> None:
        """Wake all listeners; those of this process at once, the others soon and coalesced.

        Never blocks and never raises: a listener's own safety poll covers what is lost.
        """
        ...

    def subscribe(self) -> WakeUp:
        """Return a new listener, its flag down."""
        ...
