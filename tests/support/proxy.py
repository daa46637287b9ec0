"""A TCP proxy that misbehaves on demand: slow, byte by byte, cut, silent or lost; no privileges needed.

async with TcpProxy(upstream_port=5432) as proxy:
    proxy.black_hole()      # connections stay open and nothing arrives
    proxy.heal()            # what was held arrives now
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Self

from tests.support.passing import lasting

if TYPE_CHECKING:
    from types import TracebackType

_CHUNK_BYTES: Final = 64 * 1024
_RESET: Final = struct.pack("ii", 1, 0)


@dataclass(eq=False)
class _Link:
    """One connection through the proxy."""

    client: asyncio.StreamWriter
    upstream: asyncio.StreamWriter | None = None
    is_lost: bool = False
    forwarded_bytes: int = 0
    pumps: list[asyncio.Task[None]] = field(default_factory=list)

    def reset(self) -> None:
        """End both sides at once, as a router that forgot them would."""
        for writer in (self.client, self.upstream):
            if writer is not None and not writer.transport.is_closing():
                raw = writer.get_extra_info("socket")
                with suppress(OSError):
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                writer.transport.abort()


class TcpProxy:
    """Forwards one loopback port to another.

    `upstream_port` may be changed: the next connections go there.
    """

    def __init__(self, *, upstream_port: int) -> None:
        self.upstream_port = upstream_port
        self.port = 0
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self._delay = timedelta()
        self._chunk_bytes = _CHUNK_BYTES
        self._cut_after_bytes: int | None = None
        self._is_refusing = False
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # One that was cancelled before it began has not done so itself.
        self.cut()
        await self._server.wait_closed()

    @property
    def connections(self) -> int:
        """Return how many connections there are."""
        return len(self._links)

    def cut(self) -> None:
        """Reset every connection; new ones are taken."""
        for link in list(self._links):
            link.reset()

    def refuse(self) -> None:
        """Reset every connection and every new one until `heal`."""
        self._is_refusing = True
        self.cut()

    def black_hole(self) -> None:
        """Forward nothing, and hang up on nobody, until `heal`."""
        self._flows.clear()

    def lose(self) -> None:
        """Forward nothing on the present connections ever again, and hang up on nobody; new ones work."""
        for link in self._links:
            link.is_lost = True

    def slow_down(self, delay: timedelta, *, chunk_bytes: int = _CHUNK_BYTES) -> None:
        """Wait before each chunk that is forwarded; `chunk_bytes=1` drips."""
        self._delay = delay
        self._chunk_bytes = chunk_bytes

    def cut_after(self, answered_bytes: int) -> None:
        """Reset each connection once this many more bytes came back through it."""
        for link in self._links:
            link.forwarded_bytes = 0
        self._cut_after_bytes = answered_bytes

    def heal(self) -> None:
        """Forward as it should be; what was held arrives now, what was lost does not."""
        self._delay = timedelta()
        self._chunk_bytes = _CHUNK_BYTES
        self._cut_after_bytes = None
        self._is_refusing = False
        self._flows.set()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(writer)
        self._links.add(link)
        task = asyncio.create_task(self._forward(link, reader))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward(self, link: _Link, reader: asyncio.StreamReader) -> None:
        try:
            if self._is_refusing:
                return
            await self._flows.wait()
            back, link.upstream = await asyncio.open_connection("127.0.0.1", self.upstream_port)
            link.pumps = [
                asyncio.create_task(self._pump(link, reader, link.upstream, is_answer=False)),
                asyncio.create_task(self._pump(link, back, link.client, is_answer=True)),
            ]
            await asyncio.wait(link.pumps, return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            return
        finally:
            for pump in link.pumps:
                pump.cancel()
            await asyncio.gather(*link.pumps, return_exceptions=True)
            link.reset()
            self._links.discard(link)

    async def _pump(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_answer: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(self._chunk_bytes):
                await self._flows.wait()
                if self._delay:
                    await lasting(self._delay)
                if link.is_lost:
                    continue
                if is_answer and self._cut_after_bytes is not None:
                    link.forwarded_bytes += len(data)
                    if link.forwarded_bytes > self._cut_after_bytes:
                        return
                writer.write(data)
                await writer.drain()
