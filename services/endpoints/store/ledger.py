"""The ledger on PostgreSQL: one typed method per decision, the statements in `sql/ledger.sql`."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from pydantic_core import from_json, to_json

from services.endpoints.domain.attempt_reason import AttemptReason
from services.endpoints.domain.ports.ledger import (
    NO_LANES,
    Failure,
    FinalQueueJob,
    Lanes,
    OverdueLane,
    Pulled,
    RungInTurn,
    RungLane,
    WaitingQueueJob,
    Window,
)
from services.endpoints.domain.queue_job import (
    NewQueueJob,
    Priority,
    Queue,
    QueueJob,
    QueueJobState,
)
from services.endpoints.domain.tracing import current_traceparent
from services.endpoints.domain.turns import FewRung, Outlook, Place, WaitingEnvironment
from services.endpoints.store.errors import translated
from services.endpoints.store.queries import changed_rows, load

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime
    from typing import Any
    from uuid import UUID

    import asyncpg

    from services.endpoints.domain.ledger_settings import Retention
    from services.endpoints.domain.ports.ledger import UniqueKey
    from services.endpoints.domain.turns import Round

_SQL: Final = load("ledger")
_NEWEST_SHARE: Final = 10
# Args become ten times as much in memory, and a server runs several batches at once.
MAX_BYTES_TOGETHER: Final = 4 * 1024 * 1024
_NO_KEY: Final = (None,) * 4
# By the ten thousand a second, an enumeration's own lookup shows.
_PRIORITIES: Final = {priority.value: priority for priority in Priority}


class LostQueueJobError(Exception):
    """A queue job was not in the state its holder left it in: the transaction must not commit."""


class PostgresLedger:
    """The ledger's statements on one connection; `changed` is called when a relay should look."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record], *, changed: Callable[[], None]) -> None:
        """Bind to the connection of a transaction."""
        self._connection = connection
        self._changed = changed

    async def enqueue(self, queue_jobs: Sequence[NewQueueJob], *, unique: UniqueKey | None = None) -> None:
        """Insert queue jobs, and claim a unique key."""
        if not queue_jobs:
            return
        self._changed()
        current = current_traceparent()
        await self._execute(
            "enqueue",
            [queue_job.id for queue_job in queue_jobs],
            [queue_job.environment_id for queue_job in queue_jobs],
            [queue_job.kind for queue_job in queue_jobs],
            [to_json(queue_job.args).decode() for queue_job in queue_jobs],
            [queue_job.queue.value for queue_job in queue_jobs],
            [queue_job.lane for queue_job in queue_jobs],
            [queue_job.priority.value for queue_job in queue_jobs],
            [queue_job.max_attempts for queue_job in queue_jobs],
            [queue_job.run_at for queue_job in queue_jobs],
            [queue_job.trace_context or current for queue_job in queue_jobs],
            *(unique or _NO_KEY),
        )

    async def promote_due(self, *, limit: int) -> int:
        """Make due queue jobs AVAILABLE."""
        newest = max(1, limit // _NEWEST_SHARE)
        return changed_rows(await self._execute("promote_due", max(1, limit - newest), newest))

    async def outlook(self, after: Mapping[Queue, UUID], *, limit: int) -> Outlook:
        """Read which environments have work due, and when the next falls due."""
        rows = await self._fetch("outlook", [queue.value for queue in after], list(after.values()), limit)
        waiting: dict[Queue, list[WaitingEnvironment]] = {queue: [] for queue in after}
        for row in rows:
            if row["queue"] is not None:
                waiting[Queue(row["queue"])].append(WaitingEnvironment(row["environment_id"], row["held"]))
        return Outlook(waiting, rows[0]["next_due_in"])

    async def ring(self, queue: Queue, turns: Round, *, answer_within: timedelta) -> list[RungInTurn]:
        """Open idle lanes."""
        rows = await self._fetch(
            "ring",
            queue.value,
            turns.limit,
            [turn.environment_id for turn in turns.turns],
            [turn.held for turn in turns.turns],
            [turn.most for turn in turns.turns],
            [turn.after.priority for turn in turns.turns],
            [turn.after.lane for turn in turns.turns],
            answer_within,
            turns.after,
        )
        return [
            RungInTurn(row["environment_id"], Place(row["priority"], row["lane"]), held=row["place"]) for row in rows
        ]

    async def ring_few(self, most_held: Mapping[Queue, int], *, few: int, answer_within: timedelta) -> FewRung:
        """Open every idle lane where little waits."""
        queues = [queue.value for queue in most_held]
        rows = await self._fetch("ring_few", queues, list(most_held.values()), few, answer_within)
        rung: dict[Queue, list[RungInTurn]] = {}
        for row in rows:
            if row["lane"] is not None:
                place = Place(row["priority"], row["lane"])
                rung.setdefault(Queue(row["queue"]), []).append(
                    RungInTurn(row["environment_id"], place, held=row["place"])
                )
        is_crowded = any(row["queue"] is not None and row["lane"] is None for row in rows)
        return FewRung(rung, is_crowded, rows[0]["next_due_in"])

    async def overdue_lanes(self, *, limit: int) -> list[OverdueLane]:
        """Lock lanes whose lease ran out."""
        rows = await self._fetch("overdue_lanes", limit)
        return [
            OverdueLane(Queue(row["queue"]), row["lane"], is_running=row["running"], is_suspect=row["suspect"])
            for row in rows
        ]

    async def rescue_running(self, lanes: Sequence[OverdueLane], *, max_rescues: int) -> list[FinalQueueJob]:
        """Give the queue jobs of dead owners back."""
        self._changed()
        abandoned = await self._fetch("lock_abandoned", *_names(lanes))
        rows = await self._fetch("rescue_running", [row["id"] for row in abandoned], max_rescues)
        return [_ended(row) for row in rows if QueueJobState(row["state"]).is_final]

    async def ring_again(self, lanes: Sequence[OverdueLane], *, answer_within: timedelta) -> None:
        """Ring locked lanes once more."""
        await self._execute("ring_again", *_names(lanes), answer_within)

    async def put_off(self, lanes: Sequence[OverdueLane], *, by: timedelta) -> None:
        """Let locked lanes be overdue again soon."""
        await self._execute("put_off", *_names(lanes), by)

    async def free_lanes(self, lanes: Sequence[OverdueLane]) -> None:
        """Make locked lanes of dead owners idle; a relay looks for the work in them."""
        self._changed()
        await self._execute("free_lanes", *_names(lanes))

    async def mark_suspect(self, queue: Queue, lanes: Sequence[str]) -> None:
        """Note that a call began on lanes that had been rung before."""
        await self._execute("mark_suspect", queue.value, lanes)

    async def take_lane(self, queue: Queue, lane: str, *, lease: timedelta) -> int | None:
        """Make a RUNG lane RUNNING."""
        rows = await self._fetch("start_lane", queue.value, lane, lease)
        return rows[0]["claim"] if rows else None

    async def lock_claim(self, claim: int) -> bool:
        """Lock the lane of a claim."""
        return bool(await self._fetch("lock_claim", claim))

    async def pull(
        self,
        queue: Queue,
        lanes: Sequence[str],
        *,
        limit: int,
        claim: int | None = None,
        ends_within: timedelta = timedelta(),
    ) -> Pulled:
        """Lock lanes and the next queue jobs in them."""
        lanes_held, rows = await self._locked(queue, lanes, limit, 1, claim, ends_within)
        share = -(-limit // len(lanes_held)) if lanes_held else limit
        if share <= len(rows) < limit:
            of_lane = Counter(row["lane"] for row in rows)
            if share in of_lane.values():
                # Lanes with more to do take the shares of those with less.
                _, rows = await self._locked(queue, list(of_lane), limit, limit, claim, ends_within)
        return Pulled(lanes_held, [_queue_job(row, queue) for row in rows])

    async def _locked(
        self, queue: Queue, lanes: Sequence[str], limit: int, least: int, *more: object
    ) -> tuple[list[RungLane], list[asyncpg.Record]]:
        """Lock lanes and, of each of them, an equal share of `limit`, `least` at the least, in their order."""
        held, *rows = await self._fetch("pull", queue.value, lanes, limit, least, MAX_BYTES_TOGETHER, *more)
        if held["lanes"] is None:
            return [], rows
        return list(map(RungLane, held["lanes"], held["rings"], held["suspect"], held["ends_soon"])), rows

    async def keep_lanes(self, queue: Queue, lanes: Sequence[str], *, answer_within: timedelta) -> None:
        """Keep locked RUNG lanes open."""
        await self._execute("keep_lanes", queue.value, lanes, answer_within)

    async def close_lanes(self, queue: Queue, lanes: Sequence[str]) -> None:
        """Make lanes idle; a relay looks again, because work may have come in meanwhile."""
        self._changed()
        await self._execute("close_lanes", queue.value, lanes)

    async def start(self, queue_job: QueueJob, *, lease: timedelta) -> int:
        """Begin an attempt that calls a customer."""
        rows = await self._fetch("start", queue_job.queue.value, queue_job.lane, lease, queue_job.id)
        claim: int = rows[0]["claim"]
        return claim

    async def renew(self, claims: Sequence[int], *, lease: timedelta) -> set[int]:
        """Renew leases."""
        return {row["claim"] for row in await self._fetch("renew", claims, lease)}

    async def return_lane(self, claim: int) -> bool:
        """Make the lane of a claim RUNG again."""
        return bool(await self._fetch("return_lane", claim))

    async def release(self, claim: int) -> bool:
        """Close the lane of a claim."""
        self._changed()
        return bool(await self._fetch("release", claim))

    async def lock_running(self, queue_job_id: UUID, *, attempt: int) -> WaitingQueueJob | None:
        """Lock the queue job of this attempt."""
        return _waiting(await self._fetch("lock_running", queue_job_id, attempt))

    async def begin_alone(self, queue_job_ids: Sequence[UUID]) -> None:
        """Count attempts as begun and not ended."""
        await self._execute("begin_alone", queue_job_ids)

    async def end_alone(self, queue_job_ids: Sequence[UUID], *, before: int = 0) -> set[UUID]:
        """Take back that attempts began."""
        return {row["id"] for row in await self._fetch("end_alone", queue_job_ids, before)}

    async def complete(self, queue_jobs: Sequence[QueueJob], *, closing: Lanes = NO_LANES) -> None:
        """End queue jobs that did what they were for, and make lanes idle as `close_lanes` does.

        Raises:
            LostQueueJobError: one of them was no longer AVAILABLE or RUNNING.
        """
        if closing.names:
            self._changed()
        ids = [queue_job.id for queue_job in queue_jobs]
        completed = changed_rows(await self._execute("complete", ids, closing.queue.value, closing.names))
        if completed != len(queue_jobs):
            raise LostQueueJobError(f"{len(queue_jobs) - completed} of {len(queue_jobs)} queue jobs were not held.")

    async def fail(self, failures: Sequence[Failure]) -> list[FinalQueueJob]:
        """Store failed attempts."""
        self._changed()
        rows = await self._fetch(
            "fail",
            [failure.queue_job_id for failure in failures],
            [failure.reason for failure in failures],
            [failure.message for failure in failures],
            [failure.retry_in for failure in failures],
            [failure.counts_attempt for failure in failures],
        )
        return [
            _final(row, reason=row["reason"], message=row["message"]) for row in rows if row["state"] == "DISCARDED"
        ]

    async def cancel(self, queue_job_ids: Sequence[UUID], *, message: str) -> list[FinalQueueJob]:
        """End queue jobs that are not final."""
        if not queue_job_ids:
            return []
        self._changed()
        rows = await self._fetch("cancel", queue_job_ids, message)
        return [_final(row, reason=AttemptReason.CANCELLED, message=message) for row in rows]

    async def request_cancel(self, queue_job_ids: Sequence[UUID]) -> None:
        """Ask running queue jobs to end without effect; the first time of asking stays."""
        if queue_job_ids:
            self._changed()
            await self._execute("request_cancel", queue_job_ids)

    async def cancel_lane(self, lane: str, *, message: str) -> list[FinalQueueJob]:
        """Cancel what waits in a lane and ask what runs to stop, until nothing has begun meanwhile."""
        cancelled: list[FinalQueueJob] = []
        asked: set[UUID] = set()
        running = [row["id"] for row in await self._fetch("lock_running_everywhere", lane)]
        while True:
            await self.request_cancel(running)
            asked.update(running)
            waiting = [row["id"] for row in await self._fetch("lock_waiting_everywhere", lane)]
            cancelled += await self.cancel(waiting, message=message)
            # What was beginning when its turn came to be locked as waiting, runs now.
            found = [row["id"] for row in await self._fetch("lock_running_everywhere", lane)]
            running = [queue_job_id for queue_job_id in found if queue_job_id not in asked]
            if not running:
                return cancelled

    async def supersede_lane(self, queue: Queue, lane: str, *, kinds: Sequence[str] | None = None) -> int:
        """End the waiting queue jobs of a lane because newer ones replace them."""
        rows = await self._fetch("lock_waiting_of_lane", queue.value, lane, kinds)
        if rows:
            await self._execute("supersede", [row["id"] for row in rows])
        return len(rows)

    async def hasten(self, lane: str, *, reason: str) -> None:
        """Make due what waits in a lane key for a reason."""
        await self._execute("hasten", lane, reason)

    async def now(self) -> datetime:
        """Read the database's clock."""
        now: datetime = (await self._fetch("now"))[0][0]
        return now

    async def serialize(self, key: str) -> None:
        """Wait for every other transaction that named this key."""
        await self._execute("serialize", key)

    async def clock_and_window(self, key: str, value: str) -> tuple[datetime, Window | None]:
        """Read the clock, and who claimed a key last, and hold that claim."""
        (row,) = await self._fetch("clock_and_window", key, value)
        queue_job_id = row["queue_job_id"]
        return row["now"], None if queue_job_id is None else Window(queue_job_id, row["expires_at"])

    async def claim(self, unique: UniqueKey) -> None:
        """Claim a key for a queue job."""
        await self._execute("claim", *unique)

    async def open_windows(self, queue_job_ids: Sequence[UUID], *, window: str, waiting: str) -> None:
        """Give up the keys that queue jobs hold, and let run what waited for that."""
        opened = [
            (row["value"], row["expires_at"])
            for row in await self._fetch("give_up_claims", queue_job_ids)
            if row["key"] == window
        ]
        if opened:
            self._changed()
            await self._execute("hasten_held_back", waiting, *zip(*opened, strict=True))

    async def waiting_claimant(self, key: str, value: str) -> UUID | None:
        """Read which queue job claimed a key last, when it waits."""
        rows = await self._fetch("waiting_claimant", key, value)
        return rows[0]["id"] if rows else None

    async def lock_claimant(self, key: str, value: str) -> WaitingQueueJob | None:
        """Lock the queue job that claimed a key last."""
        return _waiting(await self._fetch("lock_claimant", key, value))

    async def lock_queue_job(self, queue_job_id: UUID) -> WaitingQueueJob | None:
        """Lock one queue job."""
        return _waiting(await self._fetch("lock_queue_job", queue_job_id))

    async def reschedule(
        self,
        queue_job_id: UUID,
        *,
        run_at: datetime,
        args: Mapping[str, Any],
        priority: Priority,
        fresh_attempts: int,
    ) -> None:
        """Give a waiting queue job new arguments, a time and, when it has begun, attempts."""
        self._changed()
        await self._execute("reschedule", queue_job_id, run_at, to_json(args).decode(), priority.value, fresh_attempts)

    async def move(self, queue_job_id: UUID, *, run_at: datetime, priority: Priority) -> None:
        """Give a waiting queue job another time and priority."""
        self._changed()
        await self._execute("move", queue_job_id, run_at, priority.value)

    async def force_next(self, queue_job_ids: Sequence[UUID]) -> None:
        """Let the next attempt of queue jobs that are due call whatever their endpoint's health."""
        await self._execute("force_next", queue_job_ids)

    async def delete_old(self, retention: Retention) -> int:
        """Delete queue jobs that have been final long enough."""
        rows = await self._fetch(
            "delete_old", retention.completed, retention.cancelled, retention.discarded, retention.max_rows_at_once
        )
        keys = changed_rows(await self._execute("delete_expired_uniques", retention.max_rows_at_once))
        return len(rows) + keys

    async def _fetch(self, block: str, *arguments: object) -> list[asyncpg.Record]:
        with translated():
            return await self._connection.fetch(_SQL[block], *arguments)

    async def _execute(self, block: str, *arguments: object) -> str:
        with translated():
            return await self._connection.execute(_SQL[block], *arguments)


def _names(lanes: Sequence[OverdueLane]) -> tuple[list[str], list[str]]:
    return [lane.queue.value for lane in lanes], [lane.name for lane in lanes]


def _queue_job(row: asyncpg.Record, queue: Queue) -> QueueJob:
    # Unpacked at once, because a look-up of every name costs as much as the rest.
    _, _, _, _, lane, id_, environment_id, kind, args, priority, attempt, max_attempts, unended, trace = row
    return QueueJob(
        id_,
        environment_id,
        kind,
        from_json(args),
        queue,
        lane,
        _PRIORITIES[priority],
        attempt + 1,
        max_attempts,
        unended,
        trace,
    )


def _final(row: asyncpg.Record, *, reason: str, message: str) -> FinalQueueJob:
    return FinalQueueJob(
        id=row["id"],
        kind=row["kind"],
        args=from_json(row["args"]),
        environment_id=row["environment_id"],
        state=QueueJobState(row["state"]),
        reason=reason,
        message=message,
    )


def _ended(row: asyncpg.Record) -> FinalQueueJob:
    """Return what ended because its runner vanished: for the last time, or after somebody had cancelled it."""
    if QueueJobState(row["state"]) is QueueJobState.CANCELLED:
        return _final(row, reason=AttemptReason.CANCELLED, message="It was cancelled while it ran.")
    return _final(row, reason=AttemptReason.LEASE_EXPIRED, message="Its runner vanished too often.")


def _waiting(rows: Sequence[asyncpg.Record]) -> WaitingQueueJob | None:
    if not rows:
        return None
    row = rows[0]
    return WaitingQueueJob(
        row["id"],
        QueueJobState(row["state"]),
        row["run_at"],
        from_json(row["args"]),
        row["started_at"],
        cancel_requested=row["cancel_requested"],
    )
