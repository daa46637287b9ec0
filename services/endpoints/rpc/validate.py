"""Checks of request fields that collect every violation, so that a caller sees all of them at once."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeVar
from uuid import UUID

from services.endpoints.domain.endpoint_url import check_url
from services.endpoints.domain.errors import FieldViolation, InvalidRequestError, Reason
from services.endpoints.domain.identifiers import NIL_UUID, is_hook_identifier, is_slug, is_uuid
from services.endpoints.domain.json_text import JsonTextError, parse_json
from services.endpoints.domain.page import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.timestamp_pb2 import Timestamp

_Value = TypeVar("_Value")

MAX_NAME_CHARACTERS: Final = 200
MAX_REASON_CHARACTERS: Final = 1000
MAX_FILTER_CHARACTERS: Final = 1000
MAX_JSON_BYTES: Final = 512 * 1024

_RANDOM_UUID_VERSION: Final = 4
_MAX_NANOS: Final = 999_999_999
_NANOS_OF_A_MICROSECOND: Final = 1_000
CONTROL_CHARACTER: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SLUG_RULE: Final = (
    "must be 1 to 100 characters of A-Z a-z 0-9 . _ ~ -, the first a letter or a digit, never two dots in a row"
)


class Checks:
    """Reads fields one by one; `finish` raises when any was refused.

    A reader returns something of the right type even for a refused field, so that the next fields are read as well;
    nothing of it may be used before `finish` has returned.
    """

    def __init__(self) -> None:
        self._violations: list[FieldViolation] = []
        self._reasons: set[Reason] = set()

    def refuse(self, field: str, description: str, *, reason: Reason = Reason.INVALID_REQUEST) -> None:
        """Note a violation."""
        self._violations.append(FieldViolation(field, description))
        self._reasons.add(reason)

    def take(self, error: InvalidRequestError) -> None:
        """Note the violations that another check found."""
        self._violations += error.violations
        self._reasons.add(error.reason)

    def finish(self) -> None:
        """Return when nothing was refused.

        Raises:
            InvalidRequestError: with every violation; the reason is INVALID_REQUEST unless all have another one.
        """
        if self._violations:
            reason = next(iter(self._reasons)) if len(self._reasons) == 1 else Reason.INVALID_REQUEST
            raise InvalidRequestError(self._violations, reason=reason)

    def uuid(self, field: str, text: str) -> UUID:
        """Read a required id in its usual form of 36 characters; the nil UUID is refused."""
        if not text:
            self.refuse(field, "must be given")
            return NIL_UUID
        value = UUID(text) if is_uuid(text) else NIL_UUID
        if value == NIL_UUID:
            self.refuse(field, "must be a UUID such as 01890a5d-ac96-774b-bcce-b302099a8057, not the nil UUID")
        return value

    def optional_uuid(self, field: str, text: str) -> UUID | None:
        """Read an id that may be empty."""
        return self.uuid(field, text) if text else None

    def request_id(self, field: str, text: str) -> UUID | None:
        """Read a request id, a version 4 UUID; empty means none."""
        if not text:
            return None
        value = UUID(text) if is_uuid(text) else NIL_UUID
        if value.version != _RANDOM_UUID_VERSION:
            self.refuse(field, "must be a random (version 4) UUID of 36 characters")
        return value

    def slug(self, field: str, text: str) -> str:
        """Read a required slug."""
        if not is_slug(text):
            self.refuse(field, _SLUG_RULE if text else "must not be empty")
        return text

    def url(self, field: str, text: str) -> str:
        """Read a required url."""
        for description in check_url(text):
            self.refuse(field, description)
        return text

    def hook_identifier(self, field: str, text: str) -> str | None:
        """Read a hook identifier; empty means none."""
        if text and not is_hook_identifier(text):
            self.refuse(field, "must be 10 characters of 0123456789abcdefghijklmnopqrstuvxyz")
        return text or None

    def name(self, field: str, text: str, *, default: str | None = None) -> str:
        """Read a name for people of 1 to 200 characters; empty means `default`, or is refused without one."""
        if not text and default is not None:
            return default
        if not text.strip() or len(text) > MAX_NAME_CHARACTERS or CONTROL_CHARACTER.search(text):
            self.refuse(field, f"must be 1 to {MAX_NAME_CHARACTERS} characters without control characters")
        return text

    def reason(self, field: str, text: str) -> str | None:
        """Read a free text of up to 1,000 characters; empty means none."""
        if len(text) > MAX_REASON_CHARACTERS or "\x00" in text:
            self.refuse(field, f"must be at most {MAX_REASON_CHARACTERS} characters without NUL")
        return text or None

    def filter_text(self, field: str, text: str) -> str | None:
        """Read a text that stored texts are compared with; empty means any."""
        if len(text) > MAX_FILTER_CHARACTERS or "\x00" in text:
            self.refuse(field, f"must be at most {MAX_FILTER_CHARACTERS} characters without NUL")
        return text or None

    def json(self, field: str, text: str) -> str | None:
        """Read customer JSON of up to 512 KiB and 64 levels; empty means none. The text is returned as it came."""
        if not text:
            return None
        if len(text.encode()) > MAX_JSON_BYTES:
            self.refuse(field, f"must be at most {MAX_JSON_BYTES} bytes", reason=Reason.PAYLOAD_TOO_LARGE)
            return text
        try:
            parse_json(text)
        except JsonTextError as error:
            self.refuse(field, f"must be JSON: {error.reason}")
        return text

    def enum(
        self, field: str, number: int, values: Mapping[int, _Value], *, default: _Value | None = None
    ) -> _Value | None:
        """Read an enum; its zero means `default`. A number that the contract does not have is refused."""
        if number == 0:
            return default
        value = values.get(number)
        if value is None:
            self.refuse(field, f"must not be {number}, which the contract does not have")
        return value

    def required_enum(self, field: str, number: int, values: Mapping[int, _Value]) -> _Value:
        """Read an enum whose zero is refused."""
        if number == 0:
            self.refuse(field, "must be given")
        return self.enum(field, number, values) or next(iter(values.values()))

    def page_size(self, field: str, size: int) -> int:
        """Read a page size: 0 means 50, more than 1,000 means 1,000, less than 0 is refused.

        Source: AIP-158.
        """
        if size < 0:
            self.refuse(field, "must not be negative")
        return min(size, MAX_PAGE_SIZE) if size > 0 else DEFAULT_PAGE_SIZE

    def duration(self, field: str, duration: Duration, *, most: timedelta) -> timedelta:
        """Read a duration from 0 to `most`, rounded up to a microsecond."""
        if 0 <= duration.seconds <= most.total_seconds() and 0 <= duration.nanos <= _MAX_NANOS:
            value = timedelta(seconds=duration.seconds, microseconds=-(-duration.nanos // _NANOS_OF_A_MICROSECOND))
            if value <= most:
                return value
        self.refuse(field, f"must be 0 to {most.days} days")
        return timedelta()

    def time(self, field: str, timestamp: Timestamp, *, latest: datetime | None = None) -> datetime | None:
        """Read a time that is set, not after `latest`; None as `latest` means any."""
        try:
            value = timestamp.ToDatetime(tzinfo=UTC)
        except (ValueError, OverflowError):
            self.refuse(field, "must be a time between the years 1 and 9999 with nanoseconds from 0 to 999,999,999")
            return None
        if latest is not None and value > latest:
            self.refuse(field, f"must not be after {latest.isoformat()}")
        return value
