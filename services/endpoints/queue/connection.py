"""Opens the connections to Redis, with a deadline on everything they do."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from arq.connections import ArqRedis

CONNECT_TIMEOUT: Final = timedelta(seconds=1)
READ_TIMEOUT: Final = timedelta(seconds=5)


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
    return redis
