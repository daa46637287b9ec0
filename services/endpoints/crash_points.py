"""Named places at which the fault tests end this process as `kill -9` would.

`KONGFLOW_CRASH_AT=<place>[.<detail>][:<nth>]` ends it at the nth passage of that place; only tests set it. Unset, a
place is a call of an empty function.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class CrashPoint(Protocol):
    """Passes a named place."""

    def __call__(self, place: str, detail: str = "", /) -> None:
        """Go on, or end the process here."""


VARIABLE: Final = "KONGFLOW_CRASH_AT"
EXIT_STATUS: Final = 70
PLACES: Final = frozenset(
    {
        "before_commit",  # the detail is the pool, such as `callers`
        "after_commit",  # the same; nobody has been told yet
        "after_ring_before_publish",
        "after_rescue_before_publish",
        "after_begin_before_call",
        "after_endpoint_answered",
        "before_effect",  # the detail is the kind of a queue job
    }
)


def _pass_by(_place: str, _detail: str = "") -> None:
    """Go on."""


def crash_point_of(text: str, end: Callable[[int], object] = os._exit) -> CrashPoint:
    """Return the function to call at every place, for this value of the variable; empty means go on everywhere.

    Raises:
        ValueError: there is no such place, or the count is no number above 0.
    """
    if not text:
        return _pass_by
    wanted, _, count = text.partition(":")
    wanted_place, _, wanted_detail = wanted.partition(".")
    remaining = int(count or "1")
    if wanted_place not in PLACES or remaining < 1:
        raise ValueError(f"{VARIABLE} names no place to crash at: {text}")

    def crash(place: str, detail: str = "") -> None:
        nonlocal remaining
        if place == wanted_place and wanted_detail in {"", detail}:
            remaining -= 1
            if remaining == 0:
                end(EXIT_STATUS)

    return crash


crash_point: Final = crash_point_of(os.environ.get(VARIABLE, ""))
"""Pass a named place, with a detail where `PLACES` says so."""
