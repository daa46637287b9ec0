"""An endpoint: one customer app at one URL, unique by (environment, slug)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID


class EndpointState(Enum):
    """How the endpoint has been answering; a SUSPENDED one is indexed only by force."""

    HEALTHY = "HEALTHY"
    FAILING = "FAILING"
    SUSPENDED = "SUSPENDED"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One row of `endpoints`; `indexing_hook_identifier` is a credential.

    `next_probe_at` is None while the endpoint is HEALTHY; `quiet_until` is when one that is wants to be called again,
    None when it wants nothing or that time has come.
    """

    id: UUID
    slug: str
    url: str
    indexing_hook_identifier: str
    environment_id: UUID
    organization_id: UUID
    project_id: UUID
    index_sequence: int
    state: EndpointState
    consecutive_failures: int
    state_reason: str | None
    state_changed_at: datetime
    next_probe_at: datetime | None
    created_at: datetime
    updated_at: datetime
    quiet_until: datetime | None = None

    @property
    def is_well(self) -> bool:
        """Tell whether it is HEALTHY, its last call did not fail, and it may be called."""
        return self.state is EndpointState.HEALTHY and not self.consecutive_failures and self.quiet_until is None
