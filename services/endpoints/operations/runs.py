"""What callers read of runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from services.endpoints.domain.errors import NotFoundError
from services.endpoints.domain.page import page_of
from services.endpoints.domain.ports.dispatch import RunFilter
from services.endpoints.domain.tenancy import PrincipalKind
from services.endpoints.operations.authorization import acting_environment, require_environment

if TYPE_CHECKING:
    from datetime import datetime

    from services.endpoints.domain.page import Page, PageRequest
    from services.endpoints.domain.ports.store import Store
    from services.endpoints.domain.run import Run, RunState
    from services.endpoints.domain.tenancy import Principal


@dataclass(frozen=True, slots=True)
class RunWish:
    """Which runs to list; `environment_id` None means the API key's own, any other None does not restrict."""

    environment_id: UUID | None = None
    job_slug: str | None = None
    event_record_id: UUID | None = None
    state: RunState | None = None
    created_from: datetime | None = None
    created_before: datetime | None = None


class RunOperations:
    """What callers read of runs."""

    def __init__(self, *, store: Store) -> None:
        """Hold the port."""
        self._store = store

    async def get_run(self, principal: Principal, run_id: UUID) -> Run:
        """Return one run.

        Raises:
            NotFoundError: there is none for this principal.
            PermissionDeniedError: it is of another environment of an API key's organization.
        """
        async with self._store.reading() as tx:
            run = await tx.dispatch.get_run(run_id)
            if run is None:
                raise NotFoundError("run", str(run_id))
            if principal.kind is not PrincipalKind.ADMIN:
                environment = await tx.tenancy.known_environment(run.environment_id)
                try:
                    require_environment(principal, environment, name=run.environment_id)
                except NotFoundError as error:
                    raise NotFoundError("run", str(run_id)) from error
        return run

    async def list_runs(self, principal: Principal, wanted: RunWish, page: PageRequest) -> Page[Run]:
        """Return a page of an environment's runs, newest first.

        Raises:
            NotFoundError: there is no such environment for this principal.
            PermissionDeniedError: it is another one of an API key's organization.
        """
        async with self._store.reading() as tx:
            environment = await acting_environment(tx, principal, wanted.environment_id)
            rows = await tx.dispatch.list_runs(
                RunFilter(
                    environment.id,
                    job_slug=wanted.job_slug,
                    event_record_id=wanted.event_record_id,
                    state=wanted.state,
                    created_from=wanted.created_from,
                    created_before=wanted.created_before,
                ),
                limit=page.limit,
                before=UUID(page.after) if page.after else None,
            )
        return page_of(rows, page, lambda run: str(run.id))
