"""Lets callers who ask the same question at the same time share one answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

_Key = TypeVar("_Key", bound="Hashable")
_Answer = TypeVar("_Answer")


class SharedReads(Generic[_Key, _Answer]):
    """Reads at most one answer at a time for each key.

    Nobody gets an answer that was begun before the question: who comes while one is being read shares the next one.
    """

    def __init__(self) -> None:
        """Begin with nothing asked."""
        self._waiting: dict[_Key, asyncio.Task[_Answer]] = {}
        self._turns: WeakValueDictionary[_Key, asyncio.Lock] = WeakValueDictionary()

    async def read(self, key: _Key, work: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Return what `work` answers, or what that of another caller does who asked for `key` and still waits."""
        task = self._waiting.get(key)
        if task is None:
            task = self._waiting[key] = asyncio.create_task(self._answer(key, work))
            task.add_done_callback(_take_notice)
        return await asyncio.shield(task)

    async def _answer(self, key: _Key, work: Callable[[], Awaitable[_Answer]]) -> _Answer:
        turn = self._turns.setdefault(key, asyncio.Lock())
        async with turn:
            del self._waiting[key]
            return await work()


def _take_notice(task: asyncio.Task[_Answer]) -> None:
    """Look at a failure even when every caller has left."""
    if not task.cancelled():
        task.exception()
