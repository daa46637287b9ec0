"""Registrations on PostgreSQL, whole batches at a time; the statements are in `sql/registration.sql`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from services.endpoints.domain.endpoint_index import ItemKind
from services.endpoints.domain.ports.catalog import RegistrationResult
from services.endpoints.domain.registration import (
    ENDPOINT_DELETED,
    NEWER_REGISTRATION,
    keep_newest,
    outcome_of,
)
from services.endpoints.store.errors import translated
from services.endpoints.store.job_registration import JobRegistrations
from services.endpoints.store.queries import load
from services.endpoints.store.registered_item import PlacedRegistration
from services.endpoints.store.trigger_registration import DynamicTriggerRegistrations, SourceRegistrations

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping, Sequence
    from uuid import UUID

    import asyncpg

    from services.endpoints.domain.json_text import JsonObject
    from services.endpoints.domain.ports.catalog import ItemRegistration, RegistrationOutcome

_SQL: Final = load("registration")


@dataclass(frozen=True, slots=True)
class _IntegrationNeed:
    organization_id: UUID
    slug: str
    definition_id: str
    definition_name: str
    instructions: str | None
    auth_source: str


class Registrations:
    """Carries out a batch: first everything that endpoints may share is locked in one order, then each kind follows."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record], *, new_id: Callable[[], UUID]) -> None:
        """Bind to the connection of a transaction."""
        self._connection = connection
        self._new_id = new_id
        self._jobs = JobRegistrations(connection, new_id=new_id)
        self._sources = SourceRegistrations(connection, new_id=new_id)
        self._dynamic_triggers = DynamicTriggerRegistrations(connection, new_id=new_id)

    async def register(self, batch: Sequence[ItemRegistration]) -> list[RegistrationOutcome]:
        """Register a batch and return one outcome each, in its order."""
        outcomes: dict[UUID, RegistrationOutcome] = {}
        places = await self._lock_places(batch)
        placed = [
            PlacedRegistration(
                registration,
                environment_id=place["environment_id"],
                organization_id=place["organization_id"],
                project_id=place["project_id"],
            )
            for registration in await self._leave_out_overtaken(keep_newest(batch), places)
            if (place := places.get(registration.endpoint_id)) is not None
        ]
        jobs = [one for one in placed if one.registration.kind is ItemKind.JOB]
        sources = [one for one in placed if one.registration.kind is ItemKind.SOURCE]
        dynamic_triggers = [
            one for one in placed if one.registration.kind in {ItemKind.DYNAMIC_TRIGGER, ItemKind.DYNAMIC_SCHEDULE}
        ]
        if jobs:
            await self._jobs.lock(jobs)
        if jobs or sources:
            await self._insert_integrations([*jobs, *sources])
        for outcome in (
            *await self._jobs.register(jobs),
            *await self._sources.register(sources),
            *await self._dynamic_triggers.register(dynamic_triggers),
        ):
            outcomes[outcome.queue_job_id] = outcome
        return [outcomes.get(one.queue_job_id) or _without_effect(one, places) for one in batch]

    async def _lock_places(self, batch: Sequence[ItemRegistration]) -> dict[UUID, asyncpg.Record]:
        """Lock the endpoints of a batch that are there."""
        with translated():
            rows = await self._connection.fetch(_SQL["lock_endpoints"], list({one.endpoint_id for one in batch}))
        return {row["id"]: row for row in rows}

    async def _leave_out_overtaken(
        self, batch: Sequence[ItemRegistration], places: Mapping[UUID, asyncpg.Record]
    ) -> list[ItemRegistration]:
        """Leave out what a newer index of its endpoint has replaced, which may have left nothing stored to tell so."""
        overtaken = {
            one.endpoint_id
            for one in batch
            if (place := places.get(one.endpoint_id)) is not None and place["index_sequence"] > one.index_sequence
        }
        if not overtaken:
            return list(batch)
        with translated():
            rows = await self._connection.fetch(_SQL["read_newest_answers"], list(overtaken))
        newest = {row["endpoint_id"]: row["sequence"] for row in rows}
        return [one for one in batch if newest.get(one.endpoint_id, one.index_sequence) <= one.index_sequence]

    async def _insert_integrations(self, placed: Iterable[PlacedRegistration]) -> None:
        needs: dict[tuple[UUID, str], _IntegrationNeed] = {}
        for one in placed:
            for config in _integrations_of(one.registration.payload):
                need = _as_need(one.organization_id, config)
                needs.setdefault((need.organization_id, need.slug), need)
        if not needs:
            return
        wanted = list(needs.values())
        with translated():
            await self._connection.execute(
                _SQL["insert_integrations"],
                [self._new_id() for _ in wanted],
                [need.slug for need in wanted],
                [need.definition_id for need in wanted],
                [need.definition_name for need in wanted],
                [need.instructions for need in wanted],
                [need.auth_source for need in wanted],
                [need.organization_id for need in wanted],
            )


def _without_effect(registration: ItemRegistration, found: Container[UUID]) -> RegistrationOutcome:
    reason = NEWER_REGISTRATION if registration.endpoint_id in found else ENDPOINT_DELETED
    return outcome_of(registration, RegistrationResult.SUPERSEDED, reason)


def _integrations_of(payload: JsonObject) -> list[JsonObject]:
    """Return the integrations of a job, which has several by key, or of a source, which has one."""
    several, one = payload.get("integrations"), payload.get("integration")
    configs = [*several.values()] if isinstance(several, dict) else []
    return [config for config in [*configs, one] if isinstance(config, dict)]


def _as_need(organization_id: UUID, config: JsonObject) -> _IntegrationNeed:
    metadata = config["metadata"]
    if not isinstance(metadata, dict):
        raise TypeError("An integration's metadata is an object since its index was read.")
    instructions = metadata.get("instructions")
    return _IntegrationNeed(
        organization_id=organization_id,
        slug=str(config["id"]),
        definition_id=str(metadata["id"]),
        definition_name=str(metadata["name"]),
        instructions=None if instructions is None else str(instructions),
        auth_source=str(config["authSource"]),
    )
