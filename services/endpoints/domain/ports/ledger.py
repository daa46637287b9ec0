"""What operations ask of the ledger, inside one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from services.endpoints.domain.queue_job import Queue

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from typing import Any
    from uuid import UUID

    from services.endpoints.domain.ledger_settings import Retention
    from services.endpoints.domain.queue_job import (
        NewQueueJob,
        Priority,
        QueueJob,
        QueueJobState,
    )
    from services.endpoints.domain.turns import FewRung, Outlook, Place, Round


class Lanes(NamedTuple):
    """Lanes of one queue, by their names."""

    queue: Queue
    names: Sequence[str]


NO_LANES: Final = Lanes(Queue.DEFAULT, ())


class RungLane(NamedTuple):
    """A lane of the `RUNG` state that this transaction has locked; `rings` are counted from when it became suspect.

    `ends_soon` tells that it is overdue within the time that was asked about.
    """

    name: str
    rings: int
    suspect: bool
    ends_soon: bool

    @property
    def is_repeated(self) -> bool:
        """Tell whether nobody knows yet that an earlier ring was not answered well."""
        return self.rings > 1 and not self.suspect

    @property
    def runs_alone(self) -> bool:
        """Tell whether a call began on it before this ring and did not end."""
        return self.suspect and self.rings > 1


class Pulled(NamedTuple):
    """Lanes and queue jobs that this transaction has locked."""

    lanes: Sequence[RungLane]
    queue_jobs: Sequence[QueueJob]


@dataclass(frozen=True, slots=True)
class OverdueLane:
    """A lane whose lease ran out and that this transaction has locked; a suspect one must travel alone."""

    queue: Queue
    name: str
    is_running: bool
    is_suspect: bool


class RungInTurn(NamedTuple):
    """A lane that was rung in its environment's turn, which then held this many lanes with it."""

    environment_id: UUID
    place: Place
    held: int


