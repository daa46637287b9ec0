"""Call backs that wait while others run go together: one transaction for all of them instead of one for each."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from contextvars import Context
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from services.endpoints.domain.queue_job import Queue

_PASSED_OVER_AT_MOST: Final = 4


@dataclass(frozen=True, slots=True)
class RunResult:
    """What one call back did, for which recorded traces; all zeros means that there was nothing due."""

    completed: int = 0
    failed: int = 0
    traceparents: tuple[str, ...] = ()

    def __add__(self, other: RunResult) -> RunResult:
        return RunResult(
            self.completed + other.completed, self.failed + other.failed, self.traceparents + other.traceparents
        )

    @property
    def is_nothing_due(self) -> bool:
        """Tell whether no queue job was taken."""
        return not self.completed and not self.failed


@dataclass(slots=True, eq=False)
class Share:
    """What one call back has in its batches: the lanes it waits for, what they did so far, and which must run alone.

    `began` is when its first batch did, in seconds of the monotonic clock; `error` is what ended it early.
    """

    queue: Queue
    lanes: set[str]
    began: float = math.inf
    result: RunResult = field(default_factory=RunResult)
    suspects: list[str] = field(default_factory=list)
    error: BaseException | None = None
    ended: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def end(self, lanes: Iterable[str]) -> None:
        """Answer the call back when these were the last of its lanes."""
        self.lanes.difference_update(lanes)
        if not self.lanes and not self.ended.done():
            self.ended.set_result(None)

    def fail(self, error: BaseException) -> None:
        """End the call back with an error, unless it has been answered."""
        if not self.ended.done():
            self.error = error
            self.ended.set_result(None)


class Gathering:
    """Runs some batches at once, each of all that waits for one queue when it begins.

    `run` carries out the shares of one queue, and ends the lanes of each that have nothing left to do. Who has others
    waits again in a line of its own, before which go those who come, up to four batches of them: many long lanes keep
    nobody waiting for more than a batch. A batch has no more lanes than `most_lanes` says, unless one call back alone
    has more.
    """

    def __init__(
        self,
        *,
        run: Callable[[Queue, Sequence[Share]], Awaitable[None]],
        most_lanes: Callable[[Queue], int],
        at_once: Callable[[], int],
    ) -> None:
        """Wait for the first call back."""
        self._run = run
        self._most_lanes = most_lanes
        self._at_once = at_once
        self._coming: deque[Share] = deque()
        self._resuming: deque[Share] = deque()
        self._passed_over = 0
        self._batches: set[asyncio.Task[None]] = set()

    async def join(self, queue: Queue, lanes: Iterable[str]) -> Share:
        """Return what came of lanes, once they have ended or `run` has raised."""
        share = Share(queue, set(lanes))
        self._coming.append(share)
        self._begin()
        await share.ended
        return share

    def _begin(self) -> None:
        while (self._coming or self._resuming) and len(self._batches) < self._at_once():
            shares = self._next()
            for share in shares:
                share.began = min(share.began, time.monotonic())
            # In a context of its own: a batch is nobody's call.
            batch = asyncio.create_task(self._carry_out(shares), context=Context())
            self._batches.add(batch)
            batch.add_done_callback(partial(self._ended, shares), context=Context())

    async def _carry_out(self, shares: Sequence[Share]) -> None:
        await self._run(shares[0].queue, shares)

    def _ended(self, shares: Sequence[Share], batch: asyncio.Task[None]) -> None:
        self._batches.discard(batch)
        error = asyncio.CancelledError() if batch.cancelled() else batch.exception()
        for share in shares:
            if error is not None:
                share.fail(error)
            elif share.lanes:
                self._resuming.append(share)
        self._begin()

    def _next(self) -> list[Share]:
        """Take who has waited longest in the line whose turn it is, and those of the same queue who fit in with it."""
        resumes = bool(self._resuming) and (not self._coming or self._passed_over >= _PASSED_OVER_AT_MOST)
        self._passed_over = self._passed_over + 1 if self._resuming and not resumes else 0
        lines = (self._resuming, self._coming) if resumes else (self._coming, self._resuming)
        queue = lines[0][0].queue
        room = self._most_lanes(queue)
        taken: list[Share] = []
        for line in lines:
            for _ in range(len(line)):
                share = line.popleft()
                if share.queue is queue and (not taken or len(share.lanes) <= room):
                    room -= len(share.lanes)
                    taken.append(share)
                else:
                    line.append(share)
        return taken
