"""How long a call may take when its caller sets no deadline, and when it ends before the caller's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from services.endpoints.domain.errors import KongflowError, Reason

if TYPE_CHECKING:
    import grpc

MARGIN: Final = timedelta(milliseconds=250)

_PINGING: Final = frozenset(
    f"/kongflow.v1.EndpointService/{method}" for method in ("CreateEndpoint", "UpdateEndpoint", "PingEndpoint")
)
_CALL_BACK: Final = "/kongflow.v1.WorkerService/RunQueueJobs"


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long unary calls may take when their callers set no deadline, and whatever their callers say."""

    default: timedelta = timedelta(seconds=10)
    pinging: timedelta = timedelta(seconds=35)
    call_back: timedelta = timedelta(seconds=45)
    longest: timedelta = timedelta(minutes=5)

    def of(self, method: str, remaining: timedelta | None) -> timedelta:
        """Return how long a call may take: what is left of the caller's deadline, or the method's default.

        Never more than `longest`.
        """
        allowed = self._default_of(method) if remaining is None else remaining
        return max(timedelta(0), min(allowed, self.longest))

    def _default_of(self, method: str) -> timedelta:
        if method == _CALL_BACK:
            return self.call_back
        return self.pinging if method in _PINGING else self.default


DEFAULT_DEADLINES: Final = Deadlines()


def remaining_time(context: grpc.aio.ServicerContext[Any, Any]) -> timedelta | None:
    """Return what is left of the caller's deadline; None when the caller set none."""
    seconds: float | None = context.time_remaining()
    return None if seconds is None else timedelta(seconds=seconds)


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
