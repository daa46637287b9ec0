"""Loads named SQL blocks: the text in the file is the text PostgreSQL sees."""

from __future__ import annotations

import re
from functools import cache, lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NAME: Final = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_OPTIONAL: Final = re.compile(r"\$(\d+)::\w+ IS NULL")


@cache
def load(noun: str) -> Mapping[str, str]:
    """Return the blocks of `sql/<noun>.sql` by name.

    A block starts with `-- name: <block>` and ends where the next one starts.
    """
    text = files("services.endpoints.store").joinpath("sql", f"{noun}.sql").read_text(encoding="utf-8")
    _, *parts = _NAME.split(text)
    return {name: block.strip() for name, block in zip(parts[::2], parts[1::2], strict=True)}


def changed_rows(status: str) -> int:
    """Return how many rows a command changed, by what PostgreSQL says of it, such as `DELETE 3`."""
    return int(status.rpartition(" ")[2])


def decided(statement: str, arguments: Sequence[object]) -> str:
    """Return a statement in which every `$1::text IS NULL` says whether it holds for these arguments.

    PostgreSQL then drops the filters that nobody asked for when it plans. A plan that is kept suits whoever filters by
    the same columns; undecided, it would have to suit everybody, and would use no index.
    """
    return _decided(statement, tuple(argument is None for argument in arguments))


@lru_cache(maxsize=1024)
def _decided(statement: str, is_absent: tuple[bool, ...]) -> str:
    # The parameter stays, because PostgreSQL may know its type from nowhere else.
    return _OPTIONAL.sub(
        lambda found: f"({'TRUE OR' if is_absent[int(found[1]) - 1] else 'FALSE AND'} {found[0]})", statement
    )
