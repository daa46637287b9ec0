"""Job registrations on PostgreSQL: versions, what hangs on them, and what follows from the greatest of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.endpoints.domain.json_text import dump_json
from services.endpoints.domain.ports.catalog import RegistrationResult
from services.endpoints.domain.registration import decide_result, outcome_of, split_rounds
from services.endpoints.store.displaced import DisplacedItems
from services.endpoints.store.errors import translated
from services.endpoints.store.latest_version import follow_latest_versions
from services.endpoints.store.queries import load
from services.endpoints.store.registered_item import stored_item

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    import asyncpg

    from services.endpoints.domain.json_text import JsonObject, JsonValue
    from services.endpoints.domain.ports.catalog import RegistrationOutcome
    from services.endpoints.store.registered_item import PlacedRegistration

_SQL: Final = load("registration")


class JobRegistrations:
    """Statements that register jobs on one connection."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record], *, new_id: Callable[[], UUID]) -> None:
        """Bind to the connection of a transaction."""
        self._connection = connection
        self._displaced = DisplacedItems(connection)
        self._new_id = new_id

    async def lock(self, batch: Sequence[PlacedRegistration]) -> None:
        """Insert the jobs that are new and lock all of them until the transaction ends."""
        jobs = {(one.project_id, one.registration.key): one for one in batch}
        wanted = list(jobs.values())
        with translated():
            await self._connection.execute(
                _SQL["lock_jobs"],
                [self._new_id() for _ in wanted],
                [one.registration.key for one in wanted],
                [str(one.registration.payload["name"]) for one in wanted],
                [one.registration.payload.get("internal") is True for one in wanted],
                [one.organization_id for one in wanted],
                [one.project_id for one in wanted],
            )

    async def register(self, batch: Sequence[PlacedRegistration]) -> list[RegistrationOutcome]:
        """Register jobs that are locked; one version each.

        Two endpoints may offer the same job in one environment: those go one after the other.
        """
        keyed = [((one.environment_id, one.registration.key), one) for one in batch]
        outcomes: list[RegistrationOutcome] = []
        for turn in split_rounds(keyed):
            outcomes.extend(await self._register_round(turn))
        return outcomes

    async def _register_round(self, batch: Sequence[PlacedRegistration]) -> list[RegistrationOutcome]:
        with translated():
            rows = await self._connection.fetch(
                _SQL["read_job_versions"],
                [one.project_id for one in batch],
                [one.registration.key for one in batch],
                [one.registration.version for one in batch],
                [one.environment_id for one in batch],
                [one.registration.endpoint_id for one in batch],
            )
        outcomes: list[RegistrationOutcome] = []
        effective: list[tuple[PlacedRegistration, UUID]] = []
        shared: list[tuple[UUID, UUID]] = []
        for one, row in zip(batch, rows, strict=True):
            result = decide_result(one.registration, stored=stored_item(row), newest_sequence=row["newest_sequence"])
            outcomes.append(outcome_of(one.registration, result))
            if result is not RegistrationResult.SUPERSEDED:
                effective.append((one, row["job_id"]))
                if row["is_shared"]:
                    shared.append((one.registration.endpoint_id, row["job_id"]))
        if effective:
            await self._write(effective, shared=shared)
        return outcomes

    async def _write(
        self, jobs: Sequence[tuple[PlacedRegistration, UUID]], *, shared: Sequence[tuple[UUID, UUID]]
    ) -> None:
        await self._upsert_queues([one for one, _ in jobs])
        with translated():
            rows = await self._connection.fetch(
                _SQL["upsert_job_versions"],
                [self._new_id() for _ in jobs],
                [job_id for _, job_id in jobs],
                [one.registration.version for one, _ in jobs],
                [one.environment_id for one, _ in jobs],
                [one.registration.endpoint_id for one, _ in jobs],
                [one.organization_id for one, _ in jobs],
                [one.project_id for one, _ in jobs],
                [dump_json(one.registration.payload) for one, _ in jobs],
                [one.registration.content_hash for one, _ in jobs],
                [one.registration.index_sequence for one, _ in jobs],
            )
        version_ids = {(row["job_id"], row["environment_id"]): row["id"] for row in rows}
        versions = [(one, job_id, version_ids[job_id, one.environment_id]) for one, job_id in jobs]
        await self._replace_examples(versions)
        await self._replace_integrations(versions)
        await self._displaced.withdraw_versions(shared)
        await self._displaced.give_back(shared)
        await follow_latest_versions(self._connection, list(version_ids), new_id=self._new_id)

    async def _upsert_queues(self, batch: Sequence[PlacedRegistration]) -> None:
        queues: dict[tuple[UUID, str], int | None] = {}
        for one in batch:
            queue = one.registration.payload.get("queue")
            if isinstance(queue, dict):
                limit = queue.get("maxConcurrent")
                key = (one.environment_id, str(queue["name"]))
                queues[key] = limit if isinstance(limit, int) else queues.get(key)
        if not queues:
            return
        with translated():
            await self._connection.execute(
                _SQL["upsert_queues"],
                [self._new_id() for _ in queues],
                [name for _, name in queues],
                [environment_id for environment_id, _ in queues],
                list(queues.values()),
            )

    async def _replace_examples(self, versions: Sequence[tuple[PlacedRegistration, UUID, UUID]]) -> None:
        wanted = {
            (version_id, str(example["id"])): example
            for one, _, version_id in versions
            for example in _examples_of(one.registration.payload)
        }
        with translated():
            await self._connection.execute(
                _SQL["replace_event_examples"],
                [version_id for _, _, version_id in versions],
                [self._new_id() for _ in wanted],
                [version_id for version_id, _ in wanted],
                [slug for _, slug in wanted],
                [str(example["name"]) for example in wanted.values()],
                [example.get("icon") for example in wanted.values()],
                [_as_text(example.get("payload")) for example in wanted.values()],
            )

    async def _replace_integrations(self, versions: Sequence[tuple[PlacedRegistration, UUID, UUID]]) -> None:
        wanted = [
            (version_id, key, job_id, one.organization_id, str(config["id"]))
            for one, job_id, version_id in versions
            for key, config in _integrations_of(one.registration.payload)
        ]
        with translated():
            await self._connection.execute(
                _SQL["replace_job_integrations"],
                [version_id for _, _, version_id in versions],
                *([row[column] for row in wanted] for column in range(5)),
            )


def _examples_of(payload: JsonObject) -> list[JsonObject]:
    event = payload["event"]
    examples = event.get("examples") if isinstance(event, dict) else None
    return [example for example in examples if isinstance(example, dict)] if isinstance(examples, list) else []


def _integrations_of(payload: JsonObject) -> list[tuple[str, JsonObject]]:
    integrations = payload.get("integrations")
    if not isinstance(integrations, dict):
        return []
    return [(key, config) for key, config in integrations.items() if isinstance(config, dict)]


def _as_text(value: JsonValue) -> str | None:
    return None if value is None else dump_json(value)
