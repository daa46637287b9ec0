"""Exceptions in log lines: where they came from and of what type they are, without what they say of the data."""

from __future__ import annotations

from dataclasses import dataclass
from traceback import StackSummary, walk_tb
from typing import TYPE_CHECKING, Any, Final, TextIO

from services.endpoints.domain.errors import KongflowError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None]

_MAX_FRAMES: Final = 50


@dataclass(frozen=True, slots=True)
class _Link:
    error: BaseException
    is_cause: bool


def describe_exception(exc_info: ExceptionInfo) -> list[dict[str, Any]]:
    """Return an exception and what led to it, the last one first: type, value, SQLSTATE if it has one, and frames.

    The value is the text of the domain's own errors and of no other: PostgreSQL, for one, quotes the row it refused.
    Of each only the innermost 50 frames are shown.
    """
    return [_described(link) for link in _chain(exc_info[1])]


def write_exception(stream: TextIO, exc_info: ExceptionInfo) -> None:
    """Write the same as `describe_exception` as text."""
    for each in describe_exception(exc_info):
        stream.write("\nCaused by:" if each["is_cause"] else "\nTraceback:")
        stream.writelines(
            f'\n  File "{frame["filename"]}", line {frame["lineno"]}, in {frame["name"]}' for frame in each["frames"]
        )
        stream.write(f"\n{each['exc_type']}: {each['exc_value']}")
        if "sqlstate" in each:
            stream.write(f" (SQLSTATE {each['sqlstate']})")
        stream.writelines(
            f"\n  - {inner[0]['exc_type']}: {inner[0]['exc_value']}" for inner in each.get("exceptions", [])
        )


def _chain(error: BaseException) -> Iterator[_Link]:
    seen: set[int] = set()
    link: _Link | None = _Link(error, is_cause=False)
    while link is not None and id(link.error) not in seen:
        seen.add(id(link.error))
        yield link
        link = _before(link.error)


def _before(error: BaseException) -> _Link | None:
    if error.__cause__ is not None:
        return _Link(error.__cause__, is_cause=True)
    if error.__context__ is not None and not error.__suppress_context__:
        return _Link(error.__context__, is_cause=False)
    return None


def _described(link: _Link) -> dict[str, Any]:
    error, name = link.error, type(link.error).__name__
    frames = StackSummary.extract(walk_tb(error.__traceback__), lookup_lines=False)[-_MAX_FRAMES:]
    described: dict[str, Any] = {
        "exc_type": name,
        "exc_value": error.message if isinstance(error, KongflowError) else name,
        "is_cause": link.is_cause,
        "frames": [{"filename": frame.filename, "lineno": frame.lineno, "name": frame.name} for frame in frames],
    }
    sqlstate = getattr(error, "sqlstate", None)
    if sqlstate is not None:
        described["sqlstate"] = str(sqlstate)
    if isinstance(error, BaseExceptionGroup):
        described["exceptions"] = [[_described(inner) for inner in _chain(each)] for each in error.exceptions]
    return described
