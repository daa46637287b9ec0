"""The errors KongFlow raises on purpose: one small tree, data in fields.

Every error a caller may see is a `KongflowError` with a `Reason` of the contract. Adapters translate driver errors into
these at their boundary and keep the original as `__cause__`.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


_RETRY_OVERLOADED_AFTER: Final = timedelta(seconds=1)


_OUT_OF_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE})


def is_out_of_descriptors(error: BaseException) -> bool:
    """Tell whether something could not be opened because this process, or its machine, may open no more."""
    return isinstance(error, OSError) and error.errno in _OUT_OF_DESCRIPTORS


class Reason(Enum):
    """Names why a call failed; the names are those of the proto enum `ErrorReason` without its prefix."""

    INVALID_REQUEST = "INVALID_REQUEST"
    ADDRESS_NOT_ALLOWED = "ADDRESS_NOT_ALLOWED"
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    NOT_FOUND = "NOT_FOUND"
    FAILED_PING = "FAILED_PING"
    FAILED_UPSERT = "FAILED_UPSERT"
    ENDPOINT_SUSPENDED = "ENDPOINT_SUSPENDED"
    WRONG_STATE = "WRONG_STATE"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    OUT_OF_RANGE = "OUT_OF_RANGE"
    CONFLICT = "CONFLICT"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    RATE_LIMITED = "RATE_LIMITED"
    QUOTA_EXCEEDED = "QUOTA_EXCEEDED"
    DRAINING = "DRAINING"
    DATABASE_UNAVAILABLE = "DATABASE_UNAVAILABLE"
    INTERNAL = "INTERNAL"
    INTERRUPTED = "INTERRUPTED"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One refused field: `field` is its proto path, `description` a sentence that says what would be accepted."""

    field: str
    description: str


class KongflowError(Exception):
    """A failure with a reason of the contract.

    `metadata` values are strings and hold no secret and no payload. `retry_after` is set when repeating the same call
    later may succeed.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: Reason,
        violations: Sequence[FieldViolation] = (),
        metadata: Mapping[str, str] | None = None,
        retry_after: timedelta | None = None,
    ) -> None:
        """Hold the sentence for people and the data for programs."""
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.violations = tuple(violations)
        self.metadata = dict(metadata or {})
        self.retry_after = retry_after


class InvalidRequestError(KongflowError):
    """One or more fields were refused; all of them are named at once."""

    def __init__(self, violations: Sequence[FieldViolation], *, reason: Reason = Reason.INVALID_REQUEST) -> None:
        """Build the sentence from the violations."""
        described = "; ".join(f"{violation.field}: {violation.description}" for violation in violations)
        super().__init__(described, reason=reason, violations=violations)


class NotFoundError(KongflowError):
    """The resource is absent or belongs to another tenant: both read the same."""

    def __init__(self, resource: str, name: str) -> None:
        """Name the resource as the caller named it."""
        super().__init__(
            f"There is no {resource} {name!r} here.",
            reason=Reason.NOT_FOUND,
            metadata={"resource": resource, "name": name},
        )


class ConflictError(KongflowError):
    """The database refused concurrent work (serialization, deadlock, lock timeout); the same call may succeed."""

    def __init__(self, message: str, *, retry_after: timedelta) -> None:
        """Say when to try again."""
        super().__init__(message, reason=Reason.CONFLICT, retry_after=retry_after)


class DatabaseUnavailableError(KongflowError):
    """PostgreSQL is away, starting or out of connections."""

    def __init__(self, message: str, *, retry_after: timedelta, reason: Reason = Reason.DATABASE_UNAVAILABLE) -> None:
        """Say when to try again."""
        super().__init__(message, reason=reason, retry_after=retry_after)


class StatementTooSlowError(DatabaseUnavailableError):
    """PostgreSQL is there and ended a statement that took longer than any may: the server is slow, or the work long."""


class DatabaseDefectError(Exception):
    """PostgreSQL answered with an error that nothing here expects: of its own, of the schema, or of a statement.

    To a caller it is a defect like any other, so that it is none of the errors that are told.
    """

    def __init__(self, sqlstate: str, name: str) -> None:
        """Hold PostgreSQL's code and name of it; its text may quote a row."""
        super().__init__(f"PostgreSQL answered with {sqlstate}, {name}.")
        self.name = name


class NoConnectionFreeError(DatabaseUnavailableError):
    """PostgreSQL may be there, but this server has no connection to it for another call."""

    def __init__(self, missing: str) -> None:
        """Name what there is too little of, such as `connections`."""
        super().__init__(
            f"This server has no {missing} left to ask its database for another call; try again.",
            reason=Reason.RATE_LIMITED,
            retry_after=_RETRY_OVERLOADED_AFTER,
        )


class ServerOverloadedError(KongflowError):
    """This process is out of something that a call needs; what runs goes on."""

    def __init__(self, missing: str) -> None:
        """Name what is missing, such as `file descriptors`."""
        super().__init__(
            f"This server has no {missing} left for another call; try again.",
            reason=Reason.RATE_LIMITED,
            retry_after=_RETRY_OVERLOADED_AFTER,
        )


class AddressNotAllowedError(KongflowError):
    """The URL's host is, or resolves to, an address that KongFlow does not call."""

    def __init__(self, host: str, refusal: str, *, field: str = "url") -> None:
        """Name the host and what it is, never the address a name resolved to: that may be somebody's internal DNS."""
        super().__init__(
            f"The host {host!r} is not allowed: it is {refusal}.",
            reason=Reason.ADDRESS_NOT_ALLOWED,
            violations=[FieldViolation(field, f"must not lead to {refusal}")],
            metadata={"host": host},
        )


class UnauthenticatedError(KongflowError):
    """There is no credential, or it is malformed, unknown, expired or revoked: all read the same."""

    def __init__(self) -> None:
        """Say the one sentence."""
        super().__init__(
            "This call needs a valid credential: send `authorization: Bearer <API key or token>`.",
            reason=Reason.UNAUTHENTICATED,
        )


class PermissionDeniedError(KongflowError):
    """The credential is good, but its kind, its scopes or its environment do not allow the call."""

    def __init__(self, message: str) -> None:
        """Take the sentence that says what would be needed."""
        super().__init__(message, reason=Reason.PERMISSION_DENIED)


class AlreadyExistsError(KongflowError):
    """The name is taken by other content."""

    def __init__(self, resource: str, name: str) -> None:
        """Name the resource as the caller named it."""
        super().__init__(
            f"There is a {resource} {name!r} already.",
            reason=Reason.ALREADY_EXISTS,
            metadata={"resource": resource, "name": name},
        )
