"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp
    from rich.console import Console, RenderableType

NOTHING: Final = "\N{EN DASH}"

_STYLES: Final = {
    "SUCCEEDED": "green",
    "COMPLETED": "green",
    "REGISTERED": "green",
    "ACTIVE": "green",
    "HEALTHY": "green",
    "ENABLED": "green",
    "DELIVERED": "green",
    "MATCHED": "green",
    "UNCHANGED": "dim",
    "SUPERSEDED": "dim",
    "OTHER_SOURCE": "dim",
    "OTHER_ACCOUNT": "dim",
    "MANUAL": "dim",
    "DISABLED": "yellow",
    "FILTERED": "yellow",
    "UNREADABLE_FILTER": "red",
    "UNREADABLE_PAYLOAD": "red",
    "CHANGED": "cyan",
    "PARTIALLY_SUCCEEDED": "yellow",
    "UNSUPPORTED": "yellow",
    "REFUSED": "red",
    "FAILED": "red",
    "FAILING": "red",
    "SUSPENDED": "red",
    "DISCARDED": "red",
    "CANCELLED": "yellow",
}


def as_dict(message: Message) -> dict[str, Any]:
    """Return a message as JSON values under the contract's own field names, unset plain fields included."""
    from google.protobuf.json_format import MessageToDict  # noqa: PLC0415 - `kongflow --help` starts without it

    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def print_json(value: Message | Mapping[str, Any], *, in_one_line: bool = False) -> None:
    """Print one JSON document to standard output, at once."""
    document = dict(value) if isinstance(value, dict) else as_dict(value)  # type: ignore[arg-type]
    is_unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    sys.stdout.write(json.dumps(document, indent=None if in_one_line else 2, ensure_ascii=not is_unicode) + "\n")
    sys.stdout.flush()


def console(*, to_errors: bool = False) -> Console:
    """Return Rich's console on standard output, or on standard error for what is not the result."""
    from rich.console import Console  # noqa: PLC0415 - `kongflow --help` starts without it

    stream = sys.stderr if to_errors else sys.stdout
    # Where nobody watches, a line is as long as what it says.
    is_watched = stream.isatty()
    return Console(
        file=stream, width=None if is_watched else 160, soft_wrap=not is_watched, highlight=False, emoji=False
    )


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> RenderableType:
    """Return a table; cells are shown as they are, never read as markup, and known states get a colour."""
    from rich.table import Table  # noqa: PLC0415 - see above
    from rich.text import Text  # noqa: PLC0415

    shown = Table(title=title or None, title_justify="left", title_style="bold")
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*(Text(printable(cell), style=_STYLES.get(cell, "")) for cell in row))
    return shown


def printable(text: str) -> str:
    """Return a customer's text without the characters by which a terminal could be told to do things."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def enum_name(message: Message, field: str) -> str:
    """Return the name of an enum field's value without the enum's prefix, such as `SUCCEEDED`."""
    descriptor = message.DESCRIPTOR.fields_by_name[field].enum_type
    number = getattr(message, field)
    if descriptor is None or number not in descriptor.values_by_number:
        return str(number)
    return short_name(descriptor.values_by_number[number].name, descriptor.values[0].name)


def short_name(name: str, unspecified: str) -> str:
    """Return an enum value's name without the prefix, which its zero value `…_UNSPECIFIED` tells."""
    return name.removeprefix(unspecified.removesuffix("UNSPECIFIED"))


def time_text(message: Message, field: str) -> str:
    """Return a timestamp in UTC to the second, or a dash when it is unset."""
    if not message.HasField(field):
        return NOTHING
    moment: Timestamp = getattr(message, field)
    return moment.ToDatetime(tzinfo=UTC).strftime("%Y-%m-%d %H:%M:%S")


def duration_text(message: Message, field: str) -> str:
    """Return a duration in seconds, or a dash when it is unset."""
    if not message.HasField(field):
        return NOTHING
    duration: Duration = getattr(message, field)
    return f"{duration.ToTimedelta().total_seconds():.1f} s"
