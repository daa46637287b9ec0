"""Durations as people write them: `30`, `30 s`, `500 ms`, `10 min`, `24 h`, `7 d`."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import BeforeValidator

_SECONDS_OF: Final = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3_600.0, "d": 86_400.0}
_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(ms|s|min|h|d)?", re.ASCII)


def to_seconds(value: object) -> object:
    """Return the seconds of a text, such as 600.0 for `10 min` and 30.0 for `30`; anything else as it is.

    Raises:
        ValueError: it is a text that is no duration.
    """
    if not isinstance(value, str):
        return value
    written = _DURATION.fullmatch(value.strip())
    if written is None:
        raise ValueError("must be a number of seconds, or a text such as 500 ms, 30 s, 10 min, 24 h or 7 d")
    return float(written[1]) * _SECONDS_OF[written[2] or "s"]


Seconds = Annotated[float, BeforeValidator(to_seconds)]
"""A number of seconds, or a text with a unit."""
