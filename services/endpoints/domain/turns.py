"""Whose lanes are rung next: a fair share for every environment, and always room for one that holds nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from services.endpoints.domain.catalog import CALLING_QUEUES
from services.endpoints.domain.identifiers import NIL_UUID

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from uuid import UUID

    from services.endpoints.domain.ledger_settings import LedgerSettings
    from services.endpoints.domain.ports.ledger import RungInTurn
    from services.endpoints.domain.queue_job import Queue

# Statements look at no fewer lanes of an environment than this, so that a few short ones leave no share unused.
_FEWEST: Final = 8
# Of more lanes than this some wait for the next round: by then the workers have begun with the first.
MOST_IN_A_ROUND: Final = 600
# To pass by fewer open lanes than this takes less than the rest of a look.
MANY_OPEN: Final = 100


class Place(NamedTuple):
    """A point in the order of an environment's lanes: by priority, then by name."""

    priority: int
    lane: str


START: Final = Place(0, "")


@dataclass(frozen=True, slots=True)
class WaitingEnvironment:
    """An environment with work due in a queue, and how many lanes of that queue it holds open."""

    id: UUID
    held: int


@dataclass(frozen=True, slots=True)
class Outlook:
    """Who has work due in each queue, and how soon the next SCHEDULED queue job falls due: None when there is none."""

    waiting: Mapping[Queue, Sequence[WaitingEnvironment]]
    next_due_in: timedelta | None

    @property
    def is_due(self) -> bool:
        """Tell whether there is something to promote."""
        return self.next_due_in is not None and self.next_due_in <= timedelta()


@dataclass(frozen=True, slots=True)
class FewRung:
    """What was rung of each queue in which little waited, in the order of ringing, and how soon more falls due.

    Where much waits, or an environment has its share, nothing was rung: `is_crowded`, and they have to take turns.
    """

    rung: Mapping[Queue, Sequence[RungInTurn]]
    is_crowded: bool
    next_due_in: timedelta | None

    @property
    def is_all(self) -> bool:
        """Tell whether nothing else is to be done now."""
        return not self.is_crowded and (self.next_due_in is None or self.next_due_in > timedelta())


@dataclass(frozen=True, slots=True)
class Turn:
    """An environment's turn: at most `most` of its idle lanes are rung, of one priority those after `after` first."""

    environment_id: UUID
    held: int
    most: int
    after: Place


@dataclass(frozen=True, slots=True)
class Round:
    """What one statement rings in a queue: at most `limit` lanes in all, of those who hold fewest first.

    Of those who hold the same, who comes after the environment `after` is first.
    """

    turns: Sequence[Turn]
    limit: int
    after: UUID = NIL_UUID


def _is_worth_little(held: int, *, before: int | None) -> bool:
    return before is not None and held > MANY_OPEN and held * 4 > before * 3


def places_to_go_on(turns: Round, rung: Sequence[RungInTurn]) -> dict[UUID, Place]:
    """Return where the next turns of those environments begin that may have idle lanes left after this round.

    `rung` is in the order of ringing. Empty means that nothing was left behind.
    """
    last = {lane.environment_id: lane.place for lane in rung}
    if len(rung) >= turns.limit:
        return last
    count = Counter(lane.environment_id for lane in rung)
    return {
        turn.environment_id: last[turn.environment_id]
        for turn in turns.turns
        if 0 < turn.most <= count[turn.environment_id]
    }


def has_more_to_ring(turns: Round, rung: Sequence[RungInTurn], left_behind: Collection[UUID], *, most: int) -> bool:
    """Tell whether another round may ring something: somebody of whom lanes were left holds fewer than `most`."""
    if len(rung) >= turns.limit:
        return bool(left_behind)
    count = Counter(lane.environment_id for lane in rung)
    return any(
        turn.environment_id in left_behind and turn.held + count[turn.environment_id] < most for turn in turns.turns
    )


def lanes_per_message(queue: Queue, settings: LedgerSettings) -> int:
    """Return how many lanes travel together: one where a customer is called, since a call holds its message.

    Never more than a call back has queue jobs for: those behind would come last each time.
    """
    if queue in CALLING_QUEUES:
        return 1
    return min(settings.max_lanes_per_message, settings.max_queue_jobs_per_call)


def most_lanes_held(queue: Queue, settings: LedgerSettings) -> int:
    """Return how many lanes of a queue one environment may hold open.

    Where a customer is called, a slow one holds its slot for the whole of a call, so the rest is kept for others.
    Elsewhere three quarters of the window: whoever holds nothing finds room at once.
    """
    if queue in CALLING_QUEUES:
        return settings.max_calls_per_environment
    return max(1, settings.max_waiting_messages * lanes_per_message(queue, settings) * 3 // 4)


def plan_round(
    queue: Queue,
    waiting: Sequence[WaitingEnvironment],
    *,
    room: int,
    last: UUID,
    after: Mapping[UUID, Place],
    looked_at: Mapping[UUID, int],
    settings: LedgerSettings,
) -> Round | None:
    """Return whose lanes are rung while `room` more messages fit the window; None when it is nobody's turn.

    `last` is the environment that was rung last, and `after` where the turns of some go on. `looked_at` are those in
    which a moment ago no idle lane was left, with how many lanes they held: one that held many is looked at again when
    a quarter of these have closed, because every look passes by all that are open.

    An environment that holds nothing is rung at once. The others wait until half of the window is free, and leave a
    quarter of it: workers have enough to do until then, and a pass for every lane that falls idle would cost more than
    the work.
    """
    window = settings.max_waiting_messages
    some_time = room * 2 >= window
    most = most_lanes_held(queue, settings)
    chosen = [
        one
        for one in waiting
        if not one.held
        or (some_time and one.held < most and not _is_worth_little(one.held, before=looked_at.get(one.id)))
    ]
    if any(one.held for one in chosen):
        room -= window // 4
    limit = min(room * lanes_per_message(queue, settings), MOST_IN_A_ROUND)
    if not chosen or limit <= 0:
        return None
    share = max(2 * limit // len(chosen), _FEWEST)
    turns = [Turn(one.id, one.held, min(most - one.held, share, limit), after.get(one.id, START)) for one in chosen]
    return Round(turns, limit, last)
