"""Real servers for tests: one PostgreSQL and one Redis for each pytest process, a database of its own for each test."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg

from services.embedded.postgres import USER, EmbeddedPostgres
from services.endpoints.store.migrations import runner

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

TEMPLATE = "kongflow_template"

# What is lost in a crash does not matter here, the data is gone a moment later, and it is in memory all the time.
THROWAWAY_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "autovacuum_naptime": "10min",
    "io_method": "sync",
}

# A database is some four hundred files, which a disk takes ten times as long to write as memory does.
_MEMORY = Path("/dev/shm")  # noqa: S108 - a directory of our own is made in it
_MEMORY_TO_HAVE = 8 * 1024**3

_numbers = itertools.count(1)


@contextmanager
def reachable_directory(parent: Path | None = None) -> Iterator[Path]:
    """Give a fresh directory that PostgreSQL's own user can enter; pytest's are closed to everyone but us."""
    directory = Path(tempfile.mkdtemp(prefix="kongflow-tests-", dir=parent))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


@asynccontextmanager
async def running_postgres() -> AsyncIterator[EmbeddedPostgres]:
    """Run a PostgreSQL server that holds a migrated template database, in a directory that vanishes with it."""
    with reachable_directory(_place_in_memory()) as directory:
        async with EmbeddedPostgres(directory / "postgres", settings=THROWAWAY_SETTINGS) as server:
            await _make_connecting_cheap(server)
            await _execute(server, f"CREATE DATABASE {TEMPLATE}")
            await runner.upgrade(server.url_of(TEMPLATE))
            yield server


@asynccontextmanager
async def fresh_database(server: EmbeddedPostgres, *, template: str = TEMPLATE) -> AsyncIterator[str]:
    """Give the address of a new database, copied from `template`, and drop it afterwards, whoever is still connected.

    `template="template0"` gives an empty database.
    """
    name = f"test_{next(_numbers)}"
    connection = await asyncpg.connect(server.url_of("postgres"))
    try:
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        try:
            yield server.url_of(name)
        finally:
            await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await connection.close()


def _place_in_memory() -> Path | None:
    """Return where files stay in memory, None where there is no such place or not enough of it."""
    if os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free >= _MEMORY_TO_HAVE:
        return _MEMORY
    return None


async def _make_connecting_cheap(server: EmbeddedPostgres) -> None:
    """Hash the password once instead of some thousand times; tests connect some ten thousand times."""
    password = urlsplit(server.url).password
    await _execute(server, f"SET scram_iterations = 1; ALTER USER {USER} PASSWORD '{password}'")


async def _execute(server: EmbeddedPostgres, statement: str) -> None:
    connection = await asyncpg.connect(server.url_of("postgres"))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
