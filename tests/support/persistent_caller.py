"""A caller that asks one server after the other until it is answered, and remembers what it was told meanwhile."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import grpc

from tests.support.passing import lasting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.fault_stack import FaultStack
    from tests.support.pair import Client, Tenant

# What a caller is told to try again; anything else is a mistake of the service.
AGAIN: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        # The library's own word when a server stops before it has answered.
        grpc.StatusCode.CANCELLED,
    }
)
_PATIENCE: Final = timedelta(seconds=4)
_PAUSE: Final = timedelta(milliseconds=150)


class PersistentCaller:
    """Calls through every fault; `mistakes` are answers that no caller should ever get."""

    def __init__(self, stack: FaultStack, *, seed: int) -> None:
        self._stack = stack
        self._chance = random.Random(seed)  # noqa: S311 - a seed repeats it
        self.mistakes: list[str] = []
        self.statuses: Counter[str] = Counter()

    async def until_answered(
        self, tenant: Tenant, call: Callable[[Client, float], Awaitable[Any]], *, gone_is_well: bool = False
    ) -> Any:
        """Call one server after the other with the same request until one answers; None when it is gone."""
        first = self._chance.randrange(len(self._stack.pairs))
        attempt = 0
        while True:
            pair = self._stack.pairs[(first + attempt) % len(self._stack.pairs)]
            attempt += 1
            try:
                return await call(pair.client(tenant.api_key), _PATIENCE.total_seconds())
            except grpc.aio.AioRpcError as error:
                self.statuses[error.code().name] += 1
                if gone_is_well and error.code() is grpc.StatusCode.NOT_FOUND:
                    return None
                if error.code() not in AGAIN and not _is_failed_ping(error):
                    self.mistakes.append(f"{error.code().name}: {error.details()}")
            await lasting(_PAUSE)


def _is_failed_ping(error: grpc.aio.AioRpcError) -> bool:
    """Tell whether the endpoint, not the service, was the reason: faults hit endpoints, too."""
    return error.code() is grpc.StatusCode.FAILED_PRECONDITION and "Could not connect" in (error.details() or "")
