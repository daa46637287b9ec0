"""When a failed attempt may be repeated."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

MAX_GROWTHS: Final = 32


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with jitter: base 1 s, times factor 2, capped at 10 min, spread over the upper half.

    Worked series without jitter (1.0): 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600 s.
    Source: AIP-194; Cloud Tasks RetryConfig.
    """

    base: timedelta = timedelta(seconds=1)
    cap: timedelta = timedelta(minutes=10)
    factor: float = 2

    def delay(self, *, attempt: int, jitter: float) -> timedelta:
        """Return how long to wait after attempt `attempt` (from 1) failed; `jitter` in [0, 1)."""
        grown_seconds = self.base.total_seconds() * self.factor ** min(attempt - 1, MAX_GROWTHS)
        return min(timedelta(seconds=min(grown_seconds, self.cap.total_seconds())), self.cap) * (0.5 + jitter / 2)
