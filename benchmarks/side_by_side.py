"""Which sides are compared on this machine, and what is said about them."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING, Final

import asyncpg
from redis.asyncio import Redis

from benchmarks.sides.pair import Pair
from benchmarks.sides.rivals import ArqAlone, PgQueuer, Procrastinate, is_installed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.sides.place import Place
    from benchmarks.sides.side import Side

_MANY: Final = 10_000
_SETTINGS: Final = ("shared_buffers", "fsync", "synchronous_commit", "max_wal_size", "autovacuum")


async def prepared_sides(place: Place, progress: Callable[[str], None]) -> tuple[Sequence[Side], Sequence[str]]:
    """Return the pair and every other queue that this machine has, ready to start, and notes about them."""
    sides: list[Side] = [
        Pair(place, most_jobs=_MANY),
        ArqAlone(place, name="arq, poll 10 ms", poll_delay=0.01, redis_number=1, most_jobs=_MANY),
        ArqAlone(place, name="arq, default poll", poll_delay=0.5, redis_number=2, most_jobs=1000),
    ]
    absent = []
    if is_installed("procrastinate"):
        sides.append(Procrastinate(place, most_jobs=2000))
    else:
        absent.append("procrastinate")
    if is_installed("pgqueuer"):
        sides.append(PgQueuer(place, most_jobs=_MANY))
    else:
        absent.append("pgqueuer")
    notes = [f"Left out, because it is not installed: {name}. `make bench` installs it." for name in absent]
    for side in sides:
        progress(f"preparing {side.name}")
        await side.prepare()
    return sides, [await _versions(place), *notes]


async def _versions(place: Place) -> str:
    connection = await asyncpg.connect(place.postgres.url)
    try:
        version = await connection.fetchval("SHOW server_version")
        settings = [f"{name} {await connection.fetchval(f'SHOW {name}')}" for name in _SETTINGS]
    finally:
        await connection.close()
    redis = Redis.from_url(place.redis.url)
    try:
        redis_version = (await redis.info("server"))["redis_version"]
    finally:
        await redis.aclose()
    packages = [
        f"{package} {importlib.metadata.version(package)}"
        for package in ("arq", "pgqueuer", "procrastinate")
        if is_installed(package)
    ]
    return f"PostgreSQL {version} ({', '.join(settings)}), Redis {redis_version}, {', '.join(packages)}."
