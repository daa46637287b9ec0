"""From domain errors to gRPC statuses: the one table, and the details that travel with a status."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, cast

import grpc
from google.protobuf.any_pb2 import Any as PackedMessage
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from services.endpoints.domain.errors import DatabaseUnavailableError, KongflowError, Reason
from services.endpoints.rpc.correlation import correlation_metadata

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.message import Message

ERROR_DOMAIN: Final = "kongflow.v1"
MAX_VIOLATIONS: Final = 50
MAX_MESSAGE_CHARACTERS: Final = 1000
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

    At most 50 violations and 1,000 characters of message travel: the details of a status are a header, and clients
    refuse large ones.
    """
    status = status_pb2.Status(code=status_code(error).value[0], message=error.message[:MAX_MESSAGE_CHARACTERS])
    for detail in _details(error):
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


def _details(error: KongflowError) -> list[Message]:
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=error.reason.value, domain=ERROR_DOMAIN, metadata=error.metadata)
    ]
    if error.violations:
        details.append(
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(
                        field=violation.field, description=violation.description
                    )
                    for violation in error.violations[:MAX_VIOLATIONS]
                ]
            )
        )
    if error.retry_after is not None:
        retry_info = error_details_pb2.RetryInfo()
        retry_info.retry_delay.FromTimedelta(error.retry_after)
        details.append(retry_info)
    if status_code(error) is _Code.FAILED_PRECONDITION:
        violation = error_details_pb2.PreconditionFailure.Violation(
            type=error.reason.value, subject=error.metadata.get("resource", "endpoint"), description=error.message[:500]
        )
        details.append(error_details_pb2.PreconditionFailure(violations=[violation]))
    if status_code(error) is _Code.RESOURCE_EXHAUSTED:
        exhausted = error_details_pb2.QuotaFailure.Violation(
            subject=error.metadata.get("tenant", "server"), description=error.message[:500]
        )
        details.append(error_details_pb2.QuotaFailure(violations=[exhausted]))
    return details
