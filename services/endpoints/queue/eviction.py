"""Looks whether Redis may throw messages away on its own."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import structlog
from redis.exceptions import RedisError

if TYPE_CHECKING:
    from arq.connections import ArqRedis

LOOK_EVERY: Final = timedelta(seconds=5)
_KEEPS_EVERYTHING: Final = "noeviction"

_log = structlog.get_logger(__name__)


class EvictionCheck:
    """Asks Redis what it does when its memory is full.

    A message that was evicted is rung again seconds later, so nothing is lost; but what is always late is not ready.
    """

    def __init__(self, *, redis: ArqRedis) -> None:
        """Use `redis`, which stays the caller's."""
        self._redis: Any = redis
        self._finding: str | None = None

    @property
    def finding(self) -> str | None:
        """Return in one sentence what is wrong; None while nothing is, or while nobody knows."""
        return self._finding

    async def run_once(self) -> None:
        """Look now; a Redis that is away says nothing about its policy."""
        try:
            memory = await self._redis.info("memory")
        except (RedisError, OSError):
            return
        finding = None
        policy = memory.get("maxmemory_policy", _KEEPS_EVERYTHING)
        if policy != _KEEPS_EVERYTHING and int(memory.get("maxmemory", 0)):
            finding = f"Redis evicts messages when it is full: set maxmemory-policy to {_KEEPS_EVERYTHING}."
        if finding is not None and self._finding is None:
            _log.warning("redis_evicts", policy=policy)
        self._finding = finding

    async def run(self) -> None:
        """Look every few seconds until cancelled."""
        while True:
            await self.run_once()
            await asyncio.sleep(LOOK_EVERY.total_seconds())
