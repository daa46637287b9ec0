"""Keeps what calls say about endpoints, and lets an endpoint that fails be called once per probe."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

import structlog

from services.endpoints.domain.attempt import SnoozedError
from services.endpoints.domain.attempt_reason import AttemptReason
from services.endpoints.domain.catalog import endpoint_lane
from services.endpoints.domain.endpoint import EndpointState
from services.endpoints.domain.endpoint_health import WELL, Finding, Sign, finding_of_ping

if TYPE_CHECKING:
    from services.endpoints.domain.endpoint import Endpoint
    from services.endpoints.domain.endpoint_calls import PingResult
    from services.endpoints.domain.endpoint_health import Health, HealthPolicy
    from services.endpoints.domain.ports.clock import Jitter
    from services.endpoints.domain.ports.store import Transaction

_log = structlog.get_logger(__name__)

LEFT_ALONE: Final = AttemptReason.ENDPOINT_LEFT_ALONE
"""The reason of a queue job that waits for its endpoint's next probe."""

_LEAST_WAIT: Final = timedelta(seconds=1)
_WAIT_WITHOUT_PROBE: Final = timedelta(hours=1)
_ANSWERED: Final = Finding(Sign.ANSWERED)


class EndpointHealth:
    """The breaker of every endpoint.

    It is written last in a transaction, after queue jobs and unique keys are locked.
    """

    def __init__(self, *, policy: HealthPolicy, jitter: Jitter) -> None:
        """Hold the numbers of the machine."""
        self._policy = policy
        self._jitter = jitter

    async def admit(self, tx: Transaction, endpoint: Endpoint) -> None:
        """Return when `endpoint` may be called now: it is HEALTHY, or this is the one call that it is due.

        Raises:
            SnoozedError: it is left alone until its next probe.
        """
        if endpoint.state is EndpointState.HEALTHY or await self.claim_probe(tx, endpoint):
            return
        found = await tx.endpoints.probe_wait(endpoint.id)
        if found is None or found[0] is EndpointState.HEALTHY:
            return
        state, wait = found
        raise SnoozedError(
            f"The endpoint is {state.value} and left alone until its next probe.",
            reason=LEFT_ALONE,
            delay=_WAIT_WITHOUT_PROBE if wait is None else max(wait, _LEAST_WAIT),
        )

    async def claim_probe(self, tx: Transaction, endpoint: Endpoint) -> bool:
        """Take the one call that an unhealthy endpoint is due; a server that dies with it delays the next one only."""
        delay = self._policy.probe_delay(endpoint.state, endpoint.consecutive_failures + 1, jitter=self._jitter())
        return await tx.endpoints.claim_probe(endpoint.id, put_off=delay)

    async def note(self, tx: Transaction, endpoint: Endpoint, finding: Finding) -> None:
        """Store what a call to `endpoint`, as it was read before, found out.

        Nothing is written for one that was well and is, or that lives elsewhere by now. What waited for a probe is due
        as soon as one succeeds.
        """
        if endpoint.is_well and finding.sign is Sign.ANSWERED:
            return
        held = await tx.endpoints.lock_health(endpoint.id)
        if held is None or held.url != endpoint.url:
            return
        await self._store(tx, endpoint, held.health, self._policy.after(held.health, finding, jitter=self._jitter()))

    async def note_ping(self, tx: Transaction, endpoint: Endpoint, result: PingResult) -> None:
        """Store what a ping that somebody asked for found out; it never moves a probe that is planned."""
        if result.ok or endpoint.state is EndpointState.HEALTHY:
            await self.note(tx, endpoint, finding_of_ping(result))

    async def note_answer(self, tx: Transaction, endpoint: Endpoint) -> None:
        """Store that the endpoint answered as it must."""
        await self.note(tx, endpoint, _ANSWERED)

    async def resume(self, tx: Transaction, endpoint: Endpoint) -> None:
        """Make an endpoint HEALTHY because an operator says so; what waited for its probe is due."""
        held = await tx.endpoints.lock_health(endpoint.id)
        if held is not None:
            await self._store(tx, endpoint, held.health, WELL)

    async def _store(self, tx: Transaction, endpoint: Endpoint, before: Health, after: Health) -> None:
        if after.state is before.state is EndpointState.HEALTHY and after == before:
            return
        await tx.endpoints.set_health(endpoint.id, before=before.state, health=after)
        if after.state is before.state:
            return
        _log.info(
            "endpoint_health_changed",
            endpoint_id=str(endpoint.id),
            environment_id=str(endpoint.environment_id),
            slug=endpoint.slug,
            state=after.state.value,
            consecutive_failures=after.consecutive_failures,
        )
        if after.state is EndpointState.HEALTHY:
            await tx.ledger.hasten(endpoint_lane(endpoint.id), reason=LEFT_ALONE)
