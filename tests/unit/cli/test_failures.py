from __future__ import annotations

import asyncio
import json
from typing import Any

import grpc
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kongflow.v1.endpoint_service_pb2 import ListEndpointsRequest

from cli.connection import Target, connected
from cli.failures import CommandError, command_error, failures_of, show_failure
from services.endpoints.domain.errors import FieldViolation, KongflowError, Reason
from services.endpoints.rpc.errors import grpc_status


class FailedCall(grpc.RpcError):
    """What a stub raises: an error that is a call."""

    def __init__(self, code: grpc.StatusCode, details: str, trailing: Any = ()) -> None:
        self._code, self._details, self._trailing = code, details, trailing

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> Any:
        return self._trailing


def failed(error: KongflowError) -> FailedCall:
    status: Any = grpc_status(error)
    return FailedCall(status.code, status.details, status.trailing_metadata)


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (KongflowError("It is not here.", reason=Reason.NOT_FOUND), 1),
        (KongflowError("It is stopping.", reason=Reason.DRAINING), 3),
        (KongflowError("The database is away.", reason=Reason.DATABASE_UNAVAILABLE), 3),
        (KongflowError("Too late.", reason=Reason.DEADLINE_EXCEEDED), 3),
        (KongflowError("Too many.", reason=Reason.RATE_LIMITED), 1),
    ],
)
def test_refusal_keeps_its_sentence_and_its_reason(error: KongflowError, exit_code: int) -> None:
    failure = command_error(failed(error), server="here:1")
    assert (failure.message, failure.reason, failure.exit_code) == (error.message, error.reason.value, exit_code)


def test_refused_fields_are_kept_one_by_one() -> None:
    violations = [FieldViolation("slug", "must be short"), FieldViolation("url", "must be http")]
    error = KongflowError("Two fields.", reason=Reason.INVALID_REQUEST, violations=violations, metadata={"limit": "9"})
    failure = command_error(failed(error), server="here:1")
    assert failure.violations == (("slug", "must be short"), ("url", "must be http"))
    assert failure.metadata == {"limit": "9"}


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (grpc.StatusCode.UNAVAILABLE, "KongFlow cannot be reached at here:1"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "KongFlow at here:1 did not answer in time."),
    ],
)
def test_server_that_gives_no_answer_is_unreachable(code: grpc.StatusCode, sentence: str) -> None:
    failure = command_error(FailedCall(code, "failed to connect to all addresses"), server="here:1")
    assert failure.message.startswith(sentence)
    assert (failure.exit_code, failure.reason) == (3, code.name)


@pytest.mark.parametrize(
    ("details", "sentence"),
    [
        ("last error: UNKNOWN: ipv4:127.0.0.1:1: Tls handshake failed (TSI_PROTOCOL_FAILURE)", "but not with TLS"),
        ("last error: INTERNAL: (Trying to connect an http1.x server (HTTP status 400))", "HTTP answers at here:1"),
        ("last error: UNAVAILABLE: ipv4:127.0.0.1:1: Socket closed", "or one that wants TLS"),
    ],
)
def test_server_that_speaks_otherwise_need_not_be_started(details: str, sentence: str) -> None:
    failure = command_error(FailedCall(grpc.StatusCode.UNAVAILABLE, details), server="here:1")
    assert sentence in failure.message
    assert "start it" not in failure.message
    assert (failure.exit_code, failure.reason) == (3, "UNAVAILABLE")


async def test_http_server_in_place_of_grpc_is_told_as_that() -> None:
    application = web.Application()
    async with TestServer(application) as server, asyncio.timeout(10):
        target = Target(server=f"127.0.0.1:{server.port}", token="any", environment_id="")
        with connected(target) as connection, pytest.raises(CommandError, match="HTTP answers at "):
            await asyncio.to_thread(connection.call, "EndpointService.ListEndpoints", ListEndpointsRequest())


def test_call_inside_the_block_fails_as_a_command() -> None:
    with pytest.raises(CommandError, match="gone") as raised, failures_of("here:1"):
        raise FailedCall(grpc.StatusCode.NOT_FOUND, "gone")
    assert raised.value.reason == "NOT_FOUND"


def test_failure_is_shown_as_a_sentence_with_what_it_does_not_say_itself(capsys: pytest.CaptureFixture[str]) -> None:
    violations = (("slug", "must be short"), ("url", "must be http"))
    error = CommandError("slug: must be short", reason="INVALID_REQUEST", violations=violations)
    show_failure(error, as_json=False)
    assert capsys.readouterr().err == "slug: must be short [INVALID_REQUEST]\n  url: must be http\n"


def test_failure_is_shown_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    show_failure(CommandError("No.", reason="NOT_FOUND", violations=(("a", "b"),)), as_json=True)
    assert json.loads(capsys.readouterr().err) == {
        "error": {
            "reason": "NOT_FOUND",
            "message": "No.",
            "violations": [{"field": "a", "description": "b"}],
            "metadata": {},
        }
    }
