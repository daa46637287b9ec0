"""The proxy misbehaves as it says, or the fault tests would prove nothing."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.support.eventually import eventually
from tests.support.proxy import TcpProxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.bounded

SHORT = timedelta(milliseconds=200)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with closing(writer):
        while data := await reader.read(1024):
            writer.write(data)


@pytest.fixture
async def proxy() -> AsyncIterator[TcpProxy]:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, TcpProxy(upstream_port=server.sockets[0].getsockname()[1]) as proxy:
        yield proxy


@asynccontextmanager
async def connected(proxy: TcpProxy) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def says_nothing(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(SHORT.total_seconds()):
            await reader.read(1)
    except TimeoutError:
        return True
    return False


async def test_what_is_sent_arrives(proxy: TcpProxy) -> None:
    async with connected(proxy) as (reader, writer):
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        assert proxy.connections == 1
    await eventually(lambda: proxy.connections == 0)


async def test_black_hole_holds_everything_until_it_heals(proxy: TcpProxy) -> None:
    async with connected(proxy) as (reader, writer):
        await eventually(lambda: proxy.connections)
        proxy.black_hole()
        writer.write(b"hello")
        assert await says_nothing(reader)
        async with connected(proxy) as (new_reader, new_writer):
            new_writer.write(b"new")
            assert await says_nothing(new_reader)
            proxy.heal()
            assert await reader.readexactly(5) == b"hello"
            assert await new_reader.readexactly(3) == b"new"


async def test_lost_connection_stays_lost_and_a_new_one_works(proxy: TcpProxy) -> None:
    async with connected(proxy) as (reader, writer):
        await eventually(lambda: proxy.connections)
        proxy.lose()
        writer.write(b"hello")
        proxy.heal()
        assert await says_nothing(reader)
        async with connected(proxy) as (new_reader, new_writer):
            new_writer.write(b"new")
            assert await new_reader.readexactly(3) == b"new"


async def test_cut_resets_and_refusal_lasts_until_it_heals(proxy: TcpProxy) -> None:
    async with connected(proxy) as (reader, _):
        await eventually(lambda: proxy.connections)
        proxy.refuse()
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
    async with connected(proxy) as (reader, _):
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
    proxy.heal()
    await test_what_is_sent_arrives(proxy)


async def test_cut_in_an_answer(proxy: TcpProxy) -> None:
    async with connected(proxy) as (reader, writer):
        await eventually(lambda: proxy.connections)
        proxy.cut_after(3)
        writer.write(b"abc")
        assert await reader.readexactly(3) == b"abc"
        writer.write(b"d")
        with pytest.raises(ConnectionResetError):
            await reader.read(1)


async def test_drip_takes_its_time_for_every_byte(proxy: TcpProxy) -> None:
    proxy.slow_down(timedelta(milliseconds=20), chunk_bytes=1)
    async with connected(proxy) as (reader, writer):
        began = time.monotonic()
        writer.write(b"0123456789")
        assert await reader.readexactly(10) == b"0123456789"
        assert time.monotonic() - began >= 10 * 0.02
