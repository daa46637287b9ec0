"""Speaks TLS in front of a server of this machine that does not, as stunnel would."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager, closing, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.certificates import Pair


@asynccontextmanager
async def tls_front(port: int, pair: Pair) -> AsyncIterator[int]:
    """Yield the port at which the server at `port` is found behind TLS until the block ends."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.key)

    tasks: set[asyncio.Task[None]] = set()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", port)
            with closing(behind_writer):
                await asyncio.gather(_pump(reader, behind_writer), _pump(behind_reader, writer))

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(take(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await source.read(64 * 1024):
            sink.write(chunk)
            await sink.drain()
    sink.close()
