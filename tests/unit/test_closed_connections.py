"""A connection that closes under what is written to it, or leads to a replica, is a loss like every other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError

from services.endpoints.domain.errors import DatabaseUnavailableError
from services.endpoints.queue import connection as of_the_server
from services.endpoints.store.errors import translated
from services.worker import redis_connection as of_the_worker

if TYPE_CHECKING:
    from types import ModuleType

# uvloop's own words.
CLOSED = "unable to perform operation on <TCPTransport closed=True reading=False 0x1>; the handler is closed"

MODULES = [pytest.param(of_the_server, id="server"), pytest.param(of_the_worker, id="worker")]


class ClosedWriter:
    """What uvloop's transport is in the moment between its end and the notice of it."""

    def __init__(self) -> None:
        self.is_closed = False

    def writelines(self, _: Any) -> None:
        raise RuntimeError(CLOSED)

    def close(self) -> None:
        self.is_closed = True


@pytest.mark.parametrize("module", MODULES)
async def test_redis_is_lost_when_its_transport_is_closed(module: ModuleType) -> None:
    connection = module.open_redis("redis://127.0.0.1:1/0").connection_pool.make_connection()
    writer = ClosedWriter()
    connection._reader, connection._writer = asyncio.StreamReader(), writer
    with pytest.raises(RedisConnectionError):
        await connection.send_packed_command(b"PING")
    assert writer.is_closed
    assert not connection.is_connected


@pytest.mark.parametrize("module", MODULES)
async def test_redis_is_lost_when_it_became_a_replica(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    async def read(*_: Any, **__: Any) -> None:
        raise ReadOnlyError("You can't write against a read only replica.")

    ended: list[AbstractConnection] = []

    async def disconnect(connection: AbstractConnection, **_: Any) -> None:
        ended.append(connection)

    monkeypatch.setattr(AbstractConnection, "read_response", read)
    monkeypatch.setattr(AbstractConnection, "disconnect", disconnect)
    connection = module.open_redis("redis://127.0.0.1:1/0").connection_pool.make_connection()
    with pytest.raises(RedisConnectionError):
        await connection.read_response()
    assert ended == [connection]


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize(
    ("url", "kind"), [("redis://127.0.0.1:1/0", Connection), ("rediss://127.0.0.1:1/0", SSLConnection)]
)
def test_the_kind_of_connection_stays_what_the_url_says(module: ModuleType, url: str, kind: type) -> None:
    assert isinstance(module.open_redis(url).connection_pool.make_connection(), kind)


def test_postgresql_is_lost_when_its_transport_is_closed() -> None:
    with pytest.raises(DatabaseUnavailableError), translated():
        raise RuntimeError(CLOSED)


def test_another_mistake_is_no_loss() -> None:
    with pytest.raises(RuntimeError, match="another"), translated():
        raise RuntimeError("another")
