"""Items that an endpoint offers though another registered them since; the statements are in `sql/displaced.sql`.

A job version and a source have one row for all endpoints of their environment, and whoever registered it last has it.
Who had it before is displaced until it registers the item again, or stops offering it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.endpoints.store.errors import translated
from services.endpoints.store.queries import load

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    import asyncpg

    from services.endpoints.domain.endpoint_index import ItemKind

_SQL: Final = load("displaced")


class DisplacedItems:
    """Statements about displaced items on one connection; jobs and sources that are given are locked."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        """Bind to the connection of a transaction."""
        self._connection = connection

    async def withdraw(self, endpoint_id: UUID, offered: Sequence[tuple[ItemKind, str]]) -> None:
        """Forget what the endpoint was displaced from and does not offer any more."""
        kinds, keys = [kind.value for kind, _ in offered], [key for _, key in offered]
        with translated():
            await self._connection.execute(_SQL["withdraw"], endpoint_id, kinds, keys)

    async def withdraw_versions(self, held: Sequence[tuple[UUID, UUID]]) -> None:
        """Forget which versions endpoints were displaced from: pairs of an endpoint and a job it has registered."""
        if held:
            with translated():
                await self._connection.execute(_SQL["withdraw_versions"], *_columns(held))

    async def give_back(
        self, held: Sequence[tuple[UUID, UUID]], source_ids: Sequence[UUID] = ()
    ) -> set[tuple[UUID, UUID]]:
        """Give what endpoints had of jobs and sources, and is disabled by now, to those that were displaced.

        `held` are pairs of an endpoint and a job. It goes to who offered the same content; of who offered other content
        an index is due at once. Return the (job, environment) pairs of which a version went.
        """
        if not (held or source_ids):
            return set()
        with translated():
            rows = await self._connection.fetch(_SQL["give_back"], *_columns(held), source_ids)
        return {(row["job_id"], row["environment_id"]) for row in rows}

    async def bequeath(self, endpoint_id: UUID) -> None:
        """Give what an endpoint that is being deleted has left, all of it disabled, to those that were displaced.

        They offer other content, and were asked for an index: it makes theirs of what hangs on the item.
        """
        with translated():
            await self._connection.execute(_SQL["bequeath"], endpoint_id)


def _columns(held: Sequence[tuple[UUID, UUID]]) -> tuple[list[UUID], list[UUID]]:
    return [endpoint_id for endpoint_id, _ in held], [job_id for _, job_id in held]
