"""What operations ask of dispatchers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from services.endpoints.domain.dispatcher import Dispatcher, DispatcherChanges, DispatcherOrigin, NewDispatcher
    from services.endpoints.domain.page import Fitting


@dataclass(frozen=True, slots=True)
class DispatcherFilter:
    """Which dispatchers of an environment to list; None means any. Texts are compared as they are."""

    environment_id: UUID
    event_name: str | None = None
    source: str | None = None
    origin: DispatcherOrigin | None = None


class Dispatchers(Protocol):
    """Statements on dispatchers."""

    async def get(self, dispatcher_id: UUID) -> Dispatcher | None:
        """Read one dispatcher."""
        ...

    async def list_dispatchers(self, wanted: DispatcherFilter, *, limit: int, after_id: UUID) -> Fitting[Dispatcher]:
        """Read the dispatchers whose ids come after `after_id`, by id, as many as fit into a page.

        With an event's name the cost is that of the dispatchers that listen to it, however many others there are.
        """
        ...

    async def insert(
        self, new: NewDispatcher, *, dispatcher_id: UUID, environment_id: UUID, new_id: Callable[[], UUID]
    ) -> Dispatcher | None:
        """Insert a dispatcher of origin API, and its account when that is new; return it as it is stored.

        None means that the environment does not have what it is to start, and nothing was inserted but the account.
        `new_id` makes the id of a new account.
        """
        ...

    async def change(self, dispatcher: Dispatcher, changes: DispatcherChanges, *, new_id: Callable[[], UUID]) -> None:
        """Change a dispatcher of origin API, and insert its account when that is new.

        One that has the values already stays as it is, and so does one of origin INDEX.
        """
        ...

    async def set_operator_disabled(self, dispatcher_id: UUID, *, is_disabled: bool) -> None:
        """Note an operator's word about a dispatcher of origin INDEX, which no index changes."""
        ...

    async def delete(self, dispatcher_id: UUID) -> bool:
        """Delete a dispatcher of origin API; return whether there was one."""
        ...
