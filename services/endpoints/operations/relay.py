"""Rings lanes: turns due work into messages. Any number of relays may run at once."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

import structlog

from services.endpoints.crash_points import crash_point
from services.endpoints.domain.catalog import CALLING_QUEUES
from services.endpoints.domain.errors import KongflowError
from services.endpoints.domain.identifiers import NIL_UUID
from services.endpoints.domain.ports.publisher import QueueUnavailableError
from services.endpoints.domain.ports.store import Pool
from services.endpoints.domain.queue_job import Queue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.endpoints.domain.ledger_settings import LedgerSettings
    from services.endpoints.domain.ports.ledger import OpenLane
    from services.endpoints.domain.ports.publisher import Publisher, WakeUps
    from services.endpoints.domain.ports.store import Store

_log = structlog.get_logger(__name__)

# Fewer lanes than this were not cut short by any environment's share of one statement, so there are no more.
_FEW: Final = 8


class Relay:
    """Promotes what is due, opens idle lanes that have work, and publishes their names."""

    def __init__(self, *, store: Store, publisher: Publisher, wake_ups: WakeUps, settings: LedgerSettings) -> None:
        """Hold the ports."""
        self._store = store
        self._publisher = publisher
        self._wake_ups = wake_ups
        self._settings = settings
        self._next_environment = dict.fromkeys(Queue, NIL_UUID)

    async def run_once(self) -> timedelta:
        """Ring every lane that can be rung now; return after how long to look again when nobody wakes the relay.

        Raises:
            KongflowError: the database refused or was away.
            QueueUnavailableError: Redis is away; what was rung is rung again later.
        """
        next_due_in, room = await asyncio.gather(
            self._promote(), self._publisher.room([queue.value for queue in Queue])
        )
        await asyncio.gather(*(self._ring(queue, messages=room[queue.value]) for queue in Queue if room[queue.value]))
        return min(max(next_due_in, timedelta()), self._settings.safety_poll)

    async def run(self) -> None:
        """Ring whenever something changed, at the latest after the safety poll, until cancelled."""
        wake_up = self._wake_ups.subscribe()
        try:
            while True:
                try:
                    wait = await self.run_once()
                except (KongflowError, QueueUnavailableError) as error:
                    _log.warning("relay_waits", error=type(error).__name__, message=str(error))
                    await asyncio.sleep(self._settings.safety_poll.total_seconds())
                    continue
                await wake_up.wait(wait)
        finally:
            wake_up.close()

    async def _promote(self) -> timedelta:
        async with self._store.reading(Pool.RELAY) as tx:
            next_due_in = await tx.ledger.next_due_in()
            if next_due_in is None:
                return self._settings.safety_poll
            if next_due_in <= timedelta():
                await tx.ledger.promote_due(limit=self._settings.max_promoted_at_once)
                return await tx.ledger.next_due_in() or self._settings.safety_poll
            return next_due_in

    async def _ring(self, queue: Queue, *, messages: int) -> None:
        size = lanes_per_message(queue, self._settings)
        while messages > 0:
            limit = messages * size
            async with self._store.reading(Pool.RELAY) as tx:
                lanes = await tx.ledger.ring(
                    queue,
                    limit=limit,
                    from_environment=self._next_environment[queue],
                    answer_within=self._settings.ring_answered_within,
                )
            if not lanes:
                return
            last = max(lane.environment_id for lane in lanes)
            self._next_environment[queue] = UUID(int=min(last.int + 1, 2**128 - 1)) if len(lanes) == limit else NIL_UUID
            batches = messages_of(queue, lanes, self._settings)
            crash_point("after_ring_before_publish")
            await self._publisher.publish(queue.value, batches)
            if len(lanes) < _FEW:
                return
            messages -= len(batches)


def lanes_per_message(queue: Queue, settings: LedgerSettings) -> int:
    """Return how many lanes travel together: one where a customer is called, since a call holds its message."""
    return 1 if queue in CALLING_QUEUES else settings.max_lanes_per_message


def messages_of(queue: Queue, lanes: Sequence[OpenLane], settings: LedgerSettings) -> list[list[str]]:
    """Return the lane names of each message; a suspect lane travels alone."""
    together = [lane.name for lane in lanes if not lane.alone]
    alone = [[lane.name] for lane in lanes if lane.alone]
    size = lanes_per_message(queue, settings)
    return [together[start : start + size] for start in range(0, len(together), size)] + alone
