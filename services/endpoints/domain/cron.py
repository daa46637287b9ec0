"""Cron expressions: whether one can ever match, checked when a job is registered and not when it is due."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

_MACROS: Final = frozenset({"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"})
_FIELDS_WITH_SECONDS: Final = 6
_DAYS_IN_MONTH: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_NUMBER: Final = re.compile(r"[0-9]{1,3}", re.ASCII)
_NTH_WEEKDAY: Final = re.compile(r"([0-9a-z]{1,3})#[1-5]", re.ASCII)
_LAST_WEEKDAY: Final = re.compile(r"([0-9a-z]{1,3})l", re.ASCII)
_MAX_LENGTH: Final = 200


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    lowest: int
    highest: int
    names: dict[str, int] = field(default_factory=dict)
    is_day: bool = False


_FIELDS: Final = (
    _Field("second", 0, 59),
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31, is_day=True),
    _Field("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    _Field("day of week", 0, 7, {name: number for number, name in enumerate(_DAYS)}, is_day=True),
)


class _RefusedError(ValueError):
    """What is wrong with one field."""


def find_cron_problem(text: str) -> str | None:
    """Return what is wrong with a cron expression, or None when it can match.

    Five fields (minute, hour, day of month, month, day of week), six with leading seconds, or one of `@yearly`,
    `@annually`, `@monthly`, `@weekly`, `@daily`, `@midnight`, `@hourly`. A field is a list of `*`, numbers and
    ranges, each with an optional `/step`; months and days may be named; days know `?` and `L`, weekdays `5L` and
    `5#2`; 7 is Sunday. The answer completes a sentence that begins with the name of the field that held `text`.

    Source: protocol, sections 5.5 and 10.13.
    """
    if len(text) > _MAX_LENGTH:
        return f"must have at most {_MAX_LENGTH} characters"
    words = text.lower().split()
    if len(words) == 1 and words[0] in _MACROS:
        return None
    if len(words) not in (_FIELDS_WITH_SECONDS - 1, _FIELDS_WITH_SECONDS):
        return f"must have 5 fields, or 6 with leading seconds, and has {len(words)}"
    fields = _FIELDS[_FIELDS_WITH_SECONDS - len(words) :]
    try:
        values = [_read_field(word, one) for word, one in zip(words, fields, strict=True)]
    except _RefusedError as error:
        return str(error)
    days, months, weekdays = values[-3:]
    if days and months and weekdays is None and min(days) > max(_DAYS_IN_MONTH[month - 1] for month in months):
        return "names a day that its months do not have, so it never matches"
    return None


def _read_field(text: str, one: _Field) -> set[int] | None:
    """Return the values of a field, or None when it does not restrict the match to a set of numbers."""
    values: set[int] = set()
    is_open = False
    for part in text.split(","):
        base, slash, step_text = part.partition("/")
        if slash and (not _NUMBER.fullmatch(step_text) or int(step_text) == 0):
            raise _RefusedError(f"has the step {step_text!r} in its {one.name}, which must be a number above 0")
        if base == "*" or (one.is_day and base in {"?", "l"}):
            is_open = is_open or base != "*" or not slash
            values.update(range(one.lowest, one.highest + 1, int(step_text or 1)))
        elif one.name == "day of week" and (match := _NTH_WEEKDAY.fullmatch(base) or _LAST_WEEKDAY.fullmatch(base)):
            values.add(_read_number(match.group(1), one))
        else:
            values.update(_read_range(base, one, has_step=bool(slash), step=int(step_text or 1)))
    return None if is_open else values


def _read_range(text: str, one: _Field, *, has_step: bool, step: int) -> range:
    first_text, dash, last_text = text.partition("-")
    first = _read_number(first_text, one)
    last = _read_number(last_text, one) if dash else one.highest if has_step else first
    if first > last:
        raise _RefusedError(f"has the range {text!r} in its {one.name}, which runs backwards")
    return range(first, last + 1, step)


def _read_number(text: str, one: _Field) -> int:
    if text in one.names:
        return one.names[text]
    if not _NUMBER.fullmatch(text) or not one.lowest <= int(text) <= one.highest:
        raise _RefusedError(f"has {text!r} as its {one.name}, which must be {one.lowest} to {one.highest}")
    return int(text)
