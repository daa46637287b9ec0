"""Times as people type them: how long, how long ago, or a date."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cli.failures import USAGE, CommandError

_LENGTH: Final = re.compile(r"(\d{1,6})([smhd])", re.ASCII)
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
        length = _length(text)
        return _moment(text) if length is None else now - length
    except (ValueError, OverflowError) as error:
        raise _refusal(option, text, "a time such as 2h, 7d or 2026-01-31T08:00:00Z") from error


def read_range(since: str, until: str, *, now: datetime) -> dict[str, Any]:
    """Return the fields `created_from` and `created_before` of a List request, those that were given.

    Raises:
        CommandError: `--since` or `--until` is no time.
    """
    times = {
        "created_from": read_time("--since", since, now=now),
        "created_before": read_time("--until", until, now=now),
    }
    return {field: moment for field, moment in times.items() if moment is not None}


def read_moment(option: str, text: str) -> datetime | None:
    """Return the time that `text` names in ISO 8601, in UTC where it names no zone; None when it is empty.

    Raises:
        CommandError: it is none; the sentence names `option`.
    """
    if not text:
        return None
    try:
        return _moment(text)
    except (ValueError, OverflowError) as error:
        raise _refusal(option, text, "a time such as 2026-01-31T08:00:00Z") from error


def read_duration(option: str, text: str) -> timedelta | None:
    """Return how long `text` says, as in `90s`, `15m`, `2h` or `7d`; None when it is empty.

    Raises:
        CommandError: it says nothing of the kind; the sentence names `option`.
    """
    if not text:
        return None
    length = _length(text)
    if length is None:
        raise _refusal(option, text, "a length of time such as 60s, 5m, 2h or 7d")
    return length


def _length(text: str) -> timedelta | None:
    match = _LENGTH.fullmatch(text)
    return None if match is None else timedelta(**{_UNITS[match[2]]: int(match[1])})


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _refusal(option: str, text: str, wanted: str) -> CommandError:
    return CommandError(f"{option} must be {wanted}, not {text!r:.100}.", exit_code=USAGE)
