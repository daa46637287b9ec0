"""Brings a database to a revision of the schema, from a checkout or from an installed wheel."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from sqlalchemy.engine import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

# Any constant will do, as long as nobody else in the database locks the same one: "kongflow" in ASCII.
_ADVISORY_LOCK = int.from_bytes(b"kongflow")

# Whoever wants a table that a step waits for stands behind that step, so that it waits for less than a caller does.
# Mostly for less than PostgreSQL's deadlock_timeout of a second, too, so that of two who wait for each other it is
# hardly ever a server's transaction that ends; but an autovacuum gives way only to who has waited longer than that.
LOCK_TIMEOUTS: Final = (timedelta(milliseconds=500), timedelta(milliseconds=500), timedelta(milliseconds=1500))
# Between two tries, up to this, drawn anew each time.
_PAUSE: Final = timedelta(seconds=1)
# For how long a migration tries unless told otherwise; the longest transaction of a server is over by then.
_PATIENCE: Final = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """Where a database stands: `current` is None when it has no schema, `head` is the newest revision we know."""

    current: str | None
    head: str

    @property
    def is_current(self) -> bool:
        """Tell whether the database has the newest schema we know."""
        return self.current == self.head


async def upgrade(database_url: str, revision: str = "head", *, patience: timedelta = _PATIENCE) -> None:
    """Bring the database up to `revision`, all steps in one transaction. Does nothing when it is there already.

    Servers may serve meanwhile: a step that does not get a table soon gives way to them, and all is
    tried again, for at most `patience`. Concurrent callers wait for each other.

    Raises:
        asyncpg.LockNotAvailableError: somebody held a table for longer than `patience`.
        asyncpg.PostgresError, asyncpg.InterfaceError, OSError: what the driver raises when the database refuses, when
            it or its address is not what it should be, or when it cannot be reached.
    """
    await _migrate(database_url, lambda config: command.upgrade(config, revision), patience)


async def downgrade(database_url: str, revision: str, *, patience: timedelta = _PATIENCE) -> None:
    """Bring the database down to `revision`, as `upgrade` brings it up; `base` drops everything, data included."""
    await _migrate(database_url, lambda config: command.downgrade(config, revision), patience)


async def status(database_url: str) -> MigrationStatus:
    """Return where the database stands."""
    head = ScriptDirectory.from_config(_configuration()).get_current_head()
    if head is None:
        raise RuntimeError("The package holds no migrations.")
    async with _connection(database_url) as connection:
        current = await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())
    return MigrationStatus(current=current, head=head)


async def _migrate(database_url: str, run: Callable[[Config], None], patience: timedelta) -> None:
    async with _connection(database_url) as connection:
        await connection.exec_driver_sql(f"SELECT pg_advisory_lock({_ADVISORY_LOCK})")
        await connection.commit()
        try:
            await _run_patiently(connection, run, patience)
        finally:
            await connection.rollback()
            await connection.exec_driver_sql(f"SELECT pg_advisory_unlock({_ADVISORY_LOCK})")
            await connection.commit()


async def _run_patiently(connection: AsyncConnection, run: Callable[[Config], None], patience: timedelta) -> None:
    clock = asyncio.get_running_loop()
    deadline = clock.time() + patience.total_seconds()
    for lock_timeout in cycle(LOCK_TIMEOUTS):
        await connection.exec_driver_sql(f"SET lock_timeout = {lock_timeout // timedelta(milliseconds=1)}")
        await connection.commit()
        try:
            await connection.run_sync(_run, run)
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            if clock.time() >= deadline:
                raise
        else:
            return
        await connection.rollback()
        await asyncio.sleep(random.uniform(0, _PAUSE.total_seconds()))  # noqa: S311 - no secret


def _run(connection: Connection, run: Callable[[Config], None]) -> None:
    configuration = _configuration()
    configuration.attributes["connection"] = connection
    with _driver_errors():
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
        "postgresql+asyncpg://", async_creator=lambda: _connected(database_url), poolclass=NullPool
    )
    try:
        connection = engine.connect()
        with _driver_errors():
            await connection.start()
        try:
            yield connection
        finally:
            await connection.close()
    finally:
        await engine.dispose()


async def _connected(database_url: str) -> asyncpg.Connection[asyncpg.Record]:
    try:
        return await asyncpg.connect(database_url)
    except asyncpg.InterfaceError:
        raise
    except (ValueError, OverflowError):
        # Its text may hold a part of the password.
        raise asyncpg.InterfaceError(
            "the address cannot be read: a port is a number, special characters of a password are percent-encoded, "
            "and an IPv6 address stands in brackets, before other hosts"
        ) from None


@contextmanager
def _driver_errors() -> Iterator[None]:
    """Raise the driver's own errors, not SQLAlchemy's wrapping of its adapter's wrapping of them."""
    try:
        yield
    except DBAPIError as error:
        if error.orig is None:
            raise
        raise error.orig.__cause__ or error.orig from error
