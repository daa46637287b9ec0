"""Keys of the service itself: how they are written in settings, and keys derived from them."""

from __future__ import annotations

import binascii
from base64 import b64decode, urlsafe_b64decode
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES: Final = 32

_HEX_CHARACTERS: Final = KEY_BYTES * 2


class BadKeyError(ValueError):
    """A key's text is not 32 bytes in hex or base64; the message never holds the text."""


def parse_key(text: str) -> bytes:
    """Return the 32 bytes that `text` writes as 64 hex digits, as base64 or as URL-safe base64.

    Raises:
        BadKeyError: it writes no 32 bytes.
    """
    stripped = text.strip()
    try:
        if len(stripped) == _HEX_CHARACTERS:
            key = bytes.fromhex(stripped)
        else:
            padded = stripped + "=" * (-len(stripped) % 4)
            is_url_safe = "-" in padded or "_" in padded
            key = urlsafe_b64decode(padded) if is_url_safe else b64decode(padded, validate=True)
    except (ValueError, binascii.Error) as error:
        raise BadKeyError("a key must be 64 hex digits or the base64 of 32 bytes") from error
    if len(key) != KEY_BYTES:
        raise BadKeyError(f"a key must have 32 bytes, this one has {len(key)}")
    return key


def parse_keys(text: str) -> tuple[bytes, ...]:
    """Return the keys of a comma-separated list, in its order.

    Raises:
        BadKeyError: the list is empty, or an entry writes no 32 bytes.
    """
    keys = tuple(parse_key(entry) for entry in text.split(",") if entry.strip())
    if not keys:
        raise BadKeyError("at least one key is needed")
    return keys


def derive_key(key: bytes, *, purpose: str) -> bytes:
    """Return 32 bytes for one purpose, which say nothing about `key` or about those of another purpose.

    Source: RFC 5869 (HKDF).
    """
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=f"kongflow {purpose}".encode()).derive(key)
