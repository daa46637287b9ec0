"""What stands between a command and Redis, on the server's side and on the worker's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from redis.exceptions import TimeoutError as RedisTimeoutError

from services.endpoints.queue import connection as of_the_server
from services.worker import redis_connection as of_the_worker
from tests.support.certificates import Authority
from tests.support.eventually import eventually
from tests.support.proxy import TcpProxy
from tests.support.tls_front import tls_front

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from types import ModuleType

# More than both sides' buffers hold.
LARGE = b"x" * (64 * 1024 * 1024)


@pytest.fixture(params=[pytest.param(of_the_server, id="server"), pytest.param(of_the_worker, id="worker")])
def module(request: pytest.FixtureRequest) -> ModuleType:
    chosen: ModuleType = request.param
    return chosen


@pytest.fixture
async def client(module: ModuleType, redis_url: str) -> AsyncIterator[Any]:
    """A client that has one connection, which nobody uses."""
    client = module.open_redis(redis_url)
    await client.ping()
    yield client
    await client.aclose()


def idle_connection(client: Any) -> Any:
    (connection,) = client.connection_pool._available_connections
    return connection


async def test_connection_that_redis_closed_is_replaced_before_the_next_command(
    module: ModuleType, client: Any, redis_url: str
) -> None:
    number = await client.client_id()
    closed = idle_connection(client)
    other = module.open_redis(redis_url)
    await other.client_kill_filter(_id=number)
    await other.aclose()
    await eventually(lambda: closed._reader.at_eof() or closed._reader.exception() is not None)

    assert await client.client_id() != number


async def test_answer_that_is_left_over_is_nobodys(client: Any) -> None:
    number = await client.client_id()
    idle_connection(client)._reader.feed_data(b"+somebody else's\r\n")

    assert await client.echo("mine") == b"mine"
    assert await client.client_id() != number


async def test_answers_behind_one_that_nobody_understands_are_nobodys(client: Any) -> None:
    client.set_response_callback("ECHO", int)
    pipeline = client.pipeline(transaction=False)
    with pytest.raises(ValueError, match="no number"):
        await pipeline.echo("no number").echo("somebody else's").execute()

    assert await client.ping() is True
    assert await client.echo("7") == 7


async def test_redis_that_does_not_read_is_waited_for_as_long_as_for_an_answer(
    module: ModuleType, redis_url: str
) -> None:
    port = urlsplit(redis_url).port
    assert port is not None
    async with TcpProxy(upstream_port=port) as proxy:
        client = module.open_redis(redis_url.replace(f":{port}/", f":{proxy.port}/"))
        client.connection_pool.connection_kwargs["socket_timeout"] = 0.5
        await client.ping()
        stuck = idle_connection(client)
        proxy.black_hole()
        with pytest.raises(RedisTimeoutError, match="did not read"):
            await client.set("large", LARGE)
        assert not stuck.is_connected
        proxy.heal()
        assert await client.get("large") is None
        await client.aclose()


async def test_redis_that_falls_silent_behind_tls_is_let_go(
    module: ModuleType, redis_url: str, directory: Path
) -> None:
    port = urlsplit(redis_url).port
    assert port is not None
    authority = Authority(directory, "authority")
    async with tls_front(port, authority.issue("redis")) as front, TcpProxy(upstream_port=front) as proxy:
        url = redis_url.replace("redis://", "rediss://").replace(f":{port}/", f":{proxy.port}/")
        client = module.open_redis(f"{url}?ssl_ca_certs={authority.file}")
        subscription = client.pubsub()
        await subscription.subscribe("channel")
        await client.ping()
        pool = client.connection_pool
        assert (len(pool._in_use_connections), len(pool._available_connections)) == (1, 1)
        proxy.black_hole()
        await subscription.aclose()
        assert (len(pool._in_use_connections), len(pool._available_connections)) == (0, 2)
        await client.aclose()
        proxy.heal()
