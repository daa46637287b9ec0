"""Job versions: three numbers, which PostgreSQL compares as numbers."""

from __future__ import annotations

import re
from typing import Final

_VERSION: Final = re.compile(r"[0-9]{1,15}\.[0-9]{1,15}\.[0-9]{1,15}", re.ASCII)


def is_version(text: str) -> bool:
    """Tell whether `text` is three numbers of at most 15 digits, joined by dots: 10.0.0, which follows 9.0.0.

    Source: protocol, sections 0 and 10.4.
    """
    return _VERSION.fullmatch(text) is not None
