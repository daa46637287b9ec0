"""From a template and its values to the text of a page; everything that is inserted is escaped."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

if TYPE_CHECKING:
    from collections.abc import Mapping
    from enum import Enum

_TEMPLATES: Final = Path(__file__).with_name("templates")
_MILLISECONDS_END: Final = timedelta(seconds=10)


class Renderer:
    """Renders the templates beside this module."""

    def __init__(self) -> None:
        """Read nothing yet: a template is read when it is first shown."""
        self._environment = Environment(
            loader=FileSystemLoader(_TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.filters |= {"moment": moment, "word": word, "duration": duration}

    def render(self, template: str, values: Mapping[str, object]) -> str:
        """Return the page of a template."""
        return self._environment.get_template(template).render(values)


def moment(time: datetime) -> str:
    """Return a time for people, in UTC."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def word(value: Enum) -> str:
    """Return the name of a state, a kind or a queue as a word: `PARTIALLY_SUCCEEDED` is `partially succeeded`."""
    return str(value.value).lower().replace("_", " ")


def duration(length: timedelta) -> str:
    """Return a length of time for people: `12 ms`, and from ten seconds on `34 s`."""
    if length < _MILLISECONDS_END:
        return f"{length / timedelta(milliseconds=1):.0f} ms"
    return f"{length.total_seconds():.0f} s"
