"""What the queues looked like a moment ago: kept while somebody looks, and for nobody else."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from services.endpoints.domain.queue_job import QueueJobState

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from services.endpoints.domain.queue_job import Queue
    from services.endpoints.domain.queue_stats import QueueStats

WINDOW: Final = timedelta(minutes=5)

_APART: Final = timedelta(seconds=1)
_MAX_LOOKED_AT: Final = 256


@dataclass(frozen=True, slots=True)
class Sample:
    """Each queue's numbers at one moment: how many are due and not taken, and the 95th percentile of their wait."""

    at_seconds: float
    waiting: Mapping[Queue, int]
    pickup_seconds: Mapping[Queue, float]


class QueueHistory:
    """Remembers what was shown in the last five minutes, at most two samples a second, by whose queues they are.

    The longest forgotten of more than 256 is dropped. Every server remembers what it showed itself.
    """

    def __init__(self, *, monotonic: Callable[[], float]) -> None:
        """Remember nothing yet; `monotonic` is in seconds."""
        self._monotonic = monotonic
        self._samples: dict[Hashable, deque[Sample]] = {}

    def add(self, whose: Hashable, stats: Sequence[QueueStats]) -> list[Sample]:
        """Remember these numbers; return those of the window, oldest first, and these at the end."""
        now = self._monotonic()
        samples = self._samples.pop(whose, None) or deque()
        while samples and now - samples[0].at_seconds > WINDOW.total_seconds():
            samples.popleft()
        if len(samples) > 1 and now - samples[-2].at_seconds < _APART.total_seconds():
            samples.pop()
        samples.append(_sample(now, stats))
        self._samples[whose] = samples
        if len(self._samples) > _MAX_LOOKED_AT:
            del self._samples[next(iter(self._samples))]
        return list(samples)


def _sample(now: float, stats: Sequence[QueueStats]) -> Sample:
    return Sample(
        now,
        waiting={each.queue: each.counts.get(QueueJobState.AVAILABLE, 0) for each in stats},
        pickup_seconds={each.queue: each.pickup.p95.total_seconds() for each in stats if each.pickup is not None},
    )
