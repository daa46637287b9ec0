"""Call backs that wait while others run go together: one transaction for all of them instead of one for each."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from services.endpoints.domain.queue_job import Queue


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
    """What one call back has in a batch: the lanes it waits for, and what they did so far."""

    queue: Queue
    lanes: set[str]
    result: RunResult = field(default_factory=RunResult)
    ended: asyncio.Future[RunResult] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def end(self, lanes: Iterable[str]) -> None:
        """Answer the call back when these were the last of its lanes."""
        self.lanes.difference_update(lanes)
        if not self.lanes and not self.ended.done():
            self.ended.set_result(self.result)

    def fail(self, error: BaseException) -> None:
        """Fail the call back, unless it has been answered."""
        if not self.ended.done():
            self.ended.set_exception(error)


class Gathering:
    """Runs some batches at once, each of all that waits for one queue when it begins.

    `run` carries out the shares of one queue, ends each, and gives each lane to one of them. A batch has no more lanes
    than `most_lanes` says, unless one call back alone has more.
    """

    def __init__(
        self,
        *,
        run: Callable[[Queue, Sequence[Share]], Awaitable[None]],
        most_lanes: Callable[[Queue], int],
        at_once: int,
    ) -> None:
        """Wait for the first call back."""
        self._run = run
        self._most_lanes = most_lanes
        self._at_once = at_once
        self._waiting: deque[Share] = deque()
        self._batches: set[asyncio.Task[None]] = set()

    async def join(self, queue: Queue, lanes: Iterable[str]) -> RunResult:
        """Return what lanes did, once they have ended.

        Raises:
            Exception: what `run` raised before they had.
        """
        share = Share(queue, set(lanes))
        self._waiting.append(share)
        self._begin()
        return await share.ended

    def _begin(self) -> None:
        while self._waiting and len(self._batches) < self._at_once:
            batch = asyncio.create_task(self._carry_out(self._next()))
            self._batches.add(batch)
            batch.add_done_callback(self._ended)

    def _ended(self, batch: asyncio.Task[None]) -> None:
        self._batches.discard(batch)
        self._begin()

    def _next(self) -> list[Share]:
        """Take who has waited longest, and those of the same queue who fit in with it."""
        queue = self._waiting[0].queue
        room = self._most_lanes(queue)
        taken: list[Share] = []
        left: deque[Share] = deque()
        for share in self._waiting:
            if share.queue is queue and (not taken or len(share.lanes) <= room):
                room -= len(share.lanes)
                taken.append(share)
            else:
                left.append(share)
        self._waiting = left
        return taken

    async def _carry_out(self, shares: Sequence[Share]) -> None:
        try:
            await self._run(shares[0].queue, shares)
        except BaseException as error:
            for share in shares:
                share.fail(error)
            if not isinstance(error, Exception):
                raise
