"""Answers that are small as bytes and large as values."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.endpoints.delivery.answer_parser import AnswerParser, TooManyValuesError
from services.endpoints.domain.json_text import JsonTextError
from tests.support.fake_endpoint import as_sent

LARGE = b" " * 300_000


async def test_answer_with_as_many_values_as_allowed_is_parsed() -> None:
    parser = AnswerParser(max_answer_bytes=80)

    assert await parser.parse(b"[1,2,3,4,5,6,7,8,9,10]", as_sent) == list(range(1, 11))
    assert await parser.parse(b'\xef\xbb\xbf{"a":[{}]}', as_sent) == {"a": [{}]}


@pytest.mark.parametrize("body", [b"[1,2,3,4,5,6,7,8,9,10,11]", b"[" * 11, b'{"a":' * 11, LARGE + b"[]," * 6])
async def test_answer_with_more_values_is_refused_before_it_is_parsed(body: bytes) -> None:
    parser = AnswerParser(max_answer_bytes=80)

    with pytest.raises(TooManyValuesError, match=r"^answer with more than 10 values$"):
        await parser.parse(body, as_sent)


async def test_large_answers_are_parsed_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once: list[int] = []
    running = 0

    async def counted(parse: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal running
        running += 1
        at_once.append(running)
        try:
            return await run_in_thread(parse, *arguments, **options)
        finally:
            running -= 1

    run_in_thread = asyncio.to_thread
    monkeypatch.setattr(asyncio, "to_thread", counted)
    parser = AnswerParser(max_answer_bytes=8 * 1024 * 1024)

    assert await asyncio.gather(*(parser.parse(LARGE + b"[1]", as_sent) for _ in range(5))) == [[1]] * 5
    assert at_once == [1] * 5


async def test_refused_large_answer_lets_the_next_one_in() -> None:
    parser = AnswerParser(max_answer_bytes=8 * 1024 * 1024)

    with pytest.raises(JsonTextError):
        await parser.parse(LARGE + b"[", as_sent)
    assert await parser.parse(LARGE + b"[1]", as_sent) == [1]
