"""How PostgreSQL plans: left to itself, it plans at every execution or keeps what suited an empty table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.endpoints.store.errors import translated

if TYPE_CHECKING:
    from collections.abc import Mapping

    import asyncpg

_MANY_ROWS: Final = 50

# Statements have one good plan, by indexes and from row to row, whatever the tables hold.
KEPT_PLANS: Final[Mapping[str, str]] = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_incremental_sort": "off",
}
_ANEW: Final = ";".join(
    f"SET LOCAL {name} = {'force_custom_plan' if name == 'plan_cache_mode' else 'on'}" for name in KEPT_PLANS
)


async def plan_anew(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Have the statements that follow in this transaction planned for the values that they are given."""
    with translated():
        await connection.execute(_ANEW)


async def plan_for_rows(connection: asyncpg.Connection[asyncpg.Record], rows: int) -> None:
    """Have the statements that follow in this transaction planned for what they are given, when that is many rows.

    A kept plan may read a table that was small when it was made once for each row given. That is nothing for a few
    rows; for many, planning anew costs less than the least of it.
    """
    if rows >= _MANY_ROWS:
        await plan_anew(connection)
