"""A client that asks a gRPC server to watch its health, and never takes an answer: no window is open for any."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_END_STREAM, _END_HEADERS = 1, 4
_INITIAL_WINDOW_SIZE: Final = 4
_STREAM: Final = 1
_EMPTY_MESSAGE: Final = bytes(5)


@asynccontextmanager
async def deaf_watcher(port: int) -> AsyncIterator[None]:
    """Watch the health of the whole server at `port` of this machine until the block ends.

    It begins when the server has answered with its headers, for which no window is needed.

    Source: RFC 9113, sections 4.1 and 6.5.2; RFC 7541, section 6.2.2.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        asked = {
            ":method": "POST",
            ":scheme": "http",
            ":path": "/grpc.health.v1.Health/Watch",
            ":authority": "deaf",
            "content-type": "application/grpc",
            "te": "trailers",
        }
        no_window = _INITIAL_WINDOW_SIZE.to_bytes(2) + bytes(4)
        writer.write(_PREFACE + _frame(_SETTINGS, 0, 0, no_window))
        writer.write(_frame(_HEADERS, _END_HEADERS, _STREAM, b"".join(map(_field, asked, asked.values()))))
        writer.write(_frame(_DATA, _END_STREAM, _STREAM, _EMPTY_MESSAGE))
        while await _next_kind(reader) != _HEADERS:
            pass
        yield
    finally:
        writer.close()


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return len(body).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + body


def _field(name: str, value: str) -> bytes:
    return b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


async def _next_kind(reader: asyncio.StreamReader) -> int:
    head = await reader.readexactly(9)
    await reader.readexactly(int.from_bytes(head[:3]))
    return head[3]
