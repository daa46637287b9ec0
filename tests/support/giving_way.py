"""A table to which the first writes meet a database that gives way to somebody else's."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncpg


async def give_way(connection: asyncpg.Connection[asyncpg.Record], table: str, *, sqlstate: str) -> None:
    """Fail two inserts into a table, and take those that follow."""
    # What a sequence counts is not rolled back.
    await connection.execute(
        "CREATE SEQUENCE writes; CREATE FUNCTION give_way() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF nextval('writes') < 3 THEN RAISE EXCEPTION 'gave way' USING ERRCODE = TG_ARGV[0]; END IF; RETURN NEW;"
        f" END $$; CREATE TRIGGER giving_way BEFORE INSERT ON {table} EXECUTE FUNCTION give_way('{sqlstate}')"
    )
