"""Brings a database to a revision of the schema, from a checkout or from an installed wheel."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from sqlalchemy.engine import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

# Any constant will do, as long as nobody else in the database locks the same one: "kongflow" in ASCII.
_ADVISORY_LOCK = int.from_bytes(b"kongflow")


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """Where a database stands: `current` is None when it has no schema, `head` is the newest revision we know."""

    current: str | None
    head: str

    @property
    def is_current(self) -> bool:
        """Tell whether the database has the newest schema we know."""
        return self.current == self.head


async def upgrade(database_url: str, revision: str = "head") -> None:
    """Bring the database up to `revision`, all steps in one transaction. Does nothing when it is there already.

    Concurrent callers wait for each other. Raises what the driver raises when the database cannot be reached.
    """
    await _migrate(database_url, lambda config: command.upgrade(config, revision))


async def downgrade(database_url: str, revision: str) -> None:
    """Bring the database down to `revision`, all steps in one transaction; `base` drops everything, data included."""
    await _migrate(database_url, lambda config: command.downgrade(config, revision))


async def status(database_url: str) -> MigrationStatus:
    """Return where the database stands."""
    head = ScriptDirectory.from_config(_configuration()).get_current_head()
    if head is None:
        raise RuntimeError("The package holds no migrations.")
    async with _connection(database_url) as connection:
        current = await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())
    return MigrationStatus(current=current, head=head)


async def _migrate(database_url: str, run: Callable[[Config], None]) -> None:
    async with _connection(database_url) as connection:
        await connection.exec_driver_sql(f"SELECT pg_advisory_lock({_ADVISORY_LOCK})")
        await connection.commit()
        try:
            await connection.run_sync(_run, run)
        finally:
            await connection.rollback()
            await connection.exec_driver_sql(f"SELECT pg_advisory_unlock({_ADVISORY_LOCK})")
            await connection.commit()


def _run(connection: Connection, run: Callable[[Config], None]) -> None:
    configuration = _configuration()
    configuration.attributes["connection"] = connection
    run(configuration)


def _configuration() -> Config:
    configuration = Config()
    # The path may hold a percent sign, which the configuration would take for an interpolation.
    configuration.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    configuration.set_main_option("path_separator", "os")
    return configuration


@asynccontextmanager
async def _connection(database_url: str) -> AsyncIterator[AsyncConnection]:
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(database_url), poolclass=NullPool
    )
    try:
        async with engine.connect() as connection:
            yield connection
    finally:
        await engine.dispose()
