"""The secrets of an embedded stack: made once, each in a file of its own that only its owner may read."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.embedded.directory import write_private

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ADMIN_TOKEN_FILE = "admin-token"  # noqa: S105 - a file's name
_KEY_BYTES = 32
_TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True, repr=False)
class StackSecrets:
    """What the endpoints service keeps to itself, in the form its variables take."""

    secret_keys: str
    lookup_pepper: str
    admin_token: str


def read_or_create_secrets(directory: Path, given: Mapping[str, str]) -> StackSecrets:
    """Return the secrets kept in `directory`, made there the first time; what `given` variables name comes first.

    Losing them makes every API key and every token of the stack's database useless.
    """
    return StackSecrets(
        secret_keys=given.get("KONGFLOW_SECRET_KEYS")
        or _read_or_create(directory / "secret-keys", secrets.token_hex(_KEY_BYTES)),
        lookup_pepper=given.get("KONGFLOW_LOOKUP_PEPPER")
        or _read_or_create(directory / "lookup-pepper", secrets.token_hex(_KEY_BYTES)),
        admin_token=_remembered(directory / ADMIN_TOKEN_FILE, given.get("KONGFLOW_ADMIN_TOKEN", "")),
    )


def _remembered(path: Path, given: str) -> str:
    """Keep a given token where the command line looks for it."""
    if not given:
        return _read_or_create(path, f"kf_admin_{secrets.token_urlsafe(_TOKEN_BYTES)}")
    write_private(path, given)
    return given


def _read_or_create(path: Path, fresh: str) -> str:
    if path.exists():
        return path.read_text(encoding="ascii").strip()
    write_private(path, fresh)
    return fresh
