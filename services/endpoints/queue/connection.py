"""Opens the connections to Redis, with a deadline on everything they do."""

from __future__ import annotations

import asyncio
import builtins
from datetime import timedelta
from typing import Any, Final

from arq.connections import ArqRedis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError, ReadOnlyError, TimeoutError  # noqa: A004 - the names that callers catch

from services.endpoints.domain.ports.observer import PoolReading

CONNECT_TIMEOUT: Final = timedelta(seconds=1)
READ_TIMEOUT: Final = timedelta(seconds=5)


class _LeanConnection(AbstractConnection):
    """Does less for each command, and tells of a connection that is of no more use as redis-py of every other loss."""

    async def can_read_destructive(self) -> bool:
        """Tell whether an answer is left over, which none should be.

        It may have come to hiredis or not yet. redis-py begins to read and gives up at once, which takes longer than to
        write the command.

        Raises:
            redis.exceptions.ConnectionError: the connection is closed.
        """
        reader: Any = self._reader
        parser: Any = self._parser
        if reader is None or reader.at_eof() or reader.exception() or reader._buffer:  # noqa: SLF001 - told nowhere else
            thorough: Any = super()
            return bool(await thorough.can_read_destructive())
        return bool(parser._reader.has_data())  # noqa: SLF001 - the same

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:  # noqa: ANN401, FBT001, FBT002 - redis-py's signature
        """Send a command.

        redis-py makes a task of each before Python 3.12, to hold it to its deadline.

        Raises:
            redis.exceptions.ConnectionError: the connection is closed.
            redis.exceptions.TimeoutError: Redis reads too slowly.
        """
        writer = self._writer
        if writer is None:
            await super().send_packed_command(command, check_health)
            return
        try:
            writer.writelines([command] if isinstance(command, bytes) else command)
            async with asyncio.timeout(self.socket_timeout):
                await writer.drain()
        except BaseException as error:
            # What was written in part cannot be taken back.
            await self.disconnect(nowait=True)
            if isinstance(error, builtins.TimeoutError):
                raise TimeoutError("Redis did not read a command in time.") from error
            if isinstance(error, (RuntimeError, OSError)):
                raise ConnectionError("The connection closed before a command was written.") from error
            raise

    async def disconnect(self, nowait: bool = False) -> None:  # noqa: FBT001, FBT002 - redis-py's signature
        """Hang up, also on a Redis that says nothing any more: over TLS its farewell is waited for."""
        writer = self._writer
        try:
            await super().disconnect(nowait=nowait)
        except TimeoutError:
            if writer is not None:
                writer.transport.abort()

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


def lean(kind: type[AbstractConnection]) -> type[AbstractConnection]:
    """Return a connection class like `kind` that is quicker and tells of two more losses.

    uvloop refuses to write to a transport that has just closed with a RuntimeError, where asyncio says nothing and the
    next read fails; redis-py lets it through, and whoever waits for Redis to come back would not see it.

    A Redis that was demoted keeps its connections open, and redis-py keeps them too: only a new one is led to where the
    primary is now.
    """
    return type(f"Lean{kind.__name__}", (_LeanConnection, kind), {})


def open_redis(url: str) -> ArqRedis:
    """Return a client of the Redis at `url` (`redis://`, `rediss://` or `unix://`).

    It connects when first used, and again after an outage. The caller closes it with `aclose()`.

    Raises:
        ValueError: `url` has another scheme or an impossible part.
    """
    redis: ArqRedis = ArqRedis.from_url(
        url,
        socket_connect_timeout=CONNECT_TIMEOUT.total_seconds(),
        socket_timeout=READ_TIMEOUT.total_seconds(),
        socket_keepalive=True,
    )
    pool = redis.connection_pool
    pool.connection_class = lean(pool.connection_class)
    return redis


def pool_reading(redis: ArqRedis) -> PoolReading:
    """Return how a client's connections are used now; nobody waits for one, since there are as many as are wanted."""
    pool = redis.connection_pool
    in_use = len(pool._in_use_connections)  # noqa: SLF001 - the library tells it nowhere else
    return PoolReading("callers", in_use + len(pool._available_connections), in_use, 0)  # noqa: SLF001 - the same
