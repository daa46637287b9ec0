"""Numbers as people read them: `30 s`, `24 h`, `1 MiB`, `10,000`."""

from __future__ import annotations

from typing import Final

_TIMES: Final = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
_SIZES: Final = (("MiB", 1 << 20), ("KiB", 1 << 10))
_EXACT_BELOW: Final = 60


def duration_text(seconds: float) -> str:
    """Return the shortest exact text of a duration that is not negative, in the largest unit that fits: `10 min`."""
    if seconds == 0:
        return "0 s"
    if seconds < 1:
        return f"{seconds * 1_000:g} ms"
    if seconds < _EXACT_BELOW:
        return f"{seconds:g} s"
    unit, size = next((unit, size) for unit, size in _TIMES if seconds % size == 0 or size == 1)
    return f"{seconds / size:g} {unit}"


def bytes_text(count: int) -> str:
    """Return a number of bytes, in a larger unit where that is exact: `64 KiB`, `8190 bytes`."""
    return next((f"{count // size} {unit}" for unit, size in _SIZES if count and not count % size), f"{count:,} bytes")


def count_text(value: float) -> str:
    """Return a number with commas where it is long."""
    return f"{value:g}" if isinstance(value, float) and not value.is_integer() else f"{int(value):,}"
