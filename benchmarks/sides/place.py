"""Where the sides live: one PostgreSQL, one Redis, one directory; a database of its own for each."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg

from benchmarks.sides.commands import DATABASE_VARIABLE, REDIS_VARIABLE, STARTS_VARIABLE
from services.embedded.postgres import EmbeddedPostgres
from services.embedded.process import ServerProcess
from services.embedded.redis import EmbeddedRedis

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Place:
    """The servers and the directory that all sides share."""

    postgres: EmbeddedPostgres
    redis: EmbeddedRedis
    directory: Path

    def database_url(self, database: str) -> str:
        """Return the address of one of PostgreSQL's databases."""
        return self.postgres.url_of(database)

    def redis_url(self, number: int) -> str:
        """Return the address of one of Redis's sixteen databases."""
        return f"{self.redis.url.rpartition('/')[0]}/{number}"

    async def create_database(self, database: str) -> None:
        """Create an empty database."""
        connection = await asyncpg.connect(self.postgres.url_of("postgres"))
        try:
            await connection.execute(f"CREATE DATABASE {database}")
        finally:
            await connection.close()

    def starts(self, name: str) -> Path:
        """Return the file in which the workers of a side note when numbered jobs began."""
        return self.directory / f"{name}.starts"

    def variables(self, name: str, *, database: str, redis_number: int) -> Mapping[str, str]:
        """Return what the processes of a side are told."""
        return {
            DATABASE_VARIABLE: self.database_url(database),
            REDIS_VARIABLE: self.redis_url(redis_number),
            STARTS_VARIABLE: str(self.starts(name)),
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "gen"))),
            "PATH": os.environ.get("PATH", os.defpath),
        }

    def run(self, log: str, command: Sequence[str], variables: Mapping[str, str]) -> ServerProcess:
        """Start a process that ends with SIGTERM, or with us."""
        return ServerProcess(
            command, log=self.directory / f"{log}.log", stop_signal=signal.SIGTERM, environment=variables
        )


@asynccontextmanager
async def running_place(directory: Path) -> AsyncIterator[Place]:
    """Run PostgreSQL and Redis as the embedded stack does, until the block ends."""
    async with EmbeddedPostgres(directory / "postgres") as postgres, EmbeddedRedis(directory / "redis") as redis:
        yield Place(postgres, redis, directory)


def database_name(name: str) -> str:
    """Return the name of a side as PostgreSQL can take it."""
    return "".join(letter if letter.isalnum() else "_" for letter in name.lower())


def python(module: str, *arguments: str) -> Sequence[str]:
    """Return the command that runs a module of ours."""
    return [sys.executable, "-m", module, *arguments]
