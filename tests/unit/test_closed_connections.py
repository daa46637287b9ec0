"""A connection that closes under what is written to it is a loss like every other, also where uvloop says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection
from redis.exceptions import ConnectionError as RedisConnectionError

from services.endpoints.domain.errors import DatabaseUnavailableError
from services.endpoints.queue import connection as of_the_server
from services.endpoints.store.errors import translated
from services.worker import redis_connection as of_the_worker

if TYPE_CHECKING:
    from types import ModuleType

# uvloop's own words.
CLOSED = "unable to perform operation on <TCPTransport closed=True reading=False 0x1>; the handler is closed"

MODULES = [pytest.param(of_the_server, id="server"), pytest.param(of_the_worker, id="worker")]


@pytest.mark.parametrize("module", MODULES)
async def test_redis_is_lost_when_its_transport_is_closed(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    async def write(*_: Any) -> None:
        raise RuntimeError(CLOSED)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", write)
    redis = module.open_redis("redis://127.0.0.1:1/0")
    connection = redis.connection_pool.make_connection()
    with pytest.raises(RedisConnectionError):
        await connection.send_packed_command(b"PING")


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
