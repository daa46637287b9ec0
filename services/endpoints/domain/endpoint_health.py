"""The health of an endpoint: what its calls say about it, and when it may be called again.

One table names every next state. HEALTHY endpoints are called as they come; the others, whose breaker is open, by one
call at a time, each when its probe is due.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Final

from services.endpoints.domain.endpoint import EndpointState
from services.endpoints.domain.endpoint_calls import CallFailure, EndpointCallError
from services.endpoints.domain.retry import Backoff

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.endpoints.domain.endpoint_calls import PingResult

MAX_REASON_LENGTH: Final = 500
REINDEX_EVERY: Final = timedelta(hours=24)
"""How often a PRODUCTION endpoint is indexed anew unless a setting says otherwise."""

API_KEY_HINT: Final = "Check that the endpoint has the API key of this environment."
GONE_HINT: Final = "It said that it is gone for good (410)."

_GONE: Final = 410
_TOO_MANY_REQUESTS: Final = 429


class Sign(Enum):
    """What one call says about an endpoint."""

    ANSWERED = "it answered as it must"
    BUSY = "it asks to be called later"
    UNUSABLE = "it answered, but not what is wanted"
    FAILED = "it did not answer"
    GONE = "it says that it is gone for good"


class Event(Enum):
    """What a sign means, counted."""

    ANSWER = "an answer"
    NOTHING = "nothing about its health"
    FAILURE = "one more failure"
    FAILURES = "as many failures in a row as make it FAILING"
    TOO_MANY_FAILURES = "as many failures in a row as make it SUSPENDED"
    FAREWELL = "it is gone for good"
    RESUMED = "an operator says that it is well"


_HEALTHY: Final = EndpointState.HEALTHY
_FAILING: Final = EndpointState.FAILING
_SUSPENDED: Final = EndpointState.SUSPENDED

NEXT_STATE: Final[Mapping[EndpointState, Mapping[Event, EndpointState]]] = {
    _HEALTHY: {
        Event.ANSWER: _HEALTHY,
        Event.NOTHING: _HEALTHY,
        Event.FAILURE: _HEALTHY,
        Event.FAILURES: _FAILING,
        Event.TOO_MANY_FAILURES: _SUSPENDED,
        Event.FAREWELL: _SUSPENDED,
        Event.RESUMED: _HEALTHY,
    },
    _FAILING: {
        Event.ANSWER: _HEALTHY,
        Event.NOTHING: _FAILING,
        Event.FAILURE: _FAILING,
        Event.FAILURES: _FAILING,
        Event.TOO_MANY_FAILURES: _SUSPENDED,
        Event.FAREWELL: _SUSPENDED,
        Event.RESUMED: _HEALTHY,
    },
    _SUSPENDED: {
        Event.ANSWER: _HEALTHY,
        Event.NOTHING: _SUSPENDED,
        Event.FAILURE: _SUSPENDED,
        Event.FAILURES: _SUSPENDED,
        Event.TOO_MANY_FAILURES: _SUSPENDED,
        Event.FAREWELL: _SUSPENDED,
        Event.RESUMED: _HEALTHY,
    },
}
"""Every state with everything that can happen to it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one call found: its sign, a sentence fit for the customer, and how long the endpoint asks for."""

    sign: Sign
    reason: str = ""
    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """What is stored; `next_probe_in` counts from now and is None exactly when the endpoint is HEALTHY.

    `quiet_for` counts from now as well: for so long a HEALTHY one asked to be left alone.
    """

    state: EndpointState = EndpointState.HEALTHY
    consecutive_failures: int = 0
    reason: str | None = None
    next_probe_in: timedelta | None = None
    quiet_for: timedelta | None = None

    @property
    def is_left_alone(self) -> bool:
        """Tell whether nothing may call the endpoint as it comes."""
        return self.state is not EndpointState.HEALTHY or self.quiet_for is not None


WELL: Final = Health()
"""An endpoint without a mark."""


@dataclass(frozen=True, slots=True)
class HealthPolicy:
    """The numbers of the machine.

    `failing_after` and `suspended_after` count failures in a row. FAILING endpoints are probed with `backoff`: 30 s,
    60 s, 2 min, 4 min, 8 min, then every 15 min, spread over the upper half; SUSPENDED ones every
    `suspended_probe_every`. PRODUCTION endpoints are indexed anew every `reindex_every`, give or take `reindex_spread`
    of it; zero means never.
    """

    failing_after: int = 3
    suspended_after: int = 20
    backoff: Backoff = field(default=Backoff(base=timedelta(seconds=30), cap=timedelta(minutes=15)))
    suspended_probe_every: timedelta = timedelta(hours=1)
    reindex_every: timedelta = REINDEX_EVERY
    reindex_spread: float = 0.1

    def after(self, health: Health, finding: Finding, *, jitter: float) -> Health:
        """Return the health after a call; `jitter` in [0, 1).

        A failure of a HEALTHY endpoint that is not yet one too many only counts. A probe that brings no answer counts,
        whatever it found, so that the next one comes later; but only one that failed can suspend. `Retry-After` makes a
        probe later, never earlier, and leaves a HEALTHY endpoint alone for as long.
        """
        if finding.sign is Sign.ANSWERED:
            return WELL
        is_news = finding.sign in {Sign.FAILED, Sign.GONE}
        failures = health.consecutive_failures + (is_news or health.state is not EndpointState.HEALTHY)
        state = NEXT_STATE[health.state][self._event(finding.sign, failures)]
        if state is EndpointState.HEALTHY:
            return Health(state, failures, quiet_for=finding.retry_after or None)
        return Health(
            state,
            failures,
            finding.reason[:MAX_REASON_LENGTH] if is_news else health.reason,
            max(self.probe_delay(state, failures, jitter=jitter), finding.retry_after or timedelta()),
        )

    def probe_delay(self, state: EndpointState, failures: int, *, jitter: float) -> timedelta:
        """Return how long after a failed call the next probe of an endpoint in this state comes.

        Worked series of a FAILING one, 3 failures and on, jitter 1.0: 30, 60, 120, 240, 480, 900, 900 s.
        """
        if state is EndpointState.SUSPENDED:
            return self.suspended_probe_every * (0.9 + jitter / 5)
        return self.backoff.delay(attempt=max(1, failures - self.failing_after + 1), jitter=jitter)

    def next_index_in(self, *, jitter: float) -> timedelta:
        """Return how long until a PRODUCTION endpoint is indexed anew; `jitter` in [0, 1).

        Where that is switched off, it is what would be: whoever switches it on finds every endpoint due in its turn.
        """
        return (self.reindex_every or REINDEX_EVERY) * (1 - self.reindex_spread + 2 * self.reindex_spread * jitter)

    def _event(self, sign: Sign, failures: int) -> Event:
        if sign is Sign.GONE:
            return Event.FAREWELL
        if sign is not Sign.FAILED:
            return Event.NOTHING
        if failures >= self.suspended_after:
            return Event.TOO_MANY_FAILURES
        return Event.FAILURES if failures >= self.failing_after else Event.FAILURE


_UNUSABLE: Final = frozenset(
    {CallFailure.ADDRESS_NOT_ALLOWED, CallFailure.TOO_LARGE, CallFailure.BAD_SCHEMA, CallFailure.REPORTED}
)
"""Refusals of ours, and answers of an endpoint that is there but says what cannot be used."""


def finding_of_failure(
    failure: CallFailure, http_status: int | None, message: str, retry_after: timedelta | None
) -> Finding:
    """Return what a failed call says: 429 asks for patience, 410 is a farewell, what cannot be used says nothing."""
    if http_status == _GONE:
        return Finding(Sign.GONE, f"{message}. {GONE_HINT}")
    if http_status == _TOO_MANY_REQUESTS:
        return Finding(Sign.BUSY, message, retry_after)
    if failure in _UNUSABLE:
        return Finding(Sign.UNUSABLE, message)
    if failure is CallFailure.UNAUTHORIZED:
        return Finding(Sign.FAILED, f"{message}. {API_KEY_HINT}")
    return Finding(Sign.FAILED, message, retry_after)


def finding_of_error(error: BaseException | None) -> Finding | None:
    """Return what a call's exception says about the endpoint; None when it says nothing, being no answer of its."""
    if not isinstance(error, EndpointCallError):
        return None
    return finding_of_failure(error.failure, error.http_status, error.message, error.retry_after)


def finding_of_ping(result: PingResult) -> Finding:
    """Return what a ping says about the endpoint."""
    if result.ok or result.failure is None:
        return Finding(Sign.ANSWERED if result.ok else Sign.UNUSABLE)
    return finding_of_failure(result.failure, result.http_status, result.error or "", result.retry_after)
