"""Why a filter did not match, in words short enough for a list."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from services.endpoints.domain.filter_operators import MISSING

if TYPE_CHECKING:
    from services.endpoints.domain.filter_operators import FilterValue

MAX_SHOWN_CHARACTERS: Final = 200
MAX_PATH_CHARACTERS: Final = 500

_PLAIN_KEY: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_$-]*")
_COMPACT: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class FilterFailure:
    """The first clause of a filter that a value did not meet.

    `path` names the value as JSONPath does, from a root such as `$` or `payload`: `payload.user.plan`, with odd keys
    quoted as in `payload["first name"].plan`; it has at most 500 characters. `expected` says what the clause asks for:
    `"pro"`, `one of "pro", "team"`, `$gt 5`, `an object`. `found` is compact JSON of the value there, cut to 200
    characters with an ellipsis, or `nothing` where there is no value.
    """

    path: str
    expected: str
    found: str


def show_path(root: str, keys: tuple[str, ...]) -> str:
    """Return the path of a value below `root`, cut to 500 characters."""
    steps = (f".{key}" if _PLAIN_KEY.fullmatch(key) else f"[{_COMPACT.encode(key)}]" for key in keys)
    return _cut(root + "".join(steps), MAX_PATH_CHARACTERS)


def show_value(value: FilterValue) -> str:
    """Return compact JSON of `value`, cut to 200 characters, or `nothing` for `MISSING`.

    Writes no more of a large value than it shows. A number with more digits than Python writes is shown as an ellipsis.
    """
    if value is MISSING:
        return "nothing"
    text = ""
    try:
        for chunk in _COMPACT.iterencode(value):
            text += chunk
            if len(text) > MAX_SHOWN_CHARACTERS:
                break
    except ValueError:
        text += "…"
    return _cut(text, MAX_SHOWN_CHARACTERS)


def show_alternatives(values: list[str]) -> str:
    """Return how a choice among `values` reads, cut to 200 characters."""
    text = values[0] if len(values) == 1 else f"one of {', '.join(values)}"
    return _cut(text, MAX_SHOWN_CHARACTERS)


def _cut(text: str, max_characters: int) -> str:
    return text if len(text) <= max_characters else f"{text[: max_characters - 1]}…"
