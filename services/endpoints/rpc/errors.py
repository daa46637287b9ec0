"""From domain errors to gRPC statuses: the one table, and the details that travel with a status."""

from __future__ import annotations

from bisect import bisect_right
from datetime import timedelta
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, cast

import grpc
from google.protobuf.any_pb2 import Any as PackedMessage
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from services.endpoints.domain.errors import DatabaseUnavailableError, KongflowError, Reason
from services.endpoints.rpc.correlation import correlation_metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from google.protobuf.message import Message

    from services.endpoints.domain.errors import FieldViolation

ERROR_DOMAIN: Final = "kongflow.v1"
MAX_VIOLATIONS: Final = 50
MAX_MESSAGE_CHARACTERS: Final = 1000
# Of the 8 KiB of metadata that clients take by default; what else travels needs less than the rest.
MAX_STATUS_BYTES: Final = 7 * 1024
_MAX_MESSAGE_BYTES: Final = 5 * 1024
# The violations say what the message of these says.
_MAX_MESSAGE_BYTES_BESIDE_VIOLATIONS: Final = 2 * 1024
_MAX_TEXT_BYTES: Final = 512
_RETRY_INTERRUPTED_AFTER: Final = timedelta(seconds=1)

_Code = grpc.StatusCode

STATUS_CODES: Final[Mapping[Reason, grpc.StatusCode]] = {
    Reason.INVALID_REQUEST: _Code.INVALID_ARGUMENT,
    Reason.ADDRESS_NOT_ALLOWED: _Code.INVALID_ARGUMENT,
    Reason.PAYLOAD_TOO_LARGE: _Code.INVALID_ARGUMENT,
    Reason.REQUEST_ID_REUSED: _Code.INVALID_ARGUMENT,
    Reason.NOT_FOUND: _Code.NOT_FOUND,
    Reason.FAILED_PING: _Code.FAILED_PRECONDITION,
    Reason.FAILED_UPSERT: _Code.ABORTED,
    Reason.ENDPOINT_SUSPENDED: _Code.FAILED_PRECONDITION,
    Reason.WRONG_STATE: _Code.FAILED_PRECONDITION,
    Reason.ALREADY_EXISTS: _Code.ALREADY_EXISTS,
    Reason.UNAUTHENTICATED: _Code.UNAUTHENTICATED,
    Reason.PERMISSION_DENIED: _Code.PERMISSION_DENIED,
    Reason.OUT_OF_RANGE: _Code.OUT_OF_RANGE,
    Reason.CONFLICT: _Code.ABORTED,
    Reason.DEADLINE_EXCEEDED: _Code.DEADLINE_EXCEEDED,
    Reason.RATE_LIMITED: _Code.RESOURCE_EXHAUSTED,
    Reason.QUOTA_EXCEEDED: _Code.RESOURCE_EXHAUSTED,
    Reason.DRAINING: _Code.UNAVAILABLE,
    Reason.DATABASE_UNAVAILABLE: _Code.UNAVAILABLE,
    Reason.INTERNAL: _Code.INTERNAL,
    Reason.INTERRUPTED: _Code.UNAVAILABLE,
}


def status_code(error: KongflowError) -> grpc.StatusCode:
    """Return the status of an error.

    FAILED_UPSERT is UNAVAILABLE when the database was away and ABORTED when it refused.
    """
    cause = error.__cause__
    is_away = isinstance(cause, DatabaseUnavailableError)
    if error.reason is Reason.FAILED_UPSERT and is_away:
        return _Code.UNAVAILABLE
    return STATUS_CODES[error.reason]


