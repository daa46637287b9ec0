"""Registrations of sources, dynamic triggers and dynamic schedules on PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.endpoints.domain.endpoint_index import ItemKind
from services.endpoints.domain.json_text import dump_json
from services.endpoints.domain.ports.catalog import RegistrationResult
from services.endpoints.domain.registration import decide_result, outcome_of, split_rounds
from services.endpoints.store.errors import translated
from services.endpoints.store.queries import load
from services.endpoints.store.registered_item import stored_item

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence
    from typing import TypeVar
    from uuid import UUID

    import asyncpg

    from services.endpoints.domain.json_text import JsonObject
    from services.endpoints.domain.ports.catalog import RegistrationOutcome
    from services.endpoints.store.registered_item import PlacedRegistration

    _Key = TypeVar("_Key", bound=Hashable)

_SQL: Final = load("registration")
_TYPES: Final = {ItemKind.DYNAMIC_TRIGGER: "EVENT", ItemKind.DYNAMIC_SCHEDULE: "SCHEDULE"}


class SourceRegistrations:
    """Statements that register sources on one connection."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record], *, new_id: Callable[[], UUID]) -> None:
        """Bind to the connection of a transaction."""
        self._connection = connection
        self._new_id = new_id

    async def register(self, batch: Sequence[PlacedRegistration]) -> list[RegistrationOutcome]:
        """Register sources whose integrations exist.

        Two endpoints may offer the same source in one environment: those go one after the other.
        """
        keyed = [((one.environment_id, one.registration.key), one) for one in batch]
        outcomes: list[RegistrationOutcome] = []
        for turn in split_rounds(keyed):
            outcomes.extend(await self._register_round(turn))
        return outcomes

    async def _register_round(self, batch: Sequence[PlacedRegistration]) -> list[RegistrationOutcome]:
        environment_ids = [one.environment_id for one in batch]
        with translated():
            stored = await self._connection.fetch(
                _SQL["read_sources"], environment_ids, [one.registration.key for one in batch]
            )
            written = await self._connection.fetch(
                _SQL["upsert_sources"],
                [self._new_id() for _ in batch],
                [dump_json(one.registration.payload) for one in batch],
                [one.registration.endpoint_id for one in batch],
                environment_ids,
                [one.organization_id for one in batch],
                [one.project_id for one in batch],
                [one.registration.content_hash for one in batch],
                [one.registration.index_sequence for one in batch],
            )
        rows = {(row["environment_id"], row["key"]): row for row in written}
        by_key = {(one.environment_id, one.registration.key): one for one in batch}
        await self._replace_options([(row["id"], by_key[key]) for key, row in rows.items()])
        return _outcomes(batch, stored, rows, list(by_key))

    async def _replace_options(self, sources: Sequence[tuple[UUID, PlacedRegistration]]) -> None:
        wanted = [
            (source_id, name, value)
            for source_id, one in sources
            for name, values in _options_of(one.registration.payload).items()
            for value in values
        ]
        sealed = [
            (source_id, one.registration.sealed_secret)
            for source_id, one in sources
            if one.registration.sealed_secret is not None
        ]
        with translated():
            await self._connection.execute(
                _SQL["replace_source_options"],
                [source_id for source_id, _ in sources],
                *([row[column] for row in wanted] for column in range(3)),
            )
            await self._connection.execute(
                _SQL["insert_source_secrets"],
                [source_id for source_id, _ in sealed],
                [ciphertext for _, ciphertext in sealed],
            )


class DynamicTriggerRegistrations:
    """Statements that register dynamic triggers and dynamic schedules on one connection."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record], *, new_id: Callable[[], UUID]) -> None:
        """Bind to the connection of a transaction."""
        self._connection = connection
        self._new_id = new_id

    async def register(self, batch: Sequence[PlacedRegistration]) -> list[RegistrationOutcome]:
        """Register dynamic triggers and dynamic schedules, each once."""
        if not batch:
            return []
        endpoint_ids = [one.registration.endpoint_id for one in batch]
        slugs = [one.registration.key for one in batch]
        types = [_TYPES[one.registration.kind] for one in batch]
        keys = list(zip(endpoint_ids, slugs, types, strict=True))
        with translated():
            stored = await self._connection.fetch(_SQL["read_dynamic_triggers"], endpoint_ids, slugs, types)
            written = await self._connection.fetch(
                _SQL["upsert_dynamic_triggers"],
                [self._new_id() for _ in batch],
                types,
                slugs,
                endpoint_ids,
                [one.environment_id for one in batch],
                [_register_source_job_of(one.registration.payload) for one in batch],
                [one.registration.content_hash for one in batch],
                [one.registration.index_sequence for one in batch],
            )
        rows = {(row["endpoint_id"], row["slug"], row["type"]): row for row in written}
        by_key = dict(zip(keys, batch, strict=True))
        await self._replace_jobs([(row["id"], by_key[key]) for key, row in rows.items()])
        await self._rewrite_dispatchers([row for row in written if row["type"] == "SCHEDULE"])
        return _outcomes(batch, stored, rows, keys)

    async def _replace_jobs(self, triggers: Sequence[tuple[UUID, PlacedRegistration]]) -> None:
        wanted = {
            (trigger_id, slug): version
            for trigger_id, one in triggers
            for slug, version in _jobs_of(one.registration.payload)
        }
        with translated():
            await self._connection.execute(
                _SQL["replace_dynamic_trigger_jobs"],
                [trigger_id for trigger_id, _ in triggers],
                [trigger_id for trigger_id, _ in wanted],
                [slug for _, slug in wanted],
                list(wanted.values()),
            )

    async def _rewrite_dispatchers(self, schedules: Sequence[asyncpg.Record]) -> None:
        if not schedules:
            return
        with translated():
            await self._connection.execute(
                _SQL["rewrite_schedule_dispatchers"],
                [self._new_id() for _ in schedules],
                [row["id"] for row in schedules],
                [row["environment_id"] for row in schedules],
            )


def _outcomes(
    batch: Sequence[PlacedRegistration],
    stored: Sequence[asyncpg.Record],
    written: Mapping[_Key, asyncpg.Record],
    keys: Sequence[_Key],
) -> list[RegistrationOutcome]:
    """Return what became of each: not written means that a newer number stands there."""
    outcomes: list[RegistrationOutcome] = []
    for one, before, key in zip(batch, stored, keys, strict=True):
        row = written.get(key)
        if row is None:
            result = RegistrationResult.SUPERSEDED
        elif row["is_new"]:
            result = RegistrationResult.REGISTERED
        else:
            result = decide_result(one.registration, stored=stored_item(before), newest_sequence=None)
        outcomes.append(outcome_of(one.registration, result))
    return outcomes


def _options_of(payload: JsonObject) -> dict[str, list[str]]:
    options = payload.get("options")
    if not isinstance(options, dict):
        return {}
    return {name: [str(value) for value in values] for name, values in options.items() if isinstance(values, list)}


def _jobs_of(payload: JsonObject) -> list[tuple[str, str]]:
    jobs = payload.get("jobs")
    if not isinstance(jobs, list):
        return []
    return [(str(job["id"]), str(job["version"])) for job in jobs if isinstance(job, dict)]


def _register_source_job_of(payload: JsonObject) -> str | None:
    reference = payload.get("registerSourceJob")
    return None if reference is None else dump_json(reference)