class FinalQueueJob(NamedTuple):
    """A queue job that reached a final state in this transaction, with the reason when it is not COMPLETED."""

    id: UUID
    kind: str
    args: Mapping[str, Any]
    environment_id: UUID
    state: QueueJobState
    reason: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed attempt and what follows: `retry_in` None discards the queue job.

    One that counts no attempt was snoozed.
    """

    queue_job_id: UUID
    kind: str
    reason: str
    message: str
    retry_in: timedelta | None
    counts_attempt: bool = True


@dataclass(frozen=True, slots=True)
class WaitingQueueJob:
    """A queue job that was locked by id, as an index request needs to see it.

    `started_at` is when its last attempt began, None before the first.
    """

    id: UUID
    state: QueueJobState
    run_at: datetime
    args: Mapping[str, Any]
    started_at: datetime | None
    cancel_requested: bool

    @property
    def has_begun(self) -> bool:
        """Whether an attempt was made."""
        return self.started_at is not None


class UniqueKey(NamedTuple):
    """A unique key, the queue job that claims it, and for how long it is taken."""

    key: str
    value: str
    queue_job_id: UUID
    lasting: timedelta


@dataclass(frozen=True, slots=True)
class Window:
    """Which queue job last claimed a unique key, and until when the key is taken."""

    queue_job_id: UUID
    expires_at: datetime


class Ledger(Protocol):
    """The ledger's statements. Every state change repeats the state it expects."""

    async def enqueue(self, queue_jobs: Sequence[NewQueueJob], *, unique: UniqueKey | None = None) -> None:
        """Insert queue jobs in the caller's transaction, one of which may claim a unique key, whoever has it.

        A `run_at` not in the future makes them AVAILABLE at once. Without queue jobs, nothing is claimed.
        """
        ...

    async def promote_due(self, *, limit: int) -> int:
        """Make up to `limit` due SCHEDULED queue jobs AVAILABLE; return how many.

        Nine in ten are those that are due longest, the others those that fell due last, so that one tenant's backlog
        does not hold up what falls due now.
        """
        ...

    async def outlook(self, after: Mapping[Queue, UUID], *, limit: int) -> Outlook:
        """Return what is due and what will be: up to `limit` environments of each queue, in order, from `after` on."""
        ...

    async def ring(self, queue: Queue, turns: Round, *, answer_within: timedelta) -> list[RungInTurn]:
        """Open idle lanes with work that are not paused, those of environments that hold fewest first."""
        ...

    async def ring_few(self, most_held: Mapping[Queue, int], *, few: int, answer_within: timedelta) -> FewRung:
        """Open the idle lanes with work that are not paused, of those queues in which at most `few` queue jobs wait.

        Nothing is opened in a queue of which an environment would then hold more lanes than `most_held` says.
        """
        ...

    async def overdue_lanes(self, *, limit: int) -> list[OverdueLane]:
        """Lock lanes whose lease ran out, by queue and name, skipping locked ones."""
        ...

    async def rescue_running(self, lanes: Sequence[OverdueLane], *, max_rescues: int) -> list[FinalQueueJob]:
        """Give the RUNNING queue jobs of dead owners back, attempt not counted; return those that ended instead."""
        ...

    async def ring_again(self, lanes: Sequence[OverdueLane], *, answer_within: timedelta) -> None:
        """Ring locked lanes once more."""
        ...

    async def put_off(self, lanes: Sequence[OverdueLane], *, by: timedelta) -> None:
        """Make locked lanes RUNG and overdue again after `by`, without counting a ring."""
        ...

    async def free_lanes(self, lanes: Sequence[OverdueLane]) -> None:
        """Delete the rows of RUNNING lanes that this transaction has locked."""
        ...

    async def mark_suspect(self, queue: Queue, lanes: Sequence[str]) -> None:
        """Note on RUNG lanes that a call began although they had been rung before, and count their rings anew."""
        ...

    async def take_lane(self, queue: Queue, lane: str, *, lease: timedelta) -> int | None:
        """Make a RUNG lane RUNNING; return the claim, None when it is not RUNG any more."""
        ...

    async def lock_claim(self, claim: int) -> bool:
        """Lock the lane of a claim; False means that a newer owner has it."""
        ...

    async def pull(
        self,
        queue: Queue,
        lanes: Sequence[str],
        *,
        limit: int,
        claim: int | None = None,
        ends_within: timedelta = timedelta(),
    ) -> Pulled:
        """Lock those of `lanes` that are RUNG or of `claim`, in name order, and up to `limit` queue jobs due in them.

        It waits for other holders. A RUNG lane that has been rung more than once is locked, and nothing in it. The rest
        is shared out fairly, by (priority, run_at, seq); fewer where their args are many bytes, but one at least. What
        is due is what was due when the statement began: a lane that was waited for may have more. Whose lease ends
        within `ends_within`, by default has ended, is said to end soon.
        """
        ...

    async def keep_lanes(self, queue: Queue, lanes: Sequence[str], *, answer_within: timedelta) -> None:
        """Keep locked RUNG lanes open for the next batch of the same call back."""
        ...

    async def close_lanes(self, queue: Queue, lanes: Sequence[str]) -> None:
        """Delete the rows of RUNG lanes that this transaction has locked."""
        ...

    async def start(self, queue_job: QueueJob, *, lease: timedelta) -> int:
        """Make one queue job and its locked lane RUNNING, attempt + 1, the lane above suspicion; return the claim."""
        ...

    async def renew(self, claims: Sequence[int], *, lease: timedelta) -> set[int]:
        """Renew the leases of `claims` without waiting for any lane; return those that still hold."""
        ...

    async def return_lane(self, claim: int) -> bool:
        """Make the lane of a claim RUNG, locked by this transaction; False means that a newer owner has it."""
        ...

    async def release(self, claim: int) -> bool:
        """Delete the lane's row of `claim`; False means that a newer owner has the lane."""
        ...

    async def lock_running(self, queue_job_id: UUID, *, attempt: int) -> WaitingQueueJob | None:
        """Lock a RUNNING queue job of this attempt; None when it is no longer that."""
        ...

    async def begin_alone(self, queue_job_ids: Sequence[UUID]) -> None:
        """Count for each of these locked queue jobs of a suspect lane that an attempt begins which may never end."""
        ...

    async def end_alone(self, queue_job_ids: Sequence[UUID], *, before: int = 0) -> set[UUID]:
        """Take back that these attempts of a suspect lane began; return which queue jobs still wait, and not anew.

        Those of which no more than `before` attempts never ended are left as they are: this one was not counted.
        """
        ...

    async def complete(self, queue_jobs: Sequence[QueueJob], *, closing: Lanes = NO_LANES) -> None:
        """Make AVAILABLE or RUNNING queue jobs COMPLETED and close lanes; raises when a queue job is neither."""
        ...

    async def fail(self, failures: Sequence[Failure]) -> list[FinalQueueJob]:
        """Store failed attempts; return the queue jobs that were DISCARDED."""
        ...

    async def cancel(self, queue_job_ids: Sequence[UUID], *, message: str) -> list[FinalQueueJob]:
        """Make queue jobs that are not final CANCELLED."""
        ...

    async def request_cancel(self, queue_job_ids: Sequence[UUID]) -> None:
        """Ask RUNNING queue jobs to end without effect; the first time of asking stays."""
        ...

    async def cancel_lane(self, lane: str, *, message: str) -> list[FinalQueueJob]:
        """Cancel a lane's waiting queue jobs in every queue and ask its running ones to stop."""
        ...

    async def supersede_lane(self, queue: Queue, lane: str, *, kinds: Sequence[str] | None = None) -> int:
        """Make the waiting queue jobs of a lane COMPLETED because newer ones replace them; return how many.

        `kinds` narrows it to what is replaced; None means all.
        """
        ...

    async def hasten(self, lane: str, *, reason: str) -> None:
        """Make due what waits in a lane key, in whatever queue, since its last attempt ended for `reason`."""
        ...

    async def now(self) -> datetime:
        """Read the database's clock, the only one that decides."""
        ...

    async def serialize(self, key: str) -> None:
        """Wait until no other transaction holds `key`; the first lock a request takes."""
        ...

    async def clock_and_window(self, key: str, value: str) -> tuple[datetime, Window | None]:
        """Read the clock that decides, and who claimed a unique key last if anybody did.

        The claim stays as it is until this transaction ends: who opens or renews it waits.
        """
        ...

    async def claim(self, unique: UniqueKey) -> None:
        """Claim a unique key for a queue job, whoever has it; one that has it already keeps it until the same time."""
        ...

    async def open_windows(self, queue_job_ids: Sequence[UUID], *, window: str, waiting: str) -> None:
        """Give up the unique keys that these queue jobs hold.

        Where one is of `window`, the queue job that claimed `waiting` with its value, and that waits for its end and
        nothing else, is due.
        """
        ...

    async def waiting_claimant(self, key: str, value: str) -> UUID | None:
        """Read which queue job claimed a unique key last; None when nobody did, or when it does not wait."""
        ...

    async def lock_claimant(self, key: str, value: str) -> WaitingQueueJob | None:
        """Lock the queue job that claimed a unique key last; None when nobody did, or when it is gone."""
        ...

    async def lock_queue_job(self, queue_job_id: UUID) -> WaitingQueueJob | None:
        """Lock one queue job; None when it is gone."""
        ...

    async def reschedule(
        self,
        queue_job_id: UUID,
        *,
        run_at: datetime,
        args: Mapping[str, Any],
        priority: Priority,
        fresh_attempts: int,
    ) -> None:
        """Give a waiting queue job new arguments and this time; its priority never sinks.

        One that has begun may be tried `fresh_attempts` times from here.
        """
        ...

    async def move(self, queue_job_id: UUID, *, run_at: datetime, priority: Priority) -> None:
        """Give a waiting queue job this time and this priority."""
        ...

    async def force_next(self, queue_job_ids: Sequence[UUID]) -> None:
        """Let the next attempt of queue jobs that are due call whatever is known of their endpoint's health."""
        ...

    async def delete_old(self, retention: Retention) -> int:
        """Delete queue jobs that have been final long enough, and unique keys that have run out.

        At most `max_rows_at_once` of each; returns how many rows went, of both together.
        """
        ...
