"""What operations ask of the catalog (jobs, sources, dynamic triggers, schedules), inside one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from services.endpoints.domain.catalog_entries import DynamicTrigger, Job, JobFilter, Schedule, Source
    from services.endpoints.domain.endpoint_index import ItemKind
    from services.endpoints.domain.json_text import JsonObject
    from services.endpoints.domain.page import Fitting


@dataclass(frozen=True, slots=True)
class ItemRegistration:
    """One registration to carry out.

    `payload` is what `read_index_answer` made of the item and `content_hash` its canonical hash. `index_sequence` is
    the number its index drew from the endpoint. `sealed_secret` is given for sources only, and used when the source has
    none yet.
    """

    queue_job_id: UUID
    kind: ItemKind
    endpoint_id: UUID
    index_id: UUID
    index_sequence: int
    payload: JsonObject
    content_hash: bytes
    sealed_secret: bytes | None = None

    @property
    def key(self) -> str:
        """What names the item within its kind."""
        return str(self.payload["key" if "key" in self.payload else "id"])

    @property
    def version(self) -> str:
        """The version of a job."""
        return str(self.payload["version"])


class RegistrationResult(Enum):
    """What a registration found: a new item, another content, the same content, or a newer registration."""

    REGISTERED = "REGISTERED"
    CHANGED = "CHANGED"
    UNCHANGED = "UNCHANGED"
    SUPERSEDED = "SUPERSEDED"


@dataclass(frozen=True, slots=True)
class RegistrationOutcome:
    """What became of one registration; `reason` is set when it had no effect."""

    queue_job_id: UUID
    index_id: UUID
    kind: ItemKind
    key: str
    result: RegistrationResult
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class OfferedItem:
    """An item as an answer offers it: its content hash is compared with the stored one."""

    kind: ItemKind
    key: str
    version: str | None
    content_hash: bytes


class Catalog(Protocol):
    """Statements about what indexes found."""

    async def register(self, batch: Sequence[ItemRegistration]) -> list[RegistrationOutcome]:
        """Carry out registrations of any kinds and endpoints; one outcome each, in the order of the batch.

        A registration is superseded when its endpoint is gone, when its endpoint has answered with a newer index, when
        the stored item carries a newer number of the same endpoint, or when the batch itself holds a newer one of the
        same item. An item of another endpoint is taken over. The rows that two endpoints may share are locked in one
        order: endpoints by id, jobs by (project, slug), integrations by (organization, slug), queues by (environment,
        name), then the rows below them. A job of which an endpoint registers another version goes back as in
        `disable_absent`.
        """
        ...

    async def renumber_unchanged(
        self, endpoint_id: UUID, *, sequence: int, items: Sequence[OfferedItem]
    ) -> set[tuple[ItemKind, str]]:
        """Give `sequence` to every stored item that is enabled and has the offered content; return these.

        A job counts only by the version this endpoint has ACTIVE.
        First it locks all jobs and sources that it and `disable_absent` may write, in the order of `register`.
        """
        ...

    async def disable_absent(
        self, endpoint_id: UUID, *, sequence: int, offered: Sequence[tuple[ItemKind, str]]
    ) -> list[tuple[ItemKind, str]]:
        """Disable every enabled item of the endpoint that is not offered; return these, sorted.

        A job is disabled as a whole: every ACTIVE version this endpoint has of it. Its row keeps `sequence`, so that an
        older registration cannot bring it back. Items of other endpoints are never touched.

        A job version or source that was taken over goes back to an endpoint that still offers it with the same content,
        a HEALTHY one first; of those that offer it with other content, an index is due at once.
        """
        ...

    async def delete_disabled_versions(self, endpoint_id: UUID, *, limit: int) -> bool:
        """Delete at most `limit` DISABLED job versions of an endpoint that is about to be deleted, in one statement.

        Those stay of which something is left to another endpoint. Returns False once there may be no more.
        """
        ...

    async def disable_endpoint(self, endpoint_id: UUID) -> list[tuple[ItemKind, str]]:
        """Disable everything an endpoint offers, so that it may be deleted; return what was enabled, sorted.

        Job versions and sources go back as in `disable_absent`. Dispatchers and aliases of its other versions go to
        another endpoint's version of the same job, where there is one.
        """
        ...

    async def list_jobs(self, wanted: JobFilter, *, limit: int, after_slug: str) -> Fitting[Job]:
        """Read an environment's jobs by slug, as many as fit into a page."""
        ...

    async def get_job(self, environment_id: UUID, slug: str) -> Job | None:
        """Read one job with its latest version."""
        ...

    async def list_sources(
        self, environment_id: UUID, *, endpoint_id: UUID | None, limit: int, after_key: str
    ) -> Fitting[Source]:
        """Read an environment's sources by key, as many as fit into a page."""
        ...

    async def list_dynamic_triggers(
        self, environment_id: UUID, *, endpoint_id: UUID | None, limit: int, after_id: UUID
    ) -> Fitting[DynamicTrigger]:
        """Read an environment's dynamic triggers and dynamic schedules, oldest first, as many as fit into a page."""
        ...

    async def list_schedules(
        self, environment_id: UUID, *, is_active: bool | None, limit: int, after_id: UUID
    ) -> list[Schedule]:
        """Read an environment's schedules, those of jobs and those of dynamic schedules, oldest first."""
        ...
