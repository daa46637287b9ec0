"""Keeps what calls say about endpoints, and lets an endpoint that fails be called once per probe."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from services.endpoints.domain.attempt import SnoozedError
from services.endpoints.domain.attempt_reason import AttemptReason
from services.endpoints.domain.endpoint import EndpointState
from services.endpoints.domain.endpoint_health import WELL, Finding, Sign, finding_of_ping
from services.endpoints.domain.lanes import endpoint_lane

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
            SnoozedError: it is left alone until its next probe, or until the time that it asked for.
        """
        is_healthy = endpoint.state is EndpointState.HEALTHY
        if is_healthy and endpoint.quiet_until is None:
            return
        if not is_healthy and await self.claim_probe(tx, endpoint):
            return
        # It stays locked, so that a call that finds it well meanwhile comes after this snooze and ends it.
        found = await tx.endpoints.hold_wait(endpoint.id)
        if found is None:
            return
        state, wait = found
        if state is not EndpointState.HEALTHY:
            words = f"The endpoint is {state.value} and left alone until its next probe."
            wait = _WAIT_WITHOUT_PROBE if wait is None else wait
        else:
            words = "The endpoint asked to be called later."
        if wait is not None and (state is not EndpointState.HEALTHY or wait > timedelta()):
            raise SnoozedError(words, reason=LEFT_ALONE, delay=max(wait, _LEAST_WAIT))

    async def claim_probe(self, tx: Transaction, endpoint: Endpoint) -> bool:
        """Take the one call that an unhealthy endpoint is due; a server that dies with it delays the next one only."""
        delay = self._policy.probe_delay(endpoint.state, endpoint.consecutive_failures + 1, jitter=self._jitter())
        return await tx.endpoints.claim_probe(endpoint.id, put_off=delay)

    async def note(self, tx: Transaction, endpoint: Endpoint, finding: Finding) -> None:
        """Store what a call to `endpoint`, as it was read before, found out.

        Nothing is written for one that was well and is, or that lives elsewhere by now. What waited for a probe is due
        as soon as one succeeds, and so is a new index where they are made by schedule: what it offers may have changed.
        """
        await self._note(tx, endpoint, finding, is_indexed=False)

    async def note_ping(self, tx: Transaction, endpoint: Endpoint, result: PingResult) -> None:
        """Store what a ping that somebody asked for found out; it never moves a probe that is planned."""
        if result.ok or endpoint.state is EndpointState.HEALTHY:
            await self.note(tx, endpoint, finding_of_ping(result))

    async def note_answer(self, tx: Transaction, endpoint: Endpoint) -> None:
        """Store that the endpoint answered as it must, when it was indexed or is about to be."""
        await self._note(tx, endpoint, _ANSWERED, is_indexed=True)

    async def note_move(self, tx: Transaction, endpoint: Endpoint) -> None:
        """Make due what waited because of the old url of an endpoint that just got another one.

        The quiet that the old one asked for ended with it; what fails still is probed at the new one at once.
        """
        await tx.ledger.hasten(endpoint_lane(endpoint.id), reason=LEFT_ALONE)

    async def resume(self, tx: Transaction, endpoint: Endpoint) -> None:
        """Make an endpoint HEALTHY because an operator says so; what waited for its probe is due."""
        held = await tx.endpoints.lock_health(endpoint.id)
        if held is not None:
            await self._store(tx, endpoint, held.health, WELL, is_indexed=False)

    async def _note(self, tx: Transaction, endpoint: Endpoint, finding: Finding, *, is_indexed: bool) -> None:
        if endpoint.is_well and finding.sign is Sign.ANSWERED:
            return
        held = await tx.endpoints.lock_health(endpoint.id)
        if held is None or held.url != endpoint.url:
            return
        after = self._policy.after(held.health, finding, jitter=self._jitter())
        await self._store(tx, endpoint, held.health, after, is_indexed=is_indexed)

    async def _store(
        self, tx: Transaction, endpoint: Endpoint, before: Health, after: Health, *, is_indexed: bool
    ) -> None:
        if after.state is before.state is EndpointState.HEALTHY and after == before:
            return
        has_changed = after.state is not before.state
        is_back = has_changed and after.state is EndpointState.HEALTHY
        await tx.endpoints.set_health(
            endpoint.id, before=before.state, health=after, index_now=is_back and not is_indexed
        )
        if has_changed:
            tx.after_commit(
                partial(
                    _log.info,
                    "endpoint_health_changed",
                    endpoint_id=str(endpoint.id),
                    environment_id=str(endpoint.environment_id),
                    slug=endpoint.slug,
                    state=after.state.value,
                    consecutive_failures=after.consecutive_failures,
                )
            )
        if before.is_left_alone and not after.is_left_alone:
            await tx.ledger.hasten(endpoint_lane(endpoint.id), reason=LEFT_ALONE)
