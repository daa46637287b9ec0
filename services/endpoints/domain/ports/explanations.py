"""What explaining an event asks of the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from uuid import UUID

    from services.endpoints.domain.explanation import InvocationCounts
    from services.endpoints.domain.run import Invocation


class Explanations(Protocol):
    """Statements that say what came of an event."""

    async def invocations(self, event_record_id: UUID, dispatcher_ids: Collection[UUID]) -> Mapping[UUID, Invocation]:
        """Read what came of giving an event to dispatchers, by dispatcher; those that were not told are left out."""
        ...

    async def count_invocations(self, event_record_id: UUID) -> InvocationCounts:
        """Count what came of an event, whoever got it."""
        ...
