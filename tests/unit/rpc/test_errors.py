from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import quote

import grpc
import pytest
from google.rpc import error_details_pb2
from kongflow.v1.error_reason_pb2 import ErrorReason

from services.endpoints.domain.errors import (
    ConflictError,
    DatabaseUnavailableError,
    FieldViolation,
    InvalidRequestError,
    KongflowError,
    Reason,
)
from services.endpoints.rpc.errors import (
    MAX_MESSAGE_CHARACTERS,
    MAX_VIOLATIONS,
    STATUS_CODES,
    grpc_status,
    internal_error,
    status_code,
    status_proto,
)

ONLY_STORED = {"FAILED_INDEX"}


def details(error: KongflowError) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for packed in status_proto(error).details:
        message = getattr(error_details_pb2, packed.TypeName().rsplit(".", maxsplit=1)[-1])()
        packed.Unpack(message)
        found[type(message).__name__] = message
    return found


def test_reasons_of_the_domain_and_of_the_contract_are_the_same() -> None:
    contract = {name.removeprefix("ERROR_REASON_") for name in ErrorReason.keys()}  # noqa: SIM118 - no mapping
    assert {reason.value for reason in Reason} == contract - ONLY_STORED - {"UNSPECIFIED"}


def test_every_reason_has_a_status_and_none_is_ok_or_unknown() -> None:
    assert STATUS_CODES.keys() == set(Reason)
    assert not set(STATUS_CODES.values()) & {grpc.StatusCode.OK, grpc.StatusCode.UNKNOWN}


@pytest.mark.parametrize("reason", Reason)
def test_every_status_carries_its_reason_and_the_domain(reason: Reason) -> None:
    error = KongflowError("A sentence.", reason=reason, metadata={"key": "value"})
    info = details(error)["ErrorInfo"]
    assert (info.reason, info.domain, dict(info.metadata)) == (reason.value, "kongflow.v1", {"key": "value"})
    assert grpc_status(error).code is STATUS_CODES[reason]


def test_all_violations_travel_up_to_a_number_that_fits_a_header() -> None:
    violations = [FieldViolation(f"lanes[{position}]", "must be given") for position in range(MAX_VIOLATIONS + 1)]
    error = InvalidRequestError(violations)
    assert len(details(error)["BadRequest"].field_violations) == MAX_VIOLATIONS
    assert len(status_proto(error).message) == MAX_MESSAGE_CHARACTERS


def test_an_error_that_may_pass_says_when_to_try_again() -> None:
    error = ConflictError("Again.", retry_after=timedelta(milliseconds=100))
    assert details(error)["RetryInfo"].retry_delay.ToTimedelta() == timedelta(milliseconds=100)
    assert "RetryInfo" not in details(KongflowError("No.", reason=Reason.NOT_FOUND))


def test_a_failed_precondition_names_what_is_in_the_way() -> None:
    error = KongflowError("It is suspended.", reason=Reason.ENDPOINT_SUSPENDED)
    violation = details(error)["PreconditionFailure"].violations[0]
    assert (violation.type, violation.subject, violation.description) == (
        "ENDPOINT_SUSPENDED",
        "endpoint",
        "It is suspended.",
    )


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        (DatabaseUnavailableError("Away.", retry_after=timedelta(seconds=1)), grpc.StatusCode.UNAVAILABLE),
        (ConflictError("Busy.", retry_after=timedelta(seconds=1)), grpc.StatusCode.ABORTED),
        (None, grpc.StatusCode.ABORTED),
    ],
)
def test_a_failed_upsert_is_unavailable_only_when_the_database_was_away(
    cause: KongflowError | None, code: grpc.StatusCode
) -> None:
    error = KongflowError("It could not be stored.", reason=Reason.FAILED_UPSERT)
    error.__cause__ = cause
    assert status_code(error) is code


def test_a_defect_is_named_by_its_reference_only() -> None:
    error = internal_error("abc123")
    assert details(error)["ErrorInfo"].metadata["reference"] == "abc123"
    assert "abc123" in error.message


@pytest.mark.parametrize("reason", [Reason.RATE_LIMITED, Reason.QUOTA_EXCEEDED])
def test_a_used_up_quota_names_whose_it_is(reason: Reason) -> None:
    error = KongflowError("Too many.", reason=reason, metadata={"tenant": "admin"}, retry_after=timedelta(seconds=2))
    found = details(error)
    assert [(each.subject, each.description) for each in found["QuotaFailure"].violations] == [("admin", "Too many.")]
    assert found["RetryInfo"].retry_delay.ToTimedelta() == timedelta(seconds=2)


@pytest.mark.parametrize("character", ["a", "%", "é", "界", "\U0001f600"])
@pytest.mark.parametrize("violated", [0, 1, 60])
@pytest.mark.parametrize("reason", [Reason.FAILED_PING, Reason.NOT_FOUND, Reason.RATE_LIMITED])
def test_a_status_fits_the_headers_that_clients_take(character: str, violated: int, reason: Reason) -> None:
    text = character * 1000
    error = KongflowError(
        text,
        reason=reason,
        violations=[FieldViolation(f"lanes[{position}]", text) for position in range(violated)],
        metadata={"resource": "job", "name": text, "tenant": text},
        retry_after=timedelta(seconds=1),
    )
    status = status_proto(error)
    size_bytes = len(quote(status.message, safe=" ")) + status.ByteSize()
    assert size_bytes < 7.5 * 1024
    assert 100 <= len(status.message) <= MAX_MESSAGE_CHARACTERS
    if violated:
        assert details(error)["BadRequest"].field_violations[0].field == "lanes[0]"
