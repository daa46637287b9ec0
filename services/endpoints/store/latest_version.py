"""What follows from the greatest ACTIVE version of a job: its alias, its dispatcher and its schedule, by one rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.endpoints.store.errors import translated
from services.endpoints.store.queries import load

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    import asyncpg

_SQL: Final = load("catalog")


async def follow_latest_versions(
    connection: asyncpg.Connection[asyncpg.Record],
    touched: Sequence[tuple[UUID, UUID]],
    *,
    new_id: Callable[[], UUID],
) -> None:
    """Rewrite alias, dispatcher and schedule of each distinct (job, environment); the jobs must be locked.

    Rows of other origins, and what an operator disabled, stay as they are.
    """
    if not touched:
        return
    job_ids = [job_id for job_id, _ in touched]
    environment_ids = [environment_id for _, environment_id in touched]
    with translated():
        await connection.execute(_SQL["move_latest_aliases"], job_ids, environment_ids)
        for block in ("rewrite_job_dispatchers", "rewrite_job_schedules"):
            await connection.execute(_SQL[block], [new_id() for _ in touched], job_ids, environment_ids)
