"""Pops the messages of one queue and hands each to the endpoints service."""

from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import structlog
from arq.constants import job_key_prefix
from arq.jobs import DeserializationError, deserialize_job_raw
from arq.worker import Worker, func
from redis.exceptions import RedisError

from services.worker.crash_points import crash_point
from services.worker.message import (
    FUNCTION_NAME,
    MAX_MESSAGE_BYTES,
    MESSAGE_VERSION,
    NewerMessageError,
    UnreadableMessageError,
    named_lane,
    queue_key,
    read_message,
    set_aside_key,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from arq.connections import ArqRedis
    from arq.typing import WorkerCoroutine

    from services.worker.metrics import WorkerMetrics

MAX_SET_ASIDE: Final = 1_000
_JOB_KEY: Final = job_key_prefix.encode()


class Server(Protocol):
    """Whoever runs the lanes."""

    @property
    def is_reachable(self) -> bool:
        """Tell whether a call made now has somebody to answer it."""
        ...

    async def wait_until_reachable(self) -> None:
        """Return when `is_reachable`."""
        ...

    async def run_queue_jobs(self, queue: str, lanes: Sequence[str]) -> None:
        """Run `lanes` of `queue`; return when that ended, however it ended."""
        ...


class PoppingWorker(Worker):
    """An arq worker that pops its messages instead of polling for them.

    arq reads all waiting and running messages at every poll and keeps a lease on each; here a message leaves Redis when
    it is picked up, and when it is lost on the way the ledger rings again. The blocking pop is the wake-up, so an idle
    worker picks up at once and costs one command a second.
    """

    def __init__(
        self,
        *,
        queue: str,
        concurrency: int,
        server: Server,
        redis: ArqRedis,
        metrics: WorkerMetrics,
        pop_timeout: timedelta,
        job_timeout: timedelta,
    ) -> None:
        """Serve `queue` with at most `concurrency` calls at once.

        `redis` stays the caller's. `pop_timeout` is how long one blocking pop waits, and so how long a drain may wait
        for it; `job_timeout` ends a call that does not obey its own deadline.
        """
        super().__init__(
            functions=[func(cast("WorkerCoroutine", self._run_queue_jobs), name=FUNCTION_NAME)],
            queue_name=queue_key(queue),
            redis_pool=redis,
            handle_signals=False,
            max_jobs=concurrency,
            job_timeout=job_timeout,
            keep_result=0,
            retry_jobs=False,
            log_results=False,
            job_deserializer=read_message,
        )
        self._queue = queue
        self._server = server
        self._metrics = metrics
        self._pop_timeout_seconds = pop_timeout.total_seconds()
        self._is_backlogged = False
        self._call_numbers = itertools.count()
        self._popping_connection = 0
        self.pops = 0
        self._has_redis = False
        self._draining = asyncio.Event()
        self._slot_freed = asyncio.Event()
        self._log = structlog.get_logger(__name__).bind(queue=queue)

    @property
    def is_popping(self) -> bool:
        """Tell whether it takes messages: Redis answers, and nobody told it to stop."""
        return self._has_redis and not self._draining.is_set()

    async def main(self) -> None:
        """Pop and run messages until `stop_popping` is called; calls under way go on after it returns.

        Raises:
            redis.exceptions.RedisError: Redis is away or refuses; may be called again.
        """
        # All commands of this coroutine follow one another, so the pool gives them this one connection.
        self._popping_connection = int(await self.pool.client_id())
        self._note_redis(has_redis=True)
        pops_before = self.pops
        try:
            while not self._draining.is_set():
                if self.job_counter >= self.max_jobs:
                    await self._unless_draining(self._slot_freed)
                elif not self._server.is_reachable:
                    await self._reachable_or_draining()
                else:
                    await self._pop(self.max_jobs - self.job_counter)
                    self.pops += 1
                    if self.pops == pops_before + 1:
                        self._log.info("popping")
        finally:
            self._note_redis(has_redis=False)

    def stop_popping(self) -> None:
        """Have `main` return as soon as its present pop ends; what that pop brings is still run."""
        self.allow_pick_jobs = False
        self._draining.set()
        self._slot_freed.set()

    async def end_pop(self) -> None:
        """End the blocking pop under way, if Redis can be asked to; otherwise it ends by its own timeout."""
        with suppress(RedisError, OSError):
            await self.pool.client_unblock(self._popping_connection)

    async def drain(self, timeout: timedelta) -> int:
        """Wait for the calls under way, cancel those that outlast `timeout`, and return how many were cancelled."""
        held = set(self.tasks.values())
        if not held:
            return 0
        _, late = await asyncio.wait(held, timeout=timeout.total_seconds())
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        return len(late)

    async def close(self) -> None:
        """Cancel what is still under way."""
        self.stop_popping()
        tasks = list(self.tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _note_redis(self, *, has_redis: bool) -> None:
        self._has_redis = has_redis
        self._metrics.redis_connected.labels(self._queue).set(has_redis)

    async def _unless_draining(self, event: asyncio.Event) -> None:
        event.clear()
        if not self._draining.is_set():
            await event.wait()

    async def _reachable_or_draining(self) -> None:
        waits = {
            asyncio.create_task(self._server.wait_until_reachable()),
            asyncio.create_task(self._draining.wait()),
        }
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _pop(self, free: int) -> None:
        """Take up to `free` messages and start them; wait for the first when none is there."""
        pool: Any = self.pool
        if self._is_backlogged:
            popped = await pool.zpopmin(self.queue_name, free)
            self._is_backlogged = len(popped) == free
            await self._start(popped)
            return
        first = await pool.bzpopmin(self.queue_name, timeout=self._pop_timeout_seconds)
        if first is None:
            return
        _, *message = first
        rest = await self._start([message], then_pop=free - 1)
        self._is_backlogged = 0 < len(rest) == free - 1
        await self._start(rest)

    async def _start(self, popped: Sequence[Sequence[Any]], *, then_pop: int = 0) -> Sequence[Sequence[Any]]:
        """Start messages, ids with scores; return up to `then_pop` more, popped in the same round trip.

        One whose id names its lane starts at once, the others when they have been fetched. A text is read up to the
        longest a message may have, because Redis would hand over half a gigabyte.
        """
        if not popped:
            return []
        crash_point("after_pop", self._queue)
        unnamed = [job_id for job_id, score in popped if not self._start_named(job_id, score)]
        if len(unnamed) < len(popped):
            # Those that have started go out before Redis is asked for anything.
            await asyncio.sleep(0)
        pool: Any = self.pool
        async with pool.pipeline(transaction=False) as pipeline:
            for job_id in unnamed:
                pipeline.getrange(_JOB_KEY + job_id, 0, MAX_MESSAGE_BYTES)
            pipeline.unlink(*(_JOB_KEY + job_id for job_id, _ in popped))
            if then_pop:
                pipeline.zpopmin(self.queue_name, then_pop)
            answers = await pipeline.execute(raise_on_error=False)
        # What can be read starts before anything is set aside, because that takes Redis again.
        refused = [refusal for body in answers[: len(unnamed)] if (refusal := self._receive(body)) is not None]
        if refused:
            await self._set_aside(refused)
        if not then_pop:
            return []
        if isinstance(answers[-1], RedisError):
            raise answers[-1]
        rest: Sequence[Sequence[Any]] = answers[-1]
        return rest

    def _start_named(self, job_id: bytes, score: float) -> bool:
        """Start a message whose id names its lane; its score is when it was written, in milliseconds."""
        lane = named_lane(job_id)
        if lane is None:
            return False
        self._metrics.popped.labels(self._queue).inc()
        self._begin((MESSAGE_VERSION, self._queue, [lane]), enqueued_ms=score)
        return True

    def _receive(self, body: bytes | RedisError) -> bytes | None:
        """Start the message and return None, or return the bytes to set aside."""
        self._metrics.popped.labels(self._queue).inc()
        if isinstance(body, RedisError):
            # The key holds something else than a text: there are no bytes to keep but the refusal's.
            return self._refuse(str(body).encode(), UnreadableMessageError("It is no text."))
        if not body:
            self._metrics.missing.labels(self._queue).inc()
            self._log.warning("message_missing")
            return None
        try:
            _, arguments, _, _, enqueued_ms = deserialize_job_raw(body, deserializer=self.job_deserializer)
        except DeserializationError as error:
            return self._refuse(body, error.__cause__)
        if arguments[1] != self._queue:
            return self._refuse(body, UnreadableMessageError("It belongs to another queue."))
        self._begin(arguments, enqueued_ms=enqueued_ms)
        return None

    def _refuse(self, body: bytes, error: BaseException | None) -> bytes:
        reason = "newer" if isinstance(error, NewerMessageError) else "unreadable"
        self._metrics.set_aside.labels(self._queue, reason).inc()
        self._log.error("message_set_aside", reason=reason, rule=str(error), size_bytes=len(body))
        return body

    async def _set_aside(self, bodies: Sequence[bytes]) -> None:
        pool: Any = self.pool
        async with pool.pipeline(transaction=False) as pipeline:
            pipeline.lpush(set_aside_key(self._queue), *bodies)
            pipeline.ltrim(set_aside_key(self._queue), 0, MAX_SET_ASIDE - 1)
            await pipeline.execute()

    def _begin(self, arguments: Sequence[Any], *, enqueued_ms: float) -> None:
        self._metrics.pickup_seconds.labels(self._queue).observe(max(0.0, time.time() - enqueued_ms / 1000))
        # Not the message's id: a forged one may come twice.
        name = str(next(self._call_numbers))
        self.job_counter += 1
        self._metrics.in_flight.labels(self._queue).inc()
        task = asyncio.create_task(self._call(arguments))
        self.tasks[name] = task
        task.add_done_callback(lambda done: self._ended(name, done))

    async def _call(self, arguments: Sequence[Any]) -> None:
        async with asyncio.timeout(self.job_timeout_s):
            await self.functions[FUNCTION_NAME].coroutine({}, *arguments)

    async def _run_queue_jobs(self, _context: dict[Any, Any], _version: int, queue: str, lanes: list[str]) -> None:
        await self._server.run_queue_jobs(queue, lanes)

    def _ended(self, name: str, task: asyncio.Task[None]) -> None:
        del self.tasks[name]
        self.job_counter -= 1
        self._metrics.in_flight.labels(self._queue).dec()
        self._slot_freed.set()
        if task.cancelled():
            self.jobs_failed += 1
        elif (error := task.exception()) is not None:
            self.jobs_failed += 1
            self._metrics.crashes.labels(self._queue).inc()
            self._log.error("call_crashed", exc_info=error)
        else:
            self.jobs_complete += 1
