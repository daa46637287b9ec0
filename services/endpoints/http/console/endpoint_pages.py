"""Environments, endpoints with their health, and what their indexes found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.endpoints.domain.endpoint_index import ItemKind, ItemState
from services.endpoints.http.console.visits import Shown
from services.endpoints.operations.indexing import ItemFilter
from services.endpoints.operations.tenancy import EnvironmentFilter

if TYPE_CHECKING:
    from services.endpoints.http.console.services import ConsoleServices
    from services.endpoints.http.console.visits import Visit


class EndpointPages:
    """Shows environments, endpoints and indexes."""

    def __init__(self, *, services: ConsoleServices) -> None:
        """Hold what is asked."""
        self._services = services

    async def environments(self, visit: Visit) -> Shown:
        """Show the environments that the principal sees."""
        page = await self._services.tenancy.list_environments(
            visit.principal, EnvironmentFilter(), visit.page_request()
        )
        return Shown("environments.html", {"environments": page.items, "paging": visit.paging(page)})

    async def endpoints(self, visit: Visit) -> Shown:
        """Show an environment's endpoints."""
        environment = await self._services.tenancy.get_environment(visit.principal, visit.id("environment"))
        page = await self._services.endpoints.list_endpoints(visit.principal, environment.id, visit.page_request())
        return Shown(
            "endpoints.html", {"environment": environment, "endpoints": page.items, "paging": visit.paging(page)}
        )

    async def endpoint(self, visit: Visit) -> Shown:
        """Show an endpoint and its indexes."""
        endpoint = await self._services.endpoints.get(visit.principal, visit.id("endpoint"))
        page = await self._services.indexing.list_indexes(visit.principal, endpoint.id, visit.page_request())
        values = {
            "endpoint": endpoint,
            "indexes": page.items,
            "paging": visit.paging(page),
            "is_resumable": visit.may_operate and not endpoint.is_well,
            "was_resumed": "resumed" in visit.request.query,
        }
        return Shown("endpoint.html", values)

    async def resume(self, visit: Visit) -> str:
        """Make an endpoint HEALTHY and let it be called; return where to see it.

        Raises:
            NotFoundError: there is none for this principal.
        """
        endpoint = await self._services.endpoints.resume(visit.principal, visit.id("endpoint"))
        return f"/endpoints/{endpoint.id}?resumed"

    async def index(self, visit: Visit) -> Shown:
        """Show an index and its items."""
        wanted = ItemFilter(kind=visit.choice("kind", ItemKind), state=visit.choice("state", ItemState))
        index = await self._services.indexing.get_index(visit.principal, visit.id("index"))
        endpoint = await self._services.endpoints.get(visit.principal, index.endpoint_id)
        page = await self._services.indexing.list_items(visit.principal, index.id, wanted, visit.page_request())
        return Shown(
            "index.html",
            {
                "index": index,
                "endpoint": endpoint,
                "items": page.items,
                "paging": visit.paging(page),
                "wanted": wanted,
                "kinds": list(ItemKind),
                "states": list(ItemState),
            },
        )
