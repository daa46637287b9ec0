"""The doorbell in memory: passes the contract of the real one."""

from __future__ import annotations

import time
from collections import defaultdict
from datetime import timedelta
from itertools import repeat
from typing import TYPE_CHECKING

from services.endpoints.domain.flag import Flag
from services.endpoints.domain.ports.publisher import QueueUnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_LANES = 50
MAX_LANE_CHARACTERS = 200


class _Message(list[str]):
    """Lane names with the time they are ordered by."""

    score: float


class MemoryPublisher:
    """Keeps messages in `messages`, by queue, next first; fails while `is_away`."""

    def __init__(self, *, window: int = 64) -> None:
        self.messages: defaultdict[str, list[list[str]]] = defaultdict(list)
        self.is_away = False
        self._window = window

    async def publish(
        self, queue: str, batches: Sequence[Sequence[str]], *, behind: Sequence[timedelta] = ()
    ) -> int | None:
        for lanes in batches:
            if not 1 <= len(lanes) <= MAX_LANES or not all(0 < len(lane) <= MAX_LANE_CHARACTERS for lane in lanes):
                raise ValueError("A message names 1 to 50 lanes of 1 to 200 characters.")
        if batches:
            self._answer()
        waiting = self.messages[queue]
        now = time.monotonic()
        for lanes, later in zip(batches, behind or repeat(timedelta()), strict=False):
            message = _Message(lanes)
            message.score = now + later.total_seconds()
            waiting.append(message)
        waiting.sort(key=lambda message: getattr(message, "score", now))
        return max(0, self._window - len(waiting)) if batches else None

    async def waiting(self, queue: str) -> int:
        self._answer()
        return len(self.messages[queue])

    async def room(self, queues: Sequence[str]) -> dict[str, int]:
        if queues:
            self._answer()
        return {queue: max(0, self._window - len(self.messages[queue])) for queue in queues}

    def _answer(self) -> None:
        if self.is_away:
            raise QueueUnavailableError("The queue in memory is away.")


class MemoryWakeUp(Flag):
    def __init__(self, listeners: set[MemoryWakeUp]) -> None:
        super().__init__()
        self._listeners = listeners
        listeners.add(self)

    def close(self) -> None:
        self._listeners.discard(self)


class MemoryWakeUps:
    """Wakes the listeners of all that share `listeners`, as several processes share a Redis."""

    def __init__(self, listeners: set[MemoryWakeUp] | None = None) -> None:
        self.listeners = set() if listeners is None else listeners

    def notify(self) -> None:
        for listener in self.listeners:
            listener.wake()

    def subscribe(self) -> MemoryWakeUp:
        return MemoryWakeUp(self.listeners)
