"""Waiting for something that happens elsewhere, without guessing how long it takes."""

from __future__ import annotations

import asyncio
import inspect
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar, overload

from tests.support.machine_time import machine_time

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

Answer = TypeVar("Answer")

_LOOK_AGAIN_AFTER = timedelta(milliseconds=10)

# How much longer than all of them one look may take: one that hangs would never be looked at again.
_HANGS_AFTER = timedelta(seconds=60)


@overload
async def eventually(predicate: Callable[[], Awaitable[Answer]], *, within: timedelta = ...) -> Answer: ...
@overload
async def eventually(predicate: Callable[[], Answer], *, within: timedelta = ...) -> Answer: ...
async def eventually(predicate: Callable[[], object], *, within: timedelta = timedelta(seconds=10)) -> object:
    """Return the first truthy answer of `predicate`, which may be a coroutine function.

    An AssertionError raised by `predicate` counts as "not yet", so a block of asserts can be waited for too: end it
    with `return True`.

    Raises:
        AssertionError: there was no truthy answer within `within` of the machine's time; it names the last answer or
            carries the last error.
        TimeoutError: one look took a minute longer than that.
    """
    deadline = machine_time() + within.total_seconds()
    while True:
        answer: object = None
        unmet: AssertionError | None = None
        try:
            answer = predicate()
            if inspect.isawaitable(answer):
                async with asyncio.timeout((within + _HANGS_AFTER).total_seconds()):
                    answer = await answer
        except AssertionError as error:
            answer, unmet = None, error
        if answer:
            return answer
        if machine_time() >= deadline:
            raise AssertionError(f"not within {within.total_seconds():g} s; last: {unmet or answer!r}") from unmet
        await _pass_time(asyncio.get_running_loop())


async def _pass_time(loop: asyncio.AbstractEventLoop) -> None:
    again = loop.create_future()
    timer = loop.call_later(_LOOK_AGAIN_AFTER.total_seconds(), again.set_result, None)
    try:
        await again
    finally:
        timer.cancel()
