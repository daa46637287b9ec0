"""How long to wait before trying something again."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

SHORTEST_BACKOFF: Final = timedelta(milliseconds=50)
LONGEST_BACKOFF: Final = timedelta(seconds=2)
_MOST_DOUBLINGS: Final = 16


def backoff(failures: int, *, jitter: float) -> timedelta:
    """Return the pause after `failures` failures in a row (1 or more), at most 2 s.

    It doubles from 50 ms; `jitter` in [0, 1) spreads it over its upper half, so that many workers do not return at
    once: with jitter 0 it is 25, 50, 100, 200, 400, 800, 1000, 1000 ms …
    """
    longest: timedelta = min(SHORTEST_BACKOFF * 2 ** min(failures - 1, _MOST_DOUBLINGS), LONGEST_BACKOFF)
    return longest * (1 + jitter) / 2
