"""The catalog of an environment: jobs, sources, dynamic triggers and schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.endpoints.http.console.visits import Shown
from services.endpoints.operations.catalog import JobWish

if TYPE_CHECKING:
    from typing import Any

    from services.endpoints.domain.page import Page
    from services.endpoints.domain.tenancy import Environment
    from services.endpoints.http.console.services import ConsoleServices
    from services.endpoints.http.console.visits import Visit


class CatalogPages:
    """Shows what the indexes of an environment registered."""

    def __init__(self, *, services: ConsoleServices) -> None:
        """Hold what is asked."""
        self._tenancy = services.tenancy
        self._catalog = services.catalog

    async def jobs(self, visit: Visit) -> Shown:
        """Show jobs with their latest versions."""
        environment = await self._environment(visit)
        wish = JobWish(environment.id, slug=visit.text("slug"))
        page = await self._catalog.list_jobs(visit.principal, wish, visit.page_request())
        return _shown("jobs.html", visit, environment, page, slug=wish.slug)

    async def sources(self, visit: Visit) -> Shown:
        """Show sources of events."""
        environment = await self._environment(visit)
        page = await self._catalog.list_sources(visit.principal, environment.id, visit.page_request(), endpoint_id=None)
        return _shown("sources.html", visit, environment, page)

    async def dynamic_triggers(self, visit: Visit) -> Shown:
        """Show dynamic triggers and dynamic schedules."""
        environment = await self._environment(visit)
        page = await self._catalog.list_dynamic_triggers(
            visit.principal, environment.id, visit.page_request(), endpoint_id=None
        )
        return _shown("dynamic_triggers.html", visit, environment, page)

    async def schedules(self, visit: Visit) -> Shown:
        """Show schedules."""
        environment = await self._environment(visit)
        page = await self._catalog.list_schedules(visit.principal, environment.id, visit.page_request())
        return _shown("schedules.html", visit, environment, page)

    async def _environment(self, visit: Visit) -> Environment:
        return await self._tenancy.get_environment(visit.principal, visit.id("environment"))


def _shown(template: str, visit: Visit, environment: Environment, page: Page[Any], **more: object) -> Shown:
    values = {"environment": environment, "entries": page.items, "paging": visit.paging(page), **more}
    return Shown(template, values)
