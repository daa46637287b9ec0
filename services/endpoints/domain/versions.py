"""Job versions: three numbers, compared as numbers."""

from __future__ import annotations

import re
from typing import Final

_VERSION: Final = re.compile(r"([0-9]{1,15})\.([0-9]{1,15})\.([0-9]{1,15})", re.ASCII)


def parse_version(text: str) -> tuple[int, int, int] | None:
    """Return the three numbers of a job version, or None when `text` is none.

    Each number has 1 to 15 digits, so PostgreSQL compares the same three as `bigint[]`: 10.0.0 follows 9.0.0.

    Source: protocol, sections 0 and 10.4.
    """
    match = _VERSION.fullmatch(text)
    if match is None:
        return None
    major, minor, patch = match.groups()
    return int(major), int(minor), int(patch)


def is_version(text: str) -> bool:
    """Tell whether `text` is three numbers of at most 15 digits, joined by dots."""
    return _VERSION.fullmatch(text) is not None
