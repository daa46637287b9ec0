"""Ids as the server makes them, told apart from the names that people give."""

from __future__ import annotations

import re
from typing import Final

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)


def is_uuid(text: str) -> bool:
    """Tell whether a text may be an id: a UUID of 36 characters, the only form that the server takes.

    32 hexadecimal digits without dashes are a name like any other.
    """
    return _UUID.fullmatch(text) is not None
