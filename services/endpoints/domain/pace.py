"""How many queue jobs go into one transaction, so that it stays short whatever they do and whoever else is at work."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import timedelta

    from services.endpoints.domain.queue_job import Queue


@dataclass(slots=True)
class Pace:
    """Learns from full batches, queue by queue: half-way to the size that would have taken `aim`; at first `most`.

    Never below `fewest`, as many as there are lanes in a message, so that each of them gets its turn. Smaller batches
    say nothing, because most of their time goes into what any batch takes.
    """

    fewest: int
    most: int
    aim: timedelta
    _sizes: dict[Queue, int] = field(default_factory=dict)

    def size(self, queue: Queue) -> int:
        """Return how many queue jobs the next batch may hold."""
        return self._sizes.get(queue, self.most)

    @property
    def is_slow(self) -> bool:
        """Tell whether full batches of a queue hold less than they might, because they took too long."""
        return any(size < self.most for size in self._sizes.values())

    def learn(self, queue: Queue, *, queue_jobs: int, took: timedelta) -> None:
        """Note how long a batch took.

        With an aim of 75 ms a batch of 200 that took 150 ms is followed by one of 150, and if that takes 112.5 ms by
        one of 125, until 100 take the 75 ms aimed at.
        """
        size = self.size(queue)
        if queue_jobs >= size and took:
            fitting = size * (self.aim / took)
            self._sizes[queue] = max(self.fewest, min(self.most, round((size + fitting) / 2)))
