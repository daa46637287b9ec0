"""From a status on the wire to one sentence and an exit code."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import grpc

REFUSED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
INTERRUPTED: Final = 130

_ANSWERED: Final = {
    "Tls handshake failed": (
        "Somebody answers at {server}, but not with TLS by an authority of KONGFLOW_TLS_CA_FILE: the server speaks "
        "plaintext, or its certificate is another's or not made out to this name."
    ),
    "http1.x server": "HTTP answers at {server}, not gRPC: --server is the address of gRPC, such as 127.0.0.1:50051.",
    "Socket closed": (
        "Somebody at {server} hung up: a server that has just stopped, or one that wants TLS, which "
        "KONGFLOW_TLS_CA_FILE switches on."
    ),
}
"""What gRPC says of a server that is there and cannot be talked to, and what is said instead."""


class CommandError(Exception):
    """Ends a command: a sentence for people, a reason code for programs and the process's exit code."""

    def __init__(
        self,
        message: str,
        *,
        exit_code: int = REFUSED,
        reason: str = "",
        violations: Sequence[tuple[str, str]] = (),
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code
        self.reason = reason
        self.violations = tuple(violations)
        self.metadata = dict(metadata or {})


def show_failure(error: CommandError, *, as_json: bool) -> None:
    """Write the failure to standard error: a sentence with its reason in brackets, or one JSON object."""
    if as_json:
        violations = [{"field": field, "description": description} for field, description in error.violations]
        failure = {
            "reason": error.reason,
            "message": error.message,
            "violations": violations,
            "metadata": error.metadata,
        }
        sys.stderr.write(json.dumps({"error": failure}, ensure_ascii=False) + "\n")
        return
    reason = f" [{error.reason}]" if error.reason else ""
    untold = [pair for pair in error.violations if pair[1] not in error.message]
    details = "".join(f"\n  {field}: {description}" for field, description in untold)
    sys.stderr.write(f"{error.message}{reason}{details}\n")


@contextmanager
def failures_of(server: str) -> Iterator[None]:
    """Turn a failed call of `server` into a CommandError.

    Raises:
        CommandError: a call inside the block failed.
    """
    import grpc  # noqa: PLC0415 - `kongflow --help` starts without it

    try:
        yield
    except grpc.RpcError as error:
        raise command_error(error, server=server) from error


def command_error(error: grpc.RpcError, *, server: str) -> CommandError:
    """Return what a failed call means to the person who made it."""
    import grpc  # noqa: PLC0415 - see above

    call: Any = error
    code: grpc.StatusCode = call.code()
    reason, metadata, violations = _details(call)
    away = code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
    message = str(call.details() or code.name)
    if not reason and code is grpc.StatusCode.UNAVAILABLE:
        message = _why_unavailable(message, server)
    elif not reason and code is grpc.StatusCode.DEADLINE_EXCEEDED:
        message = f"KongFlow at {server} did not answer in time."
    return CommandError(
        message,
        exit_code=UNREACHABLE if away else REFUSED,
        reason=reason or code.name,
        violations=violations,
        metadata=metadata,
    )


def _why_unavailable(details: str, server: str) -> str:
    """Return what helps a person to whom gRPC said `details`; who does answer at `server` need not be started."""
    for told, sentence in _ANSWERED.items():
        if told in details:
            return sentence.format(server=server)
    return f"KongFlow cannot be reached at {server}: start it with `kongflow up`, or name it with --server."


def _details(call: Any) -> tuple[str, dict[str, str], list[tuple[str, str]]]:  # noqa: ANN401 - an error that is a call
    """Return the reason, the metadata and the refused fields that travel with a status."""
    from google.rpc import error_details_pb2  # noqa: PLC0415 - see above
    from grpc_status import rpc_status  # noqa: PLC0415

    reason, metadata, violations = "", {}, []
    status = rpc_status.from_call(call)
    for detail in status.details if status is not None else ():
        info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if detail.Unpack(info):
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(bad_request):
            violations = [(violation.field, violation.description) for violation in bad_request.field_violations]
    return reason, metadata, violations
