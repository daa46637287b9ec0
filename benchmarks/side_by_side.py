"""Which sides are compared on this machine, and what is said about them."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING, Final

import asyncpg
from redis.asyncio import Redis

from benchmarks.sides.pair import Pair
from benchmarks.sides.rivals import ArqAlone, PgQueuer, Procrastinate, is_installed
from benchmarks.sides.river import River, RiverMissingError, river_program

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.sides.place import Place
    from benchmarks.sides.side import Side

_MANY: Final = 10_000
# Of what takes more than ten seconds for many, fewer are enough to know its rate.
_FEW: Final = 1000
_PGQUEUER_BATCH: Final = 250
_PGQUEUER_DEFAULT: Final = 10
_NOT_INSTALLED: Final = "it is not installed, as `make bench` would do"
_SETTINGS: Final = ("shared_buffers", "fsync", "synchronous_commit", "max_wal_size", "autovacuum")


async def prepared_sides(
    place: Place, *, quick: bool, progress: Callable[[str], None]
) -> tuple[Sequence[Side], Sequence[str]]:
    """Return the pair, first tuned, and every other queue that this machine has, ready to start, and notes about them.

    A `quick` choice has each library at most once, and builds nothing.
    """
    sides: list[Side] = [
        Pair(place, most_jobs=_MANY),
        Pair(place, name="pair, defaults", redis_number=6, most_jobs=_MANY, is_tuned=False),
        ArqAlone(place, name="arq, poll 10 ms", poll_delay=0.01, redis_number=1, most_jobs=_MANY),
        ArqAlone(place, name="arq, default poll", poll_delay=0.5, redis_number=2, most_jobs=_FEW),
    ]
    absent: dict[str, str] = {}
    if is_installed("procrastinate"):
        sides.append(Procrastinate(place, most_jobs=_FEW))
    else:
        absent["procrastinate"] = _NOT_INSTALLED
    if is_installed("pgqueuer"):
        sides.append(PgQueuer(place, name="pgqueuer", batch_size=_PGQUEUER_BATCH, most_jobs=_MANY))
        sides.append(PgQueuer(place, name="pgqueuer, defaults", batch_size=_PGQUEUER_DEFAULT, most_jobs=_MANY))
    else:
        absent["pgqueuer"] = _NOT_INSTALLED
    try:
        program = await river_program(may_build=not quick)
    except RiverMissingError as error:
        absent["River"] = str(error)
    else:
        sides += [
            River(place, program, name=name, workers=workers, cooldown=cooldown, most_jobs=most_jobs)
            for name, workers, cooldown, most_jobs in (
                ("River, tuned", 500, "1ms", _MANY),
                ("River, defaults", 100, "0s", _FEW),
            )
        ]
    if quick:
        sides = [side for side in sides if "default" not in side.name]
    for side in sides:
        progress(f"preparing {side.name}")
        await side.prepare()
    return sides, [await _versions(place), *(f"Left out: {name}, because {why}." for name, why in absent.items())]


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
