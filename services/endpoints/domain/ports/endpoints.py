"""What operations ask of the endpoints table, inside one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta
    from uuid import UUID

    from services.endpoints.domain.endpoint import Endpoint, EndpointState
    from services.endpoints.domain.endpoint_health import Health
    from services.endpoints.domain.tenancy import Environment


@dataclass(frozen=True, slots=True)
class SealedCredential:
    """An environment with its API key and the secrets that sign calls now, newest first, still encrypted.

    `previous_api_key_ciphertext` is None unless a rotation overlaps now.
    """

    environment: Environment
    api_key_ciphertext: bytes
    signing_secret_ciphertexts: tuple[bytes, ...] = ()
    previous_api_key_ciphertext: bytes | None = None


@dataclass(frozen=True, slots=True)
class HeldHealth:
    """The health of a locked endpoint, and the url that it is of."""

    url: str
    health: Health


@dataclass(frozen=True, slots=True)
class DueEndpoint:
    """An endpoint that something is due for; `slug` is empty where nobody needs it."""

    id: UUID
    environment_id: UUID
    slug: str = ""


class Endpoints(Protocol):
    """Statements about endpoints."""

    async def credential(self, environment_id: UUID) -> SealedCredential | None:
        """Read an environment with its sealed API keys and signing secrets."""
        ...

    async def get(self, endpoint_id: UUID) -> Endpoint | None:
        """Read one endpoint."""
        ...

    async def get_by_slug(self, environment_id: UUID, slug: str) -> Endpoint | None:
        """Read the endpoint of that slug."""
        ...

    async def list_endpoints(
        self, environment_id: UUID, *, limit: int, after_slug: str, state: EndpointState | None = None
    ) -> list[Endpoint]:
        """Read an environment's endpoints by slug, those after `after_slug`; `state` None means any."""
        ...

    async def insert(
        self,
        *,
        endpoint_id: UUID,
        slug: str,
        url: str,
        hook_identifier: str,
        environment: Environment,
        next_index_in: timedelta | None = None,
    ) -> Endpoint:
        """Insert an endpoint; `next_index_in` None means that it is not indexed by schedule."""
        ...

    async def set_url(self, endpoint_id: UUID, url: str) -> Endpoint | None:
        """Give an endpoint another url; None when it is gone."""
        ...

    async def draw_sequence(self, endpoint_id: UUID) -> int | None:
        """Draw the next number of the endpoint's indexes; None when it is gone."""
        ...

    async def lock_health(self, endpoint_id: UUID) -> HeldHealth | None:
        """Lock what is known of an endpoint's health; None when it is gone."""
        ...

    async def set_health(
        self, endpoint_id: UUID, *, before: EndpointState, health: Health, index_now: bool = False
    ) -> None:
        """Store the health of an endpoint that was in the state `before`.

        With `index_now` the next index by schedule is due, where there is one.
        """
        ...

    async def claim_probe(self, endpoint_id: UUID, *, put_off: timedelta) -> bool:
        """Take the one call that an unhealthy endpoint is due; the next is due in `put_off` at first."""
        ...

    async def hasten_probe(self, endpoint_id: UUID, *, within: timedelta) -> None:
        """Let the probe of an endpoint that fails be due in `within`, unless it is sooner."""
        ...

    async def hold_wait(self, endpoint_id: UUID) -> tuple[EndpointState, timedelta | None] | None:
        """Lock an endpoint's state and how long it is to be left alone; None when it is gone.

        Others may hold it as well, but nobody changes it before this transaction ends.
        """
        ...

    async def due_probes(self, *, limit: int) -> list[DueEndpoint]:
        """Lock, by id, endpoints whose probe is due and has not been asked for."""
        ...

    async def note_probes(self, queue_job_ids: Mapping[UUID, UUID]) -> None:
        """Note, by endpoint, which queue jobs will probe locked endpoints."""
        ...

    async def forget_probe(self, endpoint_id: UUID, *, queue_job_id: UUID) -> None:
        """Let the next probe be asked for."""
        ...

    async def due_indexes(self, *, limit: int) -> list[DueEndpoint]:
        """Read endpoints that are due to be indexed anew by schedule, the longest due first."""
        ...

    async def is_index_due(self, endpoint_id: UUID) -> bool:
        """Tell whether an endpoint is due to be indexed anew by schedule."""
        ...

    async def schedule_index(self, endpoint_id: UUID, *, next_in: timedelta) -> None:
        """Put an index that is due by schedule off by a period."""
        ...

    async def owed_indexes(self, *, limit: int) -> list[DueEndpoint]:
        """Read endpoints whose owed index is to be asked for, the longest due first.

        Without it, something that the endpoint offers may stay disabled, because another endpoint dropped it. One that
        is SUSPENDED is left out until it is back.
        """
        ...

    async def is_index_owed(self, endpoint_id: UUID) -> bool:
        """Tell whether an endpoint's owed index is to be asked for now."""
        ...

    async def owe_index(self, endpoint_id: UUID, *, asked_in: timedelta) -> None:
        """Have an index of an endpoint asked for after a time, and again and again until it has answered one."""
        ...

    async def owe_no_index(self, endpoint_id: UUID) -> None:
        """Have the index that an endpoint was owed not asked for again: it has answered one."""
        ...

    async def has_long_history(self, endpoint_id: UUID, *, rows: int) -> bool:
        """Tell whether more than `rows` runs, disabled job versions, or final indexes and items go with an endpoint."""
        ...

    async def delete(self, endpoint_id: UUID) -> bool:
        """Delete an endpoint with all that belongs to it; False when it was gone."""
        ...
