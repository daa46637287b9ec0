"""Callers who ask the same at the same time share an answer that was begun after they asked."""

from __future__ import annotations

import asyncio

import pytest

from services.endpoints.operations.shared_reads import SharedReads


class Reader:
    def __init__(self) -> None:
        self.begun = 0
        self.began = asyncio.Event()
        self.release = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> int:
        self.begun += 1
        number = self.begun
        self.began.set()
        await self.release.wait()
        if self.error is not None:
            raise self.error
        return number


async def test_those_who_come_during_a_read_share_the_next_one() -> None:
    reads: SharedReads[str, int] = SharedReads()
    reader = Reader()
    first = asyncio.create_task(reads.read("a", reader))
    await reader.began.wait()
    others = [asyncio.create_task(reads.read("a", reader)) for _ in range(30)]
    reader.release.set()

    assert await first == 1
    assert await asyncio.gather(*others) == [2] * 30
    assert await reads.read("a", reader) == 3


async def test_other_questions_are_not_waited_for() -> None:
    reads: SharedReads[str, int] = SharedReads()
    held, free = Reader(), Reader()
    waiting = asyncio.create_task(reads.read("held", held))
    await held.began.wait()
    free.release.set()

    assert await reads.read("free", free) == 1
    held.release.set()
    assert await waiting == 1


async def test_caller_who_leaves_takes_the_answer_from_nobody() -> None:
    reads: SharedReads[str, int] = SharedReads()
    reader = Reader()
    running = asyncio.create_task(reads.read("a", reader))
    await reader.began.wait()
    leaving, staying = (asyncio.create_task(reads.read("a", reader)) for _ in range(2))
    await asyncio.wait([staying], timeout=0.01)
    leaving.cancel()
    reader.release.set()

    assert await running == 1
    assert await staying == 2
    assert leaving.cancelled()


async def test_failure_is_told_to_all_who_share_it_and_then_forgotten() -> None:
    reads: SharedReads[str, int] = SharedReads()
    reader = Reader()
    reader.error = ValueError("away")
    reader.release.set()
    answers = await asyncio.gather(*(reads.read("a", reader) for _ in range(3)), return_exceptions=True)
    assert [str(answer) for answer in answers] == ["away"] * 3
    reader.error = None

    assert await reads.read("a", reader) == 2
    with pytest.raises(asyncio.CancelledError):
        await _cancelled(reads.read("a", Reader()))


async def _cancelled(reading: object) -> None:
    task = asyncio.ensure_future(reading)  # type: ignore[call-overload]
    asyncio.get_running_loop().call_soon(task.cancel)
    await task
