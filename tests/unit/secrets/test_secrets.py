from __future__ import annotations

import base64
from hashlib import sha256
from uuid import UUID

import pytest

from services.endpoints.domain.ports.secrets import UnreadableSecretError
from services.endpoints.secrets.key_hasher import HmacKeyHasher
from services.endpoints.secrets.keys import BadKeyError, derive_key, parse_key, parse_keys
from services.endpoints.secrets.secret_box import AesGcmSecretBox

OLD, NEW = b"o" * 32, b"n" * 32
HERE, THERE = UUID(int=1), UUID(int=2)


def test_a_sealed_secret_comes_back_and_never_looks_the_same_twice() -> None:
    box = AesGcmSecretBox(keys=[NEW])
    first, second = (box.seal("tr_dev_abc", environment_id=HERE) for _ in range(2))
    assert first != second
    assert b"tr_dev" not in first
    assert box.unseal(first, environment_id=HERE) == "tr_dev_abc"


def test_rotated_keys_still_open_what_the_old_one_sealed() -> None:
    sealed = AesGcmSecretBox(keys=[OLD]).seal("secret", environment_id=HERE)
    rotated = AesGcmSecretBox(keys=[NEW, OLD])
    assert rotated.unseal(sealed, environment_id=HERE) == "secret"
    resealed = rotated.seal("secret", environment_id=HERE)
    assert AesGcmSecretBox(keys=[NEW]).unseal(resealed, environment_id=HERE) == "secret"
    with pytest.raises(UnreadableSecretError):
        AesGcmSecretBox(keys=[NEW]).unseal(sealed, environment_id=HERE)


def test_two_keys_with_one_key_id_are_both_tried() -> None:
    by_id: dict[int, bytes] = {}
    for number in range(1000):
        key = number.to_bytes(32, "big")
        twin = by_id.setdefault(sha256(key).digest()[0], key)
        if twin != key:
            break
    sealed = AesGcmSecretBox(keys=[key]).seal("secret", environment_id=HERE)
    assert AesGcmSecretBox(keys=[twin, key]).unseal(sealed, environment_id=HERE) == "secret"


def test_a_secret_belongs_to_its_environment() -> None:
    box = AesGcmSecretBox(keys=[NEW])
    with pytest.raises(UnreadableSecretError):
        box.unseal(box.seal("secret", environment_id=HERE), environment_id=THERE)


def test_a_changed_or_foreign_secret_is_refused() -> None:
    box = AesGcmSecretBox(keys=[NEW])
    sealed = box.seal("secret", environment_id=HERE)
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1
        with pytest.raises(UnreadableSecretError):
            box.unseal(bytes(changed), environment_id=HERE)
    for length in range(len(sealed)):
        with pytest.raises(UnreadableSecretError):
            box.unseal(sealed[:length], environment_id=HERE)


def test_a_hash_depends_on_the_pepper() -> None:
    hasher = HmacKeyHasher(pepper=NEW)
    assert hasher.is_same(hasher.hash_key("key"), hasher.hash_key("key"))
    assert not hasher.is_same(hasher.hash_key("key"), hasher.hash_key("kez"))
    assert not hasher.is_same(hasher.hash_key("key"), HmacKeyHasher(pepper=OLD).hash_key("key"))


@pytest.mark.parametrize(
    "text",
    [
        bytes(range(32)).hex(),
        bytes(range(32)).hex().upper(),
        base64.b64encode(bytes(range(32))).decode(),
        base64.urlsafe_b64encode(bytes(range(32))).decode().rstrip("="),
        f" {bytes(range(32)).hex()}\n",
    ],
)
def test_a_key_may_be_written_in_hex_or_base64(text: str) -> None:
    assert parse_key(text) == bytes(range(32))


def test_url_safe_base64_is_read_as_such() -> None:
    assert parse_key(base64.urlsafe_b64encode(b"\xff" * 32).decode()) == b"\xff" * 32


@pytest.mark.parametrize("text", ["", "secret-text", "zz" * 32, base64.b64encode(b"x" * 31).decode(), "\u00e9" * 43])
def test_a_bad_key_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(BadKeyError) as caught:
        parse_key(text)
    assert not text or text not in str(caught.value)


def test_a_list_of_keys_keeps_its_order_and_is_never_empty() -> None:
    assert parse_keys(f"{NEW.hex()}, {OLD.hex()},") == (NEW, OLD)
    with pytest.raises(BadKeyError):
        parse_keys(" , ")


def test_derived_keys_differ_by_purpose() -> None:
    assert derive_key(NEW, purpose="a") == derive_key(NEW, purpose="a")
    assert len({derive_key(NEW, purpose="a"), derive_key(NEW, purpose="b"), derive_key(OLD, purpose="a"), NEW}) == 4
