"""What operations ask of the endpoints table, inside one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from uuid import UUID

    from services.endpoints.domain.endpoint import Endpoint
    from services.endpoints.domain.tenancy import Environment


@dataclass(frozen=True, slots=True)
class SealedCredential:
    """An environment with its API key still encrypted."""

    environment: Environment
    api_key_ciphertext: bytes


class Endpoints(Protocol):
    """Statements about endpoints."""

    async def credential(self, environment_id: UUID) -> SealedCredential | None:
        """Read an environment with its sealed API key."""
        ...

    async def get(self, endpoint_id: UUID) -> Endpoint | None:
        """Read one endpoint."""
        ...

    async def get_by_slug(self, environment_id: UUID, slug: str) -> Endpoint | None:
        """Read the endpoint of that slug."""
        ...

    async def list_endpoints(self, environment_id: UUID, *, limit: int, after_slug: str) -> list[Endpoint]:
        """Read an environment's endpoints by slug, those after `after_slug`."""
        ...

    async def insert(
        self, *, endpoint_id: UUID, slug: str, url: str, hook_identifier: str, environment: Environment
    ) -> Endpoint:
        """Insert an endpoint."""
        ...

    async def set_url(self, endpoint_id: UUID, url: str) -> Endpoint | None:
        """Give an endpoint another url; None when it is gone."""
        ...

    async def draw_sequence(self, endpoint_id: UUID) -> int | None:
        """Draw the next number of the endpoint's indexes; None when it is gone."""
        ...

    async def delete(self, endpoint_id: UUID) -> bool:
        """Delete an endpoint with all that belongs to it; False when it was gone."""
        ...
