"""Finds lanes whose lease ran out and rings them again, giving back what a dead owner was running."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from services.endpoints.crash_points import crash_point
from services.endpoints.domain.ports.publisher import QueueUnavailableError
from services.endpoints.domain.ports.store import Pool
from services.endpoints.domain.queue_job import Queue
from services.endpoints.operations.relay import messages_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from services.endpoints.domain.ledger_settings import LedgerSettings
    from services.endpoints.domain.ports.ledger import OverdueLane
    from services.endpoints.domain.ports.observer import LedgerObserver
    from services.endpoints.domain.ports.publisher import Publisher
    from services.endpoints.domain.ports.store import Store, Transaction
    from services.endpoints.operations.finality import Finality
    from services.endpoints.operations.rounds import Rounds

_log = structlog.get_logger(__name__)

_LANES_AT_ONCE: Final = 1_000


@dataclass(frozen=True, slots=True)
class _Sweep:
    """How many lanes were overdue and how many of them were rung, and the messages that say so."""

    overdue: int
    rung: int
    messages: Mapping[Queue, Sequence[Sequence[str]]]


class Rescue:
    """Sweeps overdue lanes; any number of sweeps may run at once."""

    def __init__(
        self,
        *,
        store: Store,
        publisher: Publisher,
        finality: Finality,
        observer: LedgerObserver,
        settings: LedgerSettings,
    ) -> None:
        """Hold the ports."""
        self._observer = observer
        self._store = store
        self._publisher = publisher
        self._finality = finality
        self._settings = settings

    async def run_once(self) -> int:
        """Ring overdue lanes again; return how many.

        No more messages go out than the queue's window takes now, so that they do not pile up while workers are away.
        What a dead owner ran is given back all the same, and its lane becomes idle: a relay rings it in its turn. The
        other lanes are overdue again at the next sweep.

        Raises:
            KongflowError: the database refused or was away.
            QueueUnavailableError: Redis is away; what dead owners ran was given back unless the database was, too.
        """
        try:
            room = await self._publisher.room([queue.value for queue in Queue])
        except QueueUnavailableError:
            await self._store.transact(lambda tx: self._sweep(tx, {}), Pool.RELAY)
            raise
        sweep = await self._store.transact(lambda tx: self._sweep(tx, room), Pool.RELAY)
        for queue, messages in sweep.messages.items():
            crash_point("after_rescue_before_publish")
            await self._publisher.publish(queue.value, messages)
        if sweep.overdue:
            _log.warning("lanes_overdue", lanes=sweep.overdue, rung_again=sweep.rung)
        if sweep.rung:
            self._observer.count_rung_again(sweep.rung)
        return sweep.rung

    async def run(self, rounds: Rounds) -> None:
        """Sweep every second until cancelled."""
        while True:
            await asyncio.sleep(self._settings.sweep_every.total_seconds())
            await rounds.complete(self.run_once)

    async def _sweep(self, tx: Transaction, room: Mapping[str, int]) -> _Sweep:
        overdue = await tx.ledger.overdue_lanes(limit=_LANES_AT_ONCE)
        if running := [lane for lane in overdue if lane.is_running]:
            ended = await tx.ledger.rescue_running(running, max_rescues=self._settings.max_rescues)
            await self._finality.settle(tx, ended, isolating=True)
        messages = self._messages(overdue, room)
        named = {(queue, name) for queue, batches in messages.items() for batch in batches for name in batch}
        if rung := [lane for lane in overdue if (lane.queue, lane.name) in named]:
            await tx.ledger.ring_again(rung, answer_within=self._settings.ring_answered_within)
        left = [lane for lane in overdue if (lane.queue, lane.name) not in named]
        # Whatever else is known of a lane is in its row, so only those go of which nothing else is.
        if idle := [lane for lane in left if lane.is_running and not lane.is_suspect]:
            await tx.ledger.free_lanes(idle)
        if later := [lane for lane in left if not lane.is_running or lane.is_suspect]:
            await tx.ledger.put_off(later, by=self._settings.sweep_every)
        return _Sweep(len(overdue), len(rung), messages)

    def _messages(self, overdue: Sequence[OverdueLane], room: Mapping[str, int]) -> dict[Queue, list[Sequence[str]]]:
        """Return the messages that fit the windows; lanes that no relay rings come first."""
        messages: dict[Queue, list[Sequence[str]]] = {}
        for queue in Queue:
            lanes = sorted((lane for lane in overdue if lane.queue is queue), key=lambda lane: lane.is_running)
            together = messages_of(queue, [lane.name for lane in lanes if not lane.is_suspect], self._settings)
            alone = [[lane.name] for lane in lanes if lane.is_suspect]
            if fitting := [*alone, *together][: room.get(queue.value, 0)]:
                messages[queue] = fitting
        return messages
