"""Times as people type them: how long ago, or a date."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from cli.failures import USAGE, CommandError

_AGO: Final = re.compile(r"(\d{1,6})([smhd])", re.ASCII)
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def read_time(option: str, text: str, *, now: datetime) -> datetime | None:
    """Return the time that `text` stands for; None when it is empty.

    `90s`, `15m`, `2h` and `7d` are so long before `now`; everything else is ISO 8601, in UTC where it names no zone.

    Raises:
        CommandError: it is neither; the sentence names `option`.
    """
    if not text:
        return None
    try:
        if match := _AGO.fullmatch(text):
            return now - timedelta(**{_UNITS[match[2]]: int(match[1])})
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise CommandError(
            f"{option} must be a time such as 2h, 7d or 2026-01-31T08:00:00Z, not {text!r:.100}.", exit_code=USAGE
        ) from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
