"""Refuses calls while the process has too little memory left: what runs goes on, and nobody has to kill it."""

from __future__ import annotations

import ctypes
import gc
import resource
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from services.endpoints.domain.errors import ServerOverloadedError

if TYPE_CHECKING:
    from collections.abc import Callable

_log = structlog.get_logger(__name__)

# What is left above it is for the calls that have begun.
FULL: Final = 0.9
LOOK_EVERY: Final = timedelta(milliseconds=100)
GIVE_BACK_EVERY: Final = timedelta(seconds=5)

_USE: Final = Path("/proc/self/statm")
# Of cgroups version 2 and 1. The latter has a very large number for none.
_CONTAINER_LIMITS: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
_NO_LIMIT: Final = 2**60


class MemoryGuard:
    """Refuses calls from the moment that nine tenths of the memory are in use.

    `share` says how much of it is, from 0 to 1; `give_back` returns to the system what is no longer needed, which
    the process would keep for itself.
    """

    def __init__(
        self,
        *,
        share: Callable[[], float],
        give_back: Callable[[], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._share = share
        self._give_back = give_back
        self._monotonic = monotonic
        self._is_full = False
        self._look_at = 0.0
        self._give_back_at = 0.0

    def admit(self) -> None:
        """Let a call pass.

        Raises:
            ServerOverloadedError: memory is short.
        """
        if self._looked_at_is_full():
            raise ServerOverloadedError("memory")

    def finding(self) -> str | None:
        """Return in one sentence that calls are refused, None while they are not."""
        return "This server has too little memory left for calls." if self._looked_at_is_full() else None

    def _looked_at_is_full(self) -> bool:
        now = self._monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY.total_seconds()
            self._look(now)
        return self._is_full

    def _look(self, now: float) -> None:
        share = self._share()
        if share >= FULL and now >= self._give_back_at:
            self._give_back_at = now + GIVE_BACK_EVERY.total_seconds()
            self._give_back()
            share = self._share()
        is_full = share >= FULL
        if is_full != self._is_full:
            self._is_full = is_full
            write = _log.warning if is_full else _log.info
            write("memory_is_short" if is_full else "memory_suffices", used=round(share, 3))


PLENTY: Final = MemoryGuard(share=lambda: 0, give_back=lambda: None)


def share_of_memory(limit_bytes: int | None) -> Callable[[], float]:
    """Return what reads how much of its memory this process uses; 0 where the system does not tell.

    `limit_bytes` bounds what is resident; None stands for the limit of the container. A limit of the address space,
    as `ulimit -v` sets it, counts as well.
    """
    resident_limit = limit_bytes or container_limit()
    page = resource.getpagesize()

    def read() -> float:
        try:
            size, resident = (int(pages) * page for pages in _USE.read_text().split()[:2])
        except OSError:
            return 0
        address_space, _ = resource.getrlimit(resource.RLIMIT_AS)
        shares = [0.0]
        if resident_limit is not None:
            shares.append(resident / resident_limit)
        if address_space != resource.RLIM_INFINITY:
            shares.append(size / address_space)
        return max(shares)

    return read


def container_limit() -> int | None:
    """Return how many bytes the container may hold, None when there is no limit or no container."""
    for path in _CONTAINER_LIMITS:
        with suppress(OSError, ValueError):
            limit = int(path.read_text())
            return limit if limit < _NO_LIMIT else None
    return None


def give_memory_back() -> None:
    """Drop what nothing refers to, and return the free pages of the heap, where the C library can."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
