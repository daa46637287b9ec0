"""Registers what an index found: turns queue jobs into registrations and hands back what became of each."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from services.endpoints.domain.catalog import (
    REGISTER_DYNAMIC_SCHEDULE,
    REGISTER_DYNAMIC_TRIGGER,
    REGISTER_JOB,
    REGISTER_SOURCE,
)
from services.endpoints.domain.endpoint_index import ItemKind
from services.endpoints.domain.json_text import canonical_hash
from services.endpoints.domain.ports.catalog import ItemRegistration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from services.endpoints.domain.json_text import JsonObject
    from services.endpoints.domain.ports.catalog import RegistrationOutcome
    from services.endpoints.domain.ports.secrets import SecretBox
    from services.endpoints.domain.ports.store import Transaction
    from services.endpoints.domain.queue_job import QueueJob

_SECRET_BYTES: Final = 32

REGISTRATION_KINDS: Final[Mapping[ItemKind, str]] = {
    ItemKind.JOB: REGISTER_JOB.name,
    ItemKind.SOURCE: REGISTER_SOURCE.name,
    ItemKind.DYNAMIC_TRIGGER: REGISTER_DYNAMIC_TRIGGER.name,
    ItemKind.DYNAMIC_SCHEDULE: REGISTER_DYNAMIC_SCHEDULE.name,
}
_ITEM_KINDS: Final = {name: kind for kind, name in REGISTRATION_KINDS.items()}
_PAYLOAD_NAMES: Final = {
    ItemKind.JOB: "job",
    ItemKind.SOURCE: "source",
    ItemKind.DYNAMIC_TRIGGER: "dynamicTrigger",
    ItemKind.DYNAMIC_SCHEDULE: "dynamicSchedule",
}


class Registration:
    """Handles `registerJob`, `registerSource`, `registerDynamicTrigger` and `registerDynamicSchedule`."""

    def __init__(
        self,
        *,
        secret_box: SecretBox,
        new_secret: Callable[[], str] = lambda: secrets.token_hex(_SECRET_BYTES),
    ) -> None:
        """Take what seals the secrets of new sources; a secret is 32 random bytes as hex."""
        self._secret_box = secret_box
        self._new_secret = new_secret

    async def run(self, transaction: Transaction, queue_jobs: Sequence[QueueJob]) -> list[RegistrationOutcome]:
        """Register a batch of any of the four kinds in one transaction; one outcome each, in its order.

        Repeating a registration repeats its effect, and an older one than what is stored has none.
        """
        return await transaction.catalog.register([self._read(queue_job) for queue_job in queue_jobs])

    def _read(self, queue_job: QueueJob) -> ItemRegistration:
        kind = _ITEM_KINDS[queue_job.kind]
        payload: JsonObject = queue_job.args[_PAYLOAD_NAMES[kind]]
        sealed_secret = None
        if kind is ItemKind.SOURCE:
            sealed_secret = self._secret_box.seal(self._new_secret(), environment_id=queue_job.environment_id)
        return ItemRegistration(
            queue_job_id=queue_job.id,
            kind=kind,
            endpoint_id=UUID(queue_job.args["endpointId"]),
            index_id=UUID(queue_job.args["indexId"]),
            index_sequence=queue_job.args["indexSequence"],
            payload=payload,
            content_hash=canonical_hash(payload),
            sealed_secret=sealed_secret,
        )


def registration_args(
    kind: ItemKind, payload: JsonObject, *, endpoint_id: UUID, index_id: UUID, index_sequence: int
) -> dict[str, Any]:
    """Return the args of a registration's queue job, as `Registration` reads them."""
    return {
        _PAYLOAD_NAMES[kind]: payload,
        "endpointId": str(endpoint_id),
        "indexId": str(index_id),
        "indexSequence": index_sequence,
    }


def registered_item(kind: str, args: Mapping[str, Any]) -> tuple[ItemKind, str]:
    """Return which item a registration's queue job is about."""
    item_kind = _ITEM_KINDS[kind]
    payload = args[_PAYLOAD_NAMES[item_kind]]
    return item_kind, str(payload["key" if item_kind is ItemKind.SOURCE else "id"])
