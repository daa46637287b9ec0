"""Rings lanes: turns due work into messages. Any number of relays may run at once."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from services.endpoints.crash_points import crash_point
from services.endpoints.domain.identifiers import NIL_UUID
from services.endpoints.domain.ports.publisher import QueueUnavailableError
from services.endpoints.domain.ports.store import Pool
from services.endpoints.domain.queue_job import Queue
from services.endpoints.domain.turns import (
    MANY_OPEN,
    has_more_to_ring,
    lanes_per_message,
    most_lanes_held,
    places_to_go_on,
    plan_round,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from services.endpoints.domain.ledger_settings import LedgerSettings
    from services.endpoints.domain.ports.ledger import RungInTurn
    from services.endpoints.domain.ports.publisher import Publisher, WakeUps
    from services.endpoints.domain.ports.store import Store
    from services.endpoints.domain.turns import FewRung, Outlook, Place, Round, WaitingEnvironment
    from services.endpoints.operations.rounds import Rounds

_ENVIRONMENTS_AT_ONCE: Final = 500
_LOOK_AGAIN_AFTER: Final = timedelta(milliseconds=100)
# Where no more waits than this, everybody's lanes are rung at once and nobody needs a turn.
_FEW: Final = 16
# Who found a crowd expects another one for so long.
_CROWD_LASTS: Final = timedelta(seconds=1)
# Other servers' relays publish, too.
_ROOM_COUNTS_FOR: Final = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class _Look:
    """How many lanes an environment held when none was left idle, and until when that says something."""

    held: int
    ends: float


class Relay:
    """Promotes what is due, opens idle lanes that have work, and publishes their names."""

    def __init__(
        self,
        *,
        store: Store,
        publisher: Publisher,
        wake_ups: WakeUps,
        settings: LedgerSettings,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Hold the ports; `monotonic` counts seconds from any beginning."""
        self._store = store
        self._publisher = publisher
        self._wake_ups = wake_ups
        self._settings = settings
        self._monotonic = monotonic
        self._next_environment = dict.fromkeys(Queue, NIL_UUID)
        self._last = dict.fromkeys(Queue, NIL_UUID)
        self._looks: dict[Queue, dict[UUID, _Look]] = {queue: {} for queue in Queue}
        self._after: dict[Queue, dict[UUID, Place]] = {queue: {} for queue in Queue}
        self._room = dict.fromkeys(Queue, 0)
        self._room_counts_until = -math.inf
        self._crowded_until = -math.inf

    async def run_once(self) -> timedelta:
        """Ring every lane that can be rung now; return after how long to look again when nobody wakes the relay.

        Raises:
            KongflowError: the database refused or was away.
            QueueUnavailableError: Redis is away; what was rung is rung again later.
        """
        try:
            few = await self._ring_few() if self._expects_few() else None
            next_pass = few.next_due_in if few is not None and few.is_all else await self._take_turns()
        except QueueUnavailableError:
            # Before anything else is rung somebody looks whether Redis is back.
            self._room_counts_until = -math.inf
            raise
        now = self._monotonic()
        is_resting = any(look.ends > now for looks in self._looks.values() for look in looks.values())
        look_again = _LOOK_AGAIN_AFTER if is_resting else self._settings.safety_poll
        if next_pass is None:
            return look_again
        return min(max(next_pass, timedelta()), look_again, self._settings.safety_poll)

    async def run(self, rounds: Rounds) -> None:
        """Ring whenever something changed, at the latest after the safety poll, until cancelled."""
        wake_up = self._wake_ups.subscribe()
        try:
            while True:
                await wake_up.wait(await rounds.complete(self.run_once))
        finally:
            wake_up.close()

    def _expects_few(self) -> bool:
        """Tell whether little may wait, and all of it fits the windows and leaves a quarter of each."""
        window = self._settings.max_waiting_messages
        needed = max(_FEW + window // 4, window // 2)
        is_calm = self._crowded_until <= self._monotonic() < self._room_counts_until
        return is_calm and all(self._room[queue] >= needed for queue in Queue)

    async def _ring_few(self) -> FewRung:
        """Ring all there is where little waits: one statement, for those who come when it is quiet.

        What it rang is committed with it, and published before the connection goes back, which takes its time.
        """
        most_held = {queue: most_lanes_held(queue, self._settings) for queue in Queue}
        async with self._store.reading(Pool.RELAY) as tx:
            few = await tx.ledger.ring_few(most_held, few=_FEW, answer_within=self._settings.ring_answered_within)
            if few.is_crowded:
                self._crowded_until = self._monotonic() + _CROWD_LASTS.total_seconds()
            await asyncio.gather(*(self._publish(queue, rung) for queue, rung in few.rung.items()))
        return few

    async def _take_turns(self) -> timedelta | None:
        """Ring lanes of every environment in its turn; return how soon to look again, None when nothing says."""
        outlook, room = await asyncio.gather(
            self._outlook(list(Queue)), self._publisher.room([queue.value for queue in Queue])
        )
        self._room = {queue: room[queue.value] for queue in Queue}
        self._room_counts_until = self._monotonic() + _ROOM_COUNTS_FOR.total_seconds()
        rooms = {queue: room for queue, room in self._room.items() if room}
        began_inside = any(self._is_inside(queue) for queue in rooms)
        is_held = False
        if outlook.is_due:
            is_held = not await self._promote()
            outlook = await self._outlook(list(rooms))
        while rooms:
            left = await asyncio.gather(*(self._ring(queue, outlook.waiting[queue], rooms[queue]) for queue in rooms))
            if rooms := {queue: room for queue, room in zip(rooms, left, strict=True) if room}:
                outlook = await self._outlook(list(rooms))
        if began_inside:
            # Who comes before the place where this pass began has not been looked at.
            return timedelta()
        # What is due and held by somebody's transaction is there for as long as that goes on.
        return _LOOK_AGAIN_AFTER if is_held and outlook.is_due else outlook.next_due_in

    async def _promote(self) -> int:
        async with self._store.reading(Pool.RELAY) as tx:
            return await tx.ledger.promote_due(limit=self._settings.max_promoted_at_once)

    async def _outlook(self, queues: Sequence[Queue]) -> Outlook:
        """Read who waits, each queue from where the last round ended."""
        after = {queue: self._next_environment[queue] for queue in queues}
        async with self._store.reading(Pool.RELAY) as tx:
            return await tx.ledger.outlook(after, limit=_ENVIRONMENTS_AT_ONCE)

    async def _ring(self, queue: Queue, waiting: Sequence[WaitingEnvironment], room: int) -> int:
        """Ring lanes and publish them; return how many messages still fit when there may be more to ring."""
        after = self._after[queue]
        began_inside = self._is_inside(queue)
        is_cut_short = len(waiting) == _ENVIRONMENTS_AT_ONCE
        self._next_environment[queue] = _following(waiting[-1].id) if is_cut_short else NIL_UUID
        if not began_inside and not is_cut_short:
            # Everybody who waits has been seen: who does not has no place to keep.
            waits = {environment.id for environment in waiting}
            after = {id_: place for id_, place in after.items() if id_ in waits}
        now = self._monotonic()
        looked_at = {id_: look.held for id_, look in self._looks[queue].items() if look.ends > now}
        turns = plan_round(
            queue,
            waiting,
            room=room,
            last=self._last[queue],
            after=after,
            looked_at=looked_at,
            settings=self._settings,
        )
        if turns is None:
            return room if self._is_inside(queue) else 0
        async with self._store.reading(Pool.RELAY) as tx:
            rung = await tx.ledger.ring(queue, turns, answer_within=self._settings.ring_answered_within)
        published = await self._publish(queue, rung)
        had_turns = {turn.environment_id for turn in turns.turns}
        left_behind = places_to_go_on(turns, rung)
        self._after[queue] = {id_: place for id_, place in after.items() if id_ not in had_turns} | left_behind
        self._remember(queue, turns, rung, left_behind, now=now)
        has_more = has_more_to_ring(turns, rung, left_behind, most=most_lanes_held(queue, self._settings))
        return max(0, room - published) if has_more or self._is_inside(queue) else 0

    async def _publish(self, queue: Queue, rung: Sequence[RungInTurn]) -> int:
        """Publish lanes that were rung; return in how many messages."""
        crash_point("after_ring_before_publish")
        messages = messages_of(queue, [lane.place.lane for lane in rung], self._settings)
        size = lanes_per_message(queue, self._settings)
        behind = [timedelta(milliseconds=rung[number * size].held) for number in range(len(messages))]
        room = await self._publisher.publish(queue.value, messages, behind=behind)
        if room is not None:
            self._room[queue] = room
            self._last[queue] = rung[-1].environment_id
        return len(messages)

    def _remember(
        self, queue: Queue, turns: Round, rung: Sequence[RungInTurn], left_behind: Collection[UUID], *, now: float
    ) -> None:
        """Note which environments have no idle lane left, of those that hold many."""
        count = Counter(lane.environment_id for lane in rung)
        looks = {id_: look for id_, look in self._looks[queue].items() if look.ends > now}
        for turn in turns.turns:
            held = turn.held + count[turn.environment_id]
            looks.pop(turn.environment_id, None)
            if held > MANY_OPEN and turn.environment_id not in left_behind:
                looks[turn.environment_id] = _Look(held, now + _LOOK_AGAIN_AFTER.total_seconds())
        self._looks[queue] = looks

    def _is_inside(self, queue: Queue) -> bool:
        """Tell whether the last look ended before the last environment."""
        return self._next_environment[queue] != NIL_UUID


def _following(environment_id: UUID) -> UUID:
    return UUID(int=min(environment_id.int + 1, 2**128 - 1))


def messages_of(queue: Queue, lanes: Sequence[str], settings: LedgerSettings) -> list[Sequence[str]]:
    """Return the lane names of each message."""
    size = lanes_per_message(queue, settings)
    return [lanes[start : start + size] for start in range(0, len(lanes), size)]
