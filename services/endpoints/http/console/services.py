"""The operations that the console shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.endpoints.operations.authentication import Authentication
    from services.endpoints.operations.catalog import CatalogOperations
    from services.endpoints.operations.endpoints import EndpointOperations
    from services.endpoints.operations.events import EventOperations
    from services.endpoints.operations.explanations import EventExplanations
    from services.endpoints.operations.indexing import IndexingOperations
    from services.endpoints.operations.limits import TenantLimits
    from services.endpoints.operations.page_tokens import PageTokens
    from services.endpoints.operations.queue_jobs import QueueJobOperations
    from services.endpoints.operations.runs import RunOperations
    from services.endpoints.operations.tenancy import TenancyOperations


@dataclass(frozen=True, slots=True)
class ConsoleServices:
    """What the console asks; each operation decides itself what a principal may see.

    `limits` count what a tenant asks here together with what it asks by gRPC.
    """

    authentication: Authentication
    tenancy: TenancyOperations
    endpoints: EndpointOperations
    indexing: IndexingOperations
    catalog: CatalogOperations
    events: EventOperations
    explanations: EventExplanations
    runs: RunOperations
    queue_jobs: QueueJobOperations
    page_tokens: PageTokens
    limits: TenantLimits
