"""Wakes relays and watchers: at once inside the process, through one coalesced Redis PUBLISH everywhere else."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import structlog
from redis.exceptions import RedisError

from services.endpoints.domain.flag import Flag

if TYPE_CHECKING:
    from collections.abc import Callable

    from arq.connections import ArqRedis

CHANNEL: Final = "kongflow:wake"
QUIET: Final = timedelta(milliseconds=10)
IDLE_CHECK: Final = timedelta(seconds=5)
SHORTEST_BACKOFF: Final = timedelta(milliseconds=50)
LONGEST_BACKOFF: Final = timedelta(seconds=2)

_log = structlog.get_logger(__name__)


class RedisWakeUp(Flag):
    """One listener's flag; see `WakeUp`."""

    def __init__(self, listeners: set[RedisWakeUp]) -> None:
        """Join `listeners` until closed."""
        super().__init__()
        self._listeners = listeners
        listeners.add(self)

    def close(self) -> None:
        """Leave the listeners."""
        self._listeners.discard(self)


class RedisWakeUps:
    """`WakeUps` over Redis publish and subscribe.

    Listeners of this process are woken without Redis. The first wake-up after a quiet time is published at once, the
    next ones at most every 10 ms, however many commits there are. While Redis is away nothing is published and nothing
    raised; when it is back all listeners are woken once, because one of the others may have called meanwhile.
    """

    def __init__(
        self,
        *,
        redis: ArqRedis,
        quiet: timedelta = QUIET,
        idle_check: timedelta = IDLE_CHECK,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Use `redis`, which stays the caller's.

        `quiet` is the shortest time between two publishes, `idle_check` the silence after which the subscription proves
        that it is alive; `jitter` gives numbers in [0, 1).
        """
        self._redis = redis
        self._quiet = quiet
        self._idle_check = idle_check
        self._jitter = jitter
        self._own_name = uuid4().hex.encode()
        self._listeners: set[RedisWakeUp] = set()
        self._pending = asyncio.Event()
        self._subscribed = asyncio.Event()
        self._closing = asyncio.Event()
        self._stopped = asyncio.Event()
        self._stopped.set()

    def notify(self) -> None:
        """Wake all listeners; see `WakeUps`."""
        self._wake_own()
        self._pending.set()

    def subscribe(self) -> RedisWakeUp:
        """Return a new listener; see `WakeUps`."""
        return RedisWakeUp(self._listeners)

    async def subscribed(self) -> None:
        """Return once other processes are heard."""
        await self._subscribed.wait()

    async def run(self) -> None:
        """Publish and listen until `close` is called or the task is cancelled."""
        self._stopped.clear()
        work = [asyncio.create_task(self._publish_forever()), asyncio.create_task(self._listen_forever())]
        closing = asyncio.create_task(self._closing.wait())
        try:
            done, _ = await asyncio.wait([*work, closing], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (*work, closing):
                task.cancel()
            await asyncio.gather(*work, closing, return_exceptions=True)
            self._subscribed.clear()
            self._stopped.set()

    async def close(self) -> None:
        """End `run` and return when it has let go of Redis; a second call does nothing."""
        self._closing.set()
        await self._stopped.wait()

    def _wake_own(self) -> None:
        for listener in self._listeners:
            listener.wake()

    async def _publish_forever(self) -> None:
        is_away = False
        while True:
            await self._pending.wait()
            # Cleared before publishing: what is committed from here on is published again.
            self._pending.clear()
            try:
                await self._redis.publish(CHANNEL, self._own_name)
            except (RedisError, OSError) as error:
                if not is_away:
                    _log.warning("wake_ups_not_published", error=type(error).__name__)
                is_away = True
                await asyncio.sleep(LONGEST_BACKOFF.total_seconds() * (1 + self._jitter()) / 2)
            else:
                if is_away:
                    _log.info("wake_ups_published_again")
                is_away = False
                await asyncio.sleep(self._quiet.total_seconds())

    async def _listen_forever(self) -> None:
        failures = 0
        while True:
            try:
                await self._listen()
            except (RedisError, OSError) as error:
                if self._subscribed.is_set() or not failures:
                    _log.warning("wake_ups_not_heard", error=type(error).__name__)
                failures = 0 if self._subscribed.is_set() else failures
                self._subscribed.clear()
                await asyncio.sleep(_backoff(failures, self._jitter()).total_seconds())
                failures += 1

    async def _listen(self) -> None:
        """Listen until the subscription breaks, which is always an error."""
        subscription: Any = self._redis.pubsub()
        is_checked = False
        try:
            await subscription.subscribe(CHANNEL)
            while True:
                message = await subscription.get_message(timeout=self._idle_check.total_seconds())
                if message is None:
                    if is_checked:
                        raise TimeoutError
                    await subscription.ping()
                is_checked = message is None
                self._hear(message)
        finally:
            with suppress(RedisError, OSError):
                await subscription.aclose()

    def _hear(self, message: dict[str, Any] | None) -> None:
        if message is None:
            return
        if message["type"] == "subscribe":
            _log.info("wake_ups_heard")
            self._subscribed.set()
            self._wake_own()
        elif message["type"] == "message" and message["data"] != self._own_name:
            self._wake_own()


def _backoff(failures: int, jitter: float) -> timedelta:
    """Return the pause after `failures` earlier failures: 50 ms doubling to 2 s, spread over its upper half."""
    longest = min(SHORTEST_BACKOFF * 2.0 ** min(failures, 10), LONGEST_BACKOFF)
    return longest * (1 + jitter) / 2
