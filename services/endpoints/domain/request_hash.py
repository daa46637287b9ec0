"""What makes two requests the same when they carry one request id."""

from __future__ import annotations

import json
from dataclasses import fields
from enum import Enum
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_DIGEST_BYTES: Final = 16


def request_hash(request: DataclassInstance) -> bytes:
    """Return 16 bytes that differ when any field but `request_id` differs; field order does not matter."""
    values = {field.name: getattr(request, field.name) for field in fields(request) if field.name != "request_id"}
    text = json.dumps(values, default=_plain, sort_keys=True, separators=(",", ":"))
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).digest()


def _plain(value: object) -> object:
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, frozenset):
        return sorted(map(_plain, value), key=str)
    return str(value)
