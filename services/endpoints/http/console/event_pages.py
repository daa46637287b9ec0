"""Events, why something ran of them or nothing, and their runs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from services.endpoints.domain.event import EventState
from services.endpoints.domain.page import PageRequest
from services.endpoints.domain.ports.events import EventFilter
from services.endpoints.http.console.visits import PAGE_SIZE, Shown
from services.endpoints.operations.events import EventLookup
from services.endpoints.operations.runs import RunWish

if TYPE_CHECKING:
    from services.endpoints.http.console.services import ConsoleServices
    from services.endpoints.http.console.visits import Visit


class EventPages:
    """Shows events and what came of them."""

    def __init__(self, *, services: ConsoleServices) -> None:
        """Hold what is asked."""
        self._services = services

    async def events(self, visit: Visit) -> Shown:
        """Show an environment's events."""
        environment = await self._services.tenancy.get_environment(visit.principal, visit.id("environment"))
        wanted = EventFilter(environment.id, name=visit.text("name"), state=visit.choice("state", EventState))
        page = await self._services.events.list_events(visit.principal, wanted, visit.page_request())
        return Shown(
            "events.html",
            {
                "environment": environment,
                "events": page.items,
                "paging": visit.paging(page),
                "wanted": wanted,
                "states": list(EventState),
            },
        )

    async def event(self, visit: Visit) -> Shown:
        """Show an event, what each dispatcher made of it, and its first runs."""
        lookup = EventLookup(id=visit.id("event"))
        explanation = await self._services.explanations.explain(visit.principal, lookup, visit.page_request())
        event = await self._services.events.get(visit.principal, lookup)
        runs = await self._services.runs.list_runs(
            visit.principal, RunWish(event.environment_id, event_record_id=event.id), PageRequest(size=PAGE_SIZE)
        )
        return Shown(
            "event.html",
            {
                "event": event,
                "explanation": explanation,
                "paging": visit.paging(explanation.dispatchers),
                "runs": runs.items,
                "has_more_runs": runs.next_after is not None,
            },
        )

    async def runs(self, visit: Visit) -> Shown:
        """Show an environment's runs, of one event when the query names it."""
        environment = await self._services.tenancy.get_environment(visit.principal, visit.id("environment"))
        wish = RunWish(environment.id, job_slug=visit.text("job"))
        if (event_record_id := visit.optional_id("event", resource="event")) is not None:
            wish = replace(wish, event_record_id=event_record_id)
        page = await self._services.runs.list_runs(visit.principal, wish, visit.page_request())
        return Shown(
            "runs.html", {"environment": environment, "runs": page.items, "paging": visit.paging(page), "wish": wish}
        )
