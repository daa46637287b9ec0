from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from string import ascii_letters, digits
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.endpoints.domain.errors import InvalidRequestError
from services.endpoints.domain.offer import MAX_SOURCE_KEY_CHARACTERS
from services.endpoints.domain.tenancy import Principal, PrincipalKind
from services.endpoints.operations.page_tokens import LIFETIME, PageTokens

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TENANT = Principal(PrincipalKind.SERVICE, "token:1", organization_id=UUID(int=1))
FILTER = b"f" * 16


def tokens(now: datetime = NOW, key: bytes = b"k" * 32) -> PageTokens:
    return PageTokens(key=key, clock=lambda: now)


def test_a_token_gives_its_cursor_back_until_a_day_has_passed() -> None:
    token = tokens().sign("my-slug \u00e9", principal=TENANT, filter_hash=FILTER)
    almost = tokens(NOW + LIFETIME - timedelta(seconds=1))
    assert almost.read(token, principal=TENANT, filter_hash=FILTER) == "my-slug \u00e9"
    with pytest.raises(InvalidRequestError, match="page_token"):
        tokens(NOW + LIFETIME).read(token, principal=TENANT, filter_hash=FILTER)


@pytest.mark.parametrize("character", ["a", "\u8a9e", "\U0001f600", '"'])
def test_a_token_of_the_longest_cursor_is_read_back(character: str) -> None:
    cursor = character * MAX_SOURCE_KEY_CHARACTERS
    token = tokens().sign(cursor, principal=TENANT, filter_hash=FILTER)
    assert tokens().read(token, principal=TENANT, filter_hash=FILTER) == cursor


def test_the_empty_token_asks_for_the_first_page() -> None:
    assert tokens().read("", principal=TENANT, filter_hash=FILTER) is None


def test_a_token_survives_the_rotation_of_its_callers_credential() -> None:
    token = tokens().sign("a", principal=TENANT, filter_hash=FILTER)
    assert tokens().read(token, principal=replace(TENANT, name="token:2"), filter_hash=FILTER) == "a"


@pytest.mark.parametrize(
    ("reader", "principal", "filter_hash"),
    [
        (tokens(), replace(TENANT, organization_id=UUID(int=2)), FILTER),
        (tokens(), replace(TENANT, kind=PrincipalKind.ADMIN), FILTER),
        (tokens(), TENANT, b"g" * 16),
        (tokens(key=b"x" * 32), TENANT, FILTER),
    ],
    ids=["other tenant", "other kind", "other filter", "other key"],
)
def test_a_token_is_bound_to_its_tenant_its_filter_and_its_key(
    reader: PageTokens, principal: Principal, filter_hash: bytes
) -> None:
    token = tokens().sign("a", principal=TENANT, filter_hash=FILTER)
    with pytest.raises(InvalidRequestError, match="page_token"):
        reader.read(token, principal=principal, filter_hash=filter_hash)


def test_a_token_with_any_bit_changed_is_refused() -> None:
    token = tokens().sign("cursor", principal=TENANT, filter_hash=FILTER)
    raw = urlsafe_b64decode(token + "=" * (-len(token) % 4))
    for position in range(len(raw)):
        forged = bytearray(raw)
        forged[position] ^= 1
        text = urlsafe_b64encode(bytes(forged)).rstrip(b"=").decode()
        with pytest.raises(InvalidRequestError):
            tokens().read(text, principal=TENANT, filter_hash=FILTER)


@pytest.mark.parametrize("cursor", ["a", "ab", "abc"])
def test_a_token_with_any_character_changed_or_added_is_refused(cursor: str) -> None:
    token = tokens().sign(cursor, principal=TENANT, filter_hash=FILTER)
    changed = {f"{token[:-1]}{last}" for last in ascii_letters + digits + "-_"}
    added = {f"{token[:place]}{extra}{token[place:]}" for extra in "!=\n ." for place in (0, 5, len(token))}
    for text in (changed | added) - {token}:
        with pytest.raises(InvalidRequestError):
            tokens().read(text, principal=TENANT, filter_hash=FILTER)


@given(st.text(min_size=1))
def test_garbage_is_refused_and_never_breaks_the_reader(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        tokens().read(text, principal=TENANT, filter_hash=FILTER)
