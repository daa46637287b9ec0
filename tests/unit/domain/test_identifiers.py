"""Ids and keys: their shapes, and what is taken from outside."""

from __future__ import annotations

import re
from uuid import UUID

import pytest

from services.endpoints.domain.identifiers import (
    HOOK_IDENTIFIER_ALPHABET,
    consecutive_ids,
    first_of_consecutive,
    is_hook_identifier,
    is_slug,
    new_api_key,
    new_hook_identifier,
    new_token,
    new_uuid7,
)
from services.endpoints.domain.tenancy import EnvironmentType


def test_uuids_sort_by_creation_time() -> None:
    clock = iter((1, 2, 1_700_000_000_000))
    made = [new_uuid7(now_ms=lambda: next(clock)) for _ in range(3)]

    assert made == sorted(made)
    assert all((each.version, each.variant) == (7, UUID(int=0x80 << 56).variant) for each in made)


def test_uuid_holds_its_milliseconds() -> None:
    assert new_uuid7(now_ms=lambda: 0x0123456789AB).int >> 80 == 0x0123456789AB


@pytest.mark.parametrize(
    ("environment_type", "word"),
    [
        (EnvironmentType.DEVELOPMENT, "dev"),
        (EnvironmentType.PRODUCTION, "prod"),
        (EnvironmentType.STAGING, "stg"),
        (EnvironmentType.PREVIEW, "prev"),
    ],
)
def test_api_key_has_the_only_shape_the_sdk_sends(environment_type: EnvironmentType, word: str) -> None:
    assert re.fullmatch(rf"tr_{word}_[a-zA-Z0-9]{{20}}", new_api_key(environment_type))


def test_hook_identifiers_are_random_and_of_their_alphabet() -> None:
    made = {new_hook_identifier() for _ in range(500)}

    assert len(made) == 500
    assert all(len(each) == 10 and set(each) <= set(HOOK_IDENTIFIER_ALPHABET) for each in made)
    assert "w" not in HOOK_IDENTIFIER_ALPHABET


@pytest.mark.parametrize("text", ["", "short", "0123456789a", "012345678w", "ABCDEFGHIJ", "012345678\n"])
def test_other_hook_identifiers_are_refused(text: str) -> None:
    assert not is_hook_identifier(text)


@pytest.mark.parametrize("text", ["a", "A1", "my-app", "shop.eu_1~b", "x" * 100, "0"])
def test_slug_is_taken(text: str) -> None:
    assert is_slug(text)


@pytest.mark.parametrize(
    "text", ["", "x" * 101, "a b", "a/b", "..", "a..b", ".a", "-a", "é", "\u200fa", "a\x00", "😀", "a\n", "\uff41"]
)
def test_slug_is_refused(text: str) -> None:
    assert not is_slug(text)


def test_token_tells_its_kind() -> None:
    assert re.fullmatch(r"kf_worker_[a-zA-Z0-9]{40}", new_token("worker"))


def test_consecutive_ids_ascend_from_a_time_of_their_own() -> None:
    made = new_uuid7(now_ms=lambda: 0x0123456789AB, random_bits=lambda bits: (1 << bits) - 1)
    ids = consecutive_ids(made, 4096)

    assert ids[0] == first_of_consecutive(made)
    assert ids == sorted(set(ids))
    assert ids[-1] == made
    assert {each.int >> 80 for each in ids} == {0x0123456789AB}
    assert {(each.version, each.variant) for each in ids} == {(7, made.variant)}
