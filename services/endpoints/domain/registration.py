"""Decides what a registration means for what is stored already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from services.endpoints.domain.ports.catalog import RegistrationOutcome, RegistrationResult

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence
    from typing import TypeVar
    from uuid import UUID

    from services.endpoints.domain.ports.catalog import ItemRegistration

    _One = TypeVar("_One")

ENDPOINT_DELETED: Final = "the endpoint was deleted"
NEWER_REGISTRATION: Final = "a newer index of the endpoint was registered first"


@dataclass(frozen=True, slots=True)
class StoredItem:
    """What is stored of an item when its registration comes; a job is stored per version."""

    endpoint_id: UUID
    is_enabled: bool
    content_hash: bytes


def decide_result(
    registration: ItemRegistration, *, stored: StoredItem | None, newest_sequence: int | None
) -> RegistrationResult:
    """Return what a registration does, given what is stored and the newest number its endpoint left on the item.

    Source: protocol, section 2.8; a number grows with every index of an endpoint, so a smaller one is late.
    """
    if newest_sequence is not None and newest_sequence > registration.index_sequence:
        return RegistrationResult.SUPERSEDED
    if stored is None:
        return RegistrationResult.REGISTERED
    if (
        stored.is_enabled
        and stored.endpoint_id == registration.endpoint_id
        and stored.content_hash == registration.content_hash
    ):
        return RegistrationResult.UNCHANGED
    return RegistrationResult.CHANGED


def outcome_of(
    registration: ItemRegistration, result: RegistrationResult, reason: str | None = None
) -> RegistrationOutcome:
    """Return the outcome of a registration; one that came late says so."""
    if result is RegistrationResult.SUPERSEDED and reason is None:
        reason = NEWER_REGISTRATION
    return RegistrationOutcome(
        registration.queue_job_id, registration.index_id, registration.kind, registration.key, result, reason
    )


def keep_newest(batch: Iterable[ItemRegistration]) -> list[ItemRegistration]:
    """Return, for each endpoint's item, the registration with the greatest number; of equal ones the last counts."""
    newest: dict[Hashable, ItemRegistration] = {}
    for registration in batch:
        item = (registration.endpoint_id, registration.kind, registration.key)
        other = newest.get(item)
        if other is None or other.index_sequence <= registration.index_sequence:
            newest[item] = registration
    return list(newest.values())


def split_rounds(keyed: Sequence[tuple[Hashable, _One]]) -> list[list[_One]]:
    """Split a batch so that no key comes twice in a round; equal keys keep their order.

    [a, b, a, c, a] becomes [a, b, c], [a], [a].
    """
    rounds: list[list[_One]] = []
    times: dict[Hashable, int] = {}
    for key, one in keyed:
        turn = times.get(key, 0)
        times[key] = turn + 1
        if turn == len(rounds):
            rounds.append([])
        rounds[turn].append(one)
    return rounds
