"""Turns an endpoint's bytes into JSON without letting one answer slow down or crowd out the others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar

from services.endpoints.domain.json_text import parse_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.endpoints.domain.json_text import JsonValue

Read = TypeVar("Read")

BYTES_PER_VALUE: Final = 8
"""Answers with more values than one per so many bytes of the largest answer are refused; an SDK's have one per 17."""

_PARSED_IN_A_THREAD_BYTES: Final = 256 * 1024
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class TooManyValuesError(Exception):
    """An answer that would take far more memory than its bytes: parsed, `{},` takes 30 times as much."""

    def __init__(self, max_values: int) -> None:
        """Say how many there may be."""
        super().__init__(f"answer with more than {max_values:,} values")


class AnswerParser:
    """Parses and reads answers, large ones in a thread and one after the other.

    Python's parser does not let go of the interpreter before it is done. Several at once would keep the event loop,
    and with it every lease and every caller, waiting for all of them; and their values would fill the memory together.
    """

    def __init__(self, *, max_answer_bytes: int) -> None:
        """Derive how many values an answer may hold from how large it may be."""
        self._max_values = max_answer_bytes // BYTES_PER_VALUE
        self._large = asyncio.Semaphore(1)

    async def parse(self, body: bytes, read: Callable[[JsonValue], Read], *, must_be_storable: bool = True) -> Read:
        """Return what `read` makes of the document; a byte order mark is ignored, as browsers do.

        Raises:
            TooManyValuesError: it holds too many arrays, objects and items of these to be parsed.
            JsonTextError: it is no JSON, or with `must_be_storable` none that PostgreSQL keeps.
        """
        if len(body) <= _PARSED_IN_A_THREAD_BYTES:
            return self._parse(body, read, must_be_storable=must_be_storable)
        async with self._large:
            return await asyncio.to_thread(self._parse, body, read, must_be_storable=must_be_storable)

    def _parse(self, body: bytes, read: Callable[[JsonValue], Read], *, must_be_storable: bool) -> Read:
        # Commas and brackets within strings count too: never fewer than the values, and rarely many more.
        if sum(body.count(mark) for mark in (b",", b"[", b"{")) > self._max_values:
            raise TooManyValuesError(self._max_values)
        return read(parse_json(body.removeprefix(_BYTE_ORDER_MARK), must_be_storable=must_be_storable))
