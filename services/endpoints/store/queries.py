"""Loads named SQL blocks: the text in the file is the text PostgreSQL sees."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME: Final = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def load(noun: str) -> Mapping[str, str]:
    """Return the blocks of `sql/<noun>.sql` by name.

    A block starts with `-- name: <block>` and ends where the next one starts.
    """
    text = files("services.endpoints.store").joinpath("sql", f"{noun}.sql").read_text(encoding="utf-8")
    _, *parts = _NAME.split(text)
    return {name: block.strip() for name, block in zip(parts[::2], parts[1::2], strict=True)}