def status_proto(error: KongflowError) -> Any:  # noqa: ANN401 - google.rpc has no types
    """Return the `google.rpc.Status` of an error with every detail that applies.

    At most 50 violations and 1,000 characters of message travel, and no more of both than fits `MAX_STATUS_BYTES`: the
    message and the details of a status are headers, and clients refuse large ones.
    """
    most = _MAX_MESSAGE_BYTES_BESIDE_VIOLATIONS if error.violations else _MAX_MESSAGE_BYTES
    message, size_bytes = _cut(error.message[:MAX_MESSAGE_CHARACTERS], most, _bytes_in_a_status)
    status = status_pb2.Status(code=status_code(error).value[0], message=message)
    for detail in _details(error, left_bytes=MAX_STATUS_BYTES - size_bytes):
        packed = PackedMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def grpc_status(error: KongflowError) -> grpc.Status:
    """Return what `ServicerContext.abort_with_status` takes."""
    status: Any = rpc_status.to_status(status_proto(error))
    # What an abort is given takes the place of what was set before.
    return cast("grpc.Status", status._replace(trailing_metadata=(*status.trailing_metadata, *correlation_metadata())))


def internal_error(reference: str) -> KongflowError:
    """Return the error that stands for a defect: a fixed text and the reference under which the log has the cause."""
    return KongflowError(
        f"Something went wrong inside KongFlow; its log has the cause under the reference {reference}.",
        reason=Reason.INTERNAL,
        metadata={"reference": reference},
    )


def interrupted_error(reference: str) -> KongflowError:
    """Return the error of a call whose work was cancelled inside the server; whether it had an effect is unknown."""
    return KongflowError(
        "The call was interrupted inside KongFlow, and whether it had an effect is unknown: repeat it, with the same "
        f"request_id where there is one. The log has the cause under the reference {reference}.",
        reason=Reason.INTERRUPTED,
        metadata={"reference": reference},
        retry_after=_RETRY_INTERRUPTED_AFTER,
    )


def _details(error: KongflowError, *, left_bytes: int) -> list[Message]:
    metadata = {key: _short(value) for key, value in error.metadata.items()}
    info = error_details_pb2.ErrorInfo(reason=error.reason.value, domain=ERROR_DOMAIN, metadata=metadata)
    details: list[Message] = [info]
    if error.retry_after is not None:
        retry_info = error_details_pb2.RetryInfo()
        retry_info.retry_delay.FromTimedelta(error.retry_after)
        details.append(retry_info)
    if status_code(error) is _Code.FAILED_PRECONDITION:
        violation = error_details_pb2.PreconditionFailure.Violation(
            type=error.reason.value,
            subject=error.metadata.get("resource", "endpoint"),
            description=_short(error.message),
        )
        details.append(error_details_pb2.PreconditionFailure(violations=[violation]))
    if status_code(error) is _Code.RESOURCE_EXHAUSTED:
        exhausted = error_details_pb2.QuotaFailure.Violation(
            subject=_short(error.metadata.get("tenant", "server")), description=_short(error.message)
        )
        details.append(error_details_pb2.QuotaFailure(violations=[exhausted]))
    if error.violations:
        left_bytes -= sum(detail.ByteSize() for detail in details)
        details.insert(1, _bad_request(error.violations, left_bytes=left_bytes))
    return details


def _bad_request(violations: Sequence[FieldViolation], *, left_bytes: int) -> Any:  # noqa: ANN401 - as above
    """Return the violations, the first of them first, as far as they fit."""
    refused: Any = error_details_pb2.BadRequest()
    for violation in violations[:MAX_VIOLATIONS]:
        refused.field_violations.add(field=_short(violation.field), description=_short(violation.description))
        if refused.ByteSize() > left_bytes:
            del refused.field_violations[-1]
            break
    return refused


def _short(text: str) -> str:
    return _cut(text[:_MAX_TEXT_BYTES], _MAX_TEXT_BYTES, lambda character: len(character.encode()))[0]


def _cut(text: str, max_bytes: int, bytes_of: Callable[[str], int]) -> tuple[str, int]:
    """Return as much of a text as `max_bytes` hold, and how many of them it takes."""
    sizes = list(accumulate(map(bytes_of, text), initial=0))
    kept = bisect_right(sizes, max_bytes) - 1
    return text[:kept], sizes[kept]


def _bytes_in_a_status(character: str) -> int:
    """Return what a character of the message takes: once as it is, and once with percent escapes.

    Source: gRPC over HTTP/2, `Percent-Encoded`.
    """
    size_bytes = len(character.encode())
    is_escaped = not " " <= character <= "~" or character == "%"
    return size_bytes + (3 * size_bytes if is_escaped else 1)
