"""Publishes messages in the form arq's workers read, many in one round trip."""

from __future__ import annotations

import time
from datetime import timedelta
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from arq.constants import job_key_prefix
from redis.exceptions import RedisError

from services.endpoints.domain.ledger_settings import LedgerSettings
from services.endpoints.domain.ports.publisher import QueueUnavailableError
from services.endpoints.queue.message import message_id, queue_key, write_message

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from arq.connections import ArqRedis

MESSAGE_LIFE: Final = timedelta(days=1)
DEFAULT_WINDOW: Final = LedgerSettings().max_waiting_messages
_MILLISECOND: Final = timedelta(milliseconds=1)


class ArqPublisher:
    """A `Publisher` on Redis.

    arq's own `enqueue_job` takes four round trips a message and looks for a job of the same id; here ids are never used
    twice, so writing is all there is to do. A message that nobody reads is gone after a day.
    """

    def __init__(
        self,
        *,
        redis: ArqRedis,
        window: int = DEFAULT_WINDOW,
        new_prefix: Callable[[], str] = lambda: uuid4().hex,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """Publish through `redis`, which stays the caller's.

        `window` is the number of messages that may wait in one queue. `new_prefix` must never give the same text
        twice; `clock_ms` counts milliseconds from the Unix epoch, and is set right by Redis's at every look for room,
        because servers' messages are in one order.
        """
        self._redis = redis
        self._window = window
        self._prefix = new_prefix()
        self._clock_ms = clock_ms
        self._slow_by_ms = 0
        self._published = 0

    async def publish(
        self, queue: str, batches: Sequence[Sequence[str]], *, behind: Sequence[timedelta] = ()
    ) -> int | None:
        """Publish one message per batch of lane names; see `Publisher`."""
        if not batches:
            return None
        now_ms = self._clock_ms() + self._slow_by_ms
        bodies = [write_message(queue=queue, lanes=lanes, enqueue_time_ms=now_ms) for lanes in batches]
        scores: dict[str, float] = {}
        pipeline = self._redis.pipeline(transaction=False)
        for lanes, body, later in zip(batches, bodies, behind or repeat(timedelta()), strict=False):
            self._published += 1
            job_id = message_id(self._prefix, self._published, lanes)
            pipeline.psetex(job_key_prefix + job_id, MESSAGE_LIFE, body)
            scores[job_id] = now_ms + later / _MILLISECOND
        # After the bodies: a worker that pops an id finds what it names.
        pipeline.zadd(queue_key(queue), scores)
        pipeline.zcard(queue_key(queue))
        *_, count = await self._answers(pipeline)
        return self._room_beside(count)

    async def waiting(self, queue: str) -> int:
        """Return how many messages of `queue` wait; see `Publisher`."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.zcard(queue_key(queue))
        (count,) = await self._answers(pipeline)
        return int(count)

    async def room(self, queues: Sequence[str]) -> dict[str, int]:
        """Return how many more messages each queue takes; see `Publisher`."""
        if not queues:
            return {}
        pipeline = self._redis.pipeline(transaction=False)
        for queue in queues:
            pipeline.zcard(queue_key(queue))
        pipeline.time()
        *counts, (seconds, microseconds) = await self._answers(pipeline)
        self._slow_by_ms = seconds * 1000 + microseconds // 1000 - self._clock_ms()
        return {queue: self._room_beside(count) for queue, count in zip(queues, counts, strict=True)}

    def _room_beside(self, waiting: int) -> int:
        return max(0, self._window - waiting)

    @staticmethod
    async def _answers(pipeline: Any) -> list[Any]:  # noqa: ANN401 - redis-py types a pipeline's answers as Any
        """Send the commands and return their answers.

        The driver's own report of a refused command (`raise_on_error`) holds the whole command, so it is not used.
        """
        try:
            async with pipeline:
                answers: list[Any] = await pipeline.execute(raise_on_error=False)
        except (RedisError, OSError) as error:
            raise QueueUnavailableError(f"Redis is away: {type(error).__name__}.") from error
        for answer in answers:
            if isinstance(answer, Exception):
                raise QueueUnavailableError(f"Redis refused a command: {type(answer).__name__}.") from answer
        return answers
