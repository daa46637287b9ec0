"""Opens the worker's connections to Redis, with a deadline on everything they do."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from arq.connections import ArqRedis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError, ReadOnlyError  # noqa: A004 - the name that callers catch

CONNECT_TIMEOUT: Final = timedelta(seconds=1)
READ_TIMEOUT: Final = timedelta(seconds=5)


class _LosableConnection(AbstractConnection):
    """Tells of a connection that is of no more use as redis-py does of every other loss."""

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:  # noqa: ANN401, FBT001, FBT002 - redis-py's signature
        """Send a command.

        Raises:
            redis.exceptions.ConnectionError: the connection is closed.
        """
        try:
            await super().send_packed_command(command, check_health)
        except RuntimeError as error:
            raise ConnectionError("The connection closed before a command was written.") from error

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - redis-py's signature
        """Return the answer to a command.

        Raises:
            redis.exceptions.ConnectionError: this Redis became a replica; the connection is closed.
        """
        try:
            return await super().read_response(*args, **kwargs)
        except ReadOnlyError as error:
            await self.disconnect(nowait=True)
            raise ConnectionError("This Redis is a replica now.") from error


def telling_of_losses(kind: type[AbstractConnection]) -> type[AbstractConnection]:
    """Return a connection class like `kind` that tells of two more losses.

    uvloop refuses to write to a transport that has just closed with a RuntimeError, where asyncio says nothing and the
    next read fails; redis-py lets it through, and whoever waits for Redis to come back would not see it.

    A Redis that was demoted keeps its connections open, and redis-py keeps them too: only a new one is led to where the
    primary is now.
    """
    return type(f"Losable{kind.__name__}", (_LosableConnection, kind), {})


def open_redis(url: str) -> ArqRedis:
    """Return a client that connects when first used, and again after an outage; the caller closes it."""
    redis: ArqRedis = ArqRedis.from_url(
        url,
        socket_connect_timeout=CONNECT_TIMEOUT.total_seconds(),
        socket_timeout=READ_TIMEOUT.total_seconds(),
        socket_keepalive=True,
    )
    pool = redis.connection_pool
    pool.connection_class = telling_of_losses(pool.connection_class)
    return redis
