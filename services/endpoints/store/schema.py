"""Knows which schema this program was written for, and whether a database has it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg
import structlog

from services.endpoints.domain.errors import DatabaseUnavailableError
from services.endpoints.store.queries import load

if TYPE_CHECKING:
    _Connection = asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]

_log = structlog.get_logger(__name__)

_SQL: Final = load("schema")
_VERSIONS: Final = Path(__file__).parent / "migrations" / "versions"
_LOOK_AGAIN_AFTER: Final = timedelta(seconds=1)

NEWEST_REVISION: Final = max(path.name.partition("_")[0] for path in _VERSIONS.glob("*_up.sql"))
"""The revision that this program was written for; revisions are numbers of four digits."""


async def require_schema(connection: _Connection) -> None:
    """Return when the database's schema is this program's or newer: a migration serves the release before it, too.

    Raises:
        DatabaseUnavailableError: it is older, or there is none.
    """
    try:
        revision = await connection.fetchval(_SQL["revision"])
    except asyncpg.UndefinedTableError:
        revision = None
    if revision is None or revision < NEWEST_REVISION:
        raise DatabaseUnavailableError(
            f"The database has the schema {revision or 'of nothing'}, and this server needs {NEWEST_REVISION}: "
            "run kongflow migrate up.",
            retry_after=_LOOK_AGAIN_AFTER,
        )
    if revision > NEWEST_REVISION:
        _log.warning("schema_is_newer", revision=revision, known=NEWEST_REVISION)
