"""How PostgreSQL plans: left to itself, it plans at every execution or keeps what suited an empty table."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from services.endpoints.store.errors import translated

if TYPE_CHECKING:
    import asyncpg

_MANY_ROWS: Final = 50
_CUSTOM: Final = "force_custom_plan"


class Plans(Enum):
    """The planner's settings for a pool of connections."""

    # Statements that have one good plan, by indexes and from row to row, whatever the tables hold and whose it is.
    KEPT = {  # noqa: RUF012 - a member's value
        "plan_cache_mode": "force_generic_plan",
        "enable_seqscan": "off",
        "enable_bitmapscan": "off",
        "enable_hashjoin": "off",
        "enable_mergejoin": "off",
        "enable_incremental_sort": "off",
    }
    # Lists whose best plan depends on how much there is of what is asked for.
    EACH_TIME = {**KEPT, "plan_cache_mode": _CUSTOM}  # noqa: RUF012 - a member's value


_FOR_MANY_ROWS: Final = ";".join(
    f"SET LOCAL {name} = {_CUSTOM if name == 'plan_cache_mode' else 'on'}" for name in Plans.KEPT.value
)


async def plan_for_rows(connection: asyncpg.Connection[asyncpg.Record], rows: int) -> None:
    """Have the statements that follow in this transaction planned for what they are given, when that is many rows.

    A kept plan may read a table that was small when it was made once for each row given. That is nothing for a few
    rows; for many, planning anew costs less than the least of it.
    """
    if rows >= _MANY_ROWS:
        with translated():
            await connection.execute(_FOR_MANY_ROWS)
