"""How long a call may take when its caller sets no deadline, and when it ends before the caller's."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from services.endpoints.domain.errors import KongflowError, Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    import grpc

DEFAULT_DEADLINE: Final = timedelta(seconds=10)
MAX_DEADLINE: Final = timedelta(minutes=5)
MARGIN: Final = timedelta(milliseconds=250)

_PINGING: Final = timedelta(seconds=35)
_CALL_BACK: Final = timedelta(seconds=45)

DEADLINES: Final[Mapping[str, timedelta]] = {
    "/kongflow.v1.EndpointService/CreateEndpoint": _PINGING,
    "/kongflow.v1.EndpointService/UpdateEndpoint": _PINGING,
    "/kongflow.v1.EndpointService/PingEndpoint": _PINGING,
    "/kongflow.v1.WorkerService/RunQueueJobs": _CALL_BACK,
}


def remaining_time(context: grpc.aio.ServicerContext[Any, Any]) -> timedelta | None:
    """Return what is left of the caller's deadline; None when the caller set none."""
    seconds: float | None = context.time_remaining()
    return None if seconds is None else timedelta(seconds=seconds)


def effective_deadline(method: str, remaining: timedelta | None) -> timedelta:
    """Return how long a unary call may take: what is left of the caller's deadline, or the method's default.

    Never more than 5 minutes.
    """
    allowed = DEADLINES.get(method, DEFAULT_DEADLINE) if remaining is None else remaining
    return max(timedelta(0), min(allowed, MAX_DEADLINE))


def time_to_work(deadline: timedelta) -> timedelta:
    """Return when to give up so that the status still arrives: a tenth of the deadline before it, at most 250 ms.

    35 s become 34.75 s, 10 s become 9.75 s, 2 s become 1.8 s. Pings end 1 second before the deadline by themselves, so
    that their own reason arrives instead of this one.
    """
    return deadline - min(MARGIN, deadline / 10)


def deadline_error(deadline: timedelta) -> KongflowError:
    """Return the error of a call that could not end in time."""
    return KongflowError(
        f"The call could not be finished within its deadline of {deadline.total_seconds():g} s.",
        reason=Reason.DEADLINE_EXCEEDED,
        metadata={"deadline_seconds": f"{deadline.total_seconds():g}"},
    )
