from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from services.endpoints.domain.endpoint_index import ItemKind
from services.endpoints.domain.ports.catalog import ItemRegistration, RegistrationResult
from services.endpoints.domain.registration import (
    NEWER_REGISTRATION,
    StoredItem,
    decide_result,
    keep_newest,
    outcome_of,
    split_rounds,
)

MINE = UUID(int=1)
OTHER = UUID(int=2)


def registration(*, endpoint_id: UUID = MINE, slug: str = "hello", sequence: int = 5) -> ItemRegistration:
    return ItemRegistration(
        uuid4(), ItemKind.JOB, endpoint_id, uuid4(), sequence, {"id": slug, "version": "1.0.0"}, b"hash"
    )


@pytest.mark.parametrize(
    ("stored", "newest", "result"),
    [
        (None, None, RegistrationResult.REGISTERED),
        (None, 4, RegistrationResult.REGISTERED),
        (None, 6, RegistrationResult.SUPERSEDED),
        (StoredItem(MINE, is_enabled=True, content_hash=b"hash"), 5, RegistrationResult.UNCHANGED),
        (StoredItem(MINE, is_enabled=True, content_hash=b"hash"), 6, RegistrationResult.SUPERSEDED),
        (StoredItem(MINE, is_enabled=True, content_hash=b"other"), 4, RegistrationResult.CHANGED),
        (StoredItem(MINE, is_enabled=False, content_hash=b"hash"), 4, RegistrationResult.CHANGED),
        (StoredItem(OTHER, is_enabled=True, content_hash=b"hash"), None, RegistrationResult.CHANGED),
    ],
)
def test_the_result_follows_from_what_is_stored(
    stored: StoredItem | None, newest: int | None, result: RegistrationResult
) -> None:
    assert decide_result(registration(), stored=stored, newest_sequence=newest) is result


def test_a_superseded_registration_says_why() -> None:
    assert outcome_of(registration(), RegistrationResult.SUPERSEDED).reason == NEWER_REGISTRATION
    assert outcome_of(registration(), RegistrationResult.CHANGED).reason is None


def test_the_newest_registration_of_an_item_counts() -> None:
    older, newer, last = registration(sequence=4), registration(sequence=6), registration(sequence=6)
    elsewhere = registration(endpoint_id=OTHER, sequence=1)
    assert keep_newest([newer, older, elsewhere]) == [newer, elsewhere]
    assert keep_newest([older, newer, last]) == [last]


def test_no_key_comes_twice_in_a_round() -> None:
    assert split_rounds([(letter, f"{letter}{n}") for n, letter in enumerate("abaca")]) == [
        ["a0", "b1", "c3"],
        ["a2"],
        ["a4"],
    ]
    assert split_rounds([]) == []
