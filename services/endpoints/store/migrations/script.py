"""Runs the SQL file of a revision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import op


def run_script(revision_file: str, name: str) -> None:
    """Execute the SQL file `name`, which lies beside `revision_file`, inside the migration's transaction.

    The file goes to the server as it is, in one message, however many statements it has.

    Source: PostgreSQL 18, 54.2.2.1 (multiple statements in a simple query).
    """
    script = Path(revision_file).with_name(name).read_text(encoding="utf-8")
    # Alembic has read the current revision through this connection, so its transaction is open.
    driver_connection: Any = op.get_bind().connection.dbapi_connection
    driver_connection.run_async(lambda raw: raw.execute(script))
