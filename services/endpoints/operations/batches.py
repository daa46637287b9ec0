"""Runs what touches the database only: everything that is due in some lanes in one transaction."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import structlog

from services.endpoints.crash_points import crash_point
from services.endpoints.domain.attempt import unknown_kind
from services.endpoints.domain.errors import ConflictError, DatabaseUnavailableError, StatementTooSlowError
from services.endpoints.domain.pace import Pace
from services.endpoints.domain.ports.ledger import Lanes
from services.endpoints.domain.ports.store import Pool
from services.endpoints.domain.queue_job import Queue
from services.endpoints.domain.turns import lanes_per_message
from services.endpoints.operations.attempts import FencedError, Way, require_held
from services.endpoints.operations.following import recorded, traced
from services.endpoints.operations.gathering import Gathering, RunResult
from services.endpoints.operations.suspects import Suspects

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from services.endpoints.domain.ledger_settings import LedgerSettings
    from services.endpoints.domain.ports.ledger import Failure
    from services.endpoints.domain.ports.store import Store, Transaction
    from services.endpoints.domain.ports.tracer import Tracer
    from services.endpoints.domain.queue_job import QueueJob
    from services.endpoints.operations.endings import Endings
    from services.endpoints.operations.gathering import Share
    from services.endpoints.operations.handlers import BatchHandler, Left
    from services.endpoints.operations.leases import LeaseKeeper

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Batch:
    """What one transaction did, the suspect lanes it left to be run on their own, and the lanes it left open."""

    suspects: Sequence[str]
    completed: Sequence[QueueJob] = ()
    failed: Sequence[QueueJob] = ()
    unfinished: Sequence[str] = ()


_NOTHING: Final = RunResult()


class BatchRunner:
    """Runs lanes of database work, with those of other call backs that wait."""

    def __init__(
        self,
        *,
        store: Store,
        handlers: Mapping[str, BatchHandler],
        endings: Endings,
        leases: LeaseKeeper,
        settings: LedgerSettings,
        at_once: int,
        tracer: Tracer,
    ) -> None:
        """Hold the ports; more than `at_once` transactions would wait for each other."""
        self._most_at_once = at_once
        self._store = store
        self._handlers = handlers
        self._endings = endings
        self._leases = leases
        self._settings = settings
        self._tracer = tracer
        self._suspects = Suspects(store=store, pool=Pool.CALL_BACKS, endings=endings, settings=settings)
        self._pace = Pace(
            lanes_per_message(Queue.DEFAULT, settings),
            settings.max_queue_jobs_per_call,
            settings.batch_takes,
        )
        self._gathering = Gathering(run=self._run_shares, most_lanes=self._most_lanes, at_once=self._at_once)

    async def run(self, queue: Queue, lanes: Sequence[str]) -> list[RunResult | BaseException]:
        """Run lanes with those of others, then the suspect ones each by itself until one fails."""
        share = await self._gathering.join(queue, lanes)
        if share.error is not None:
            return [share.result, share.error]
        ends: list[RunResult | BaseException] = [share.result]
        for lane in sorted(share.suspects):
            ends += await asyncio.gather(self._run_suspect(queue, lane), return_exceptions=True)
            if isinstance(ends[-1], BaseException):
                break
        return ends

    def _most_lanes(self, queue: Queue) -> int:
        """Return how many lanes go together: few enough that a batch with one queue job of each is no full one."""
        return self._pace.size(queue) * 3 // 4

    def _at_once(self) -> int:
        """Return how many transactions go on at once.

        A third fewer while full ones take longer than they should: the processors are busy, and one more would slow
        the others and everybody's calls.
        """
        return max(1, self._most_at_once * 2 // 3) if self._pace.is_slow else self._most_at_once

    async def _run_shares(self, queue: Queue, shares: Sequence[Share]) -> None:
        """Carry out one transaction of what is due in these lanes."""
        owners: dict[str, Share] = {}
        for share in shares:
            for lane in share.lanes:
                owners.setdefault(lane, share)
            # A lane that two call backs name is the first one's.
            share.end([lane for lane in share.lanes if owners[lane] is not share])
        batch: _Batch | Way = Way.TOGETHER
        while isinstance(batch, Way):
            batch = await self._run_once(queue, owners, batch)
        self._credit(batch, owners)
        for lane in batch.suspects:
            owners[lane].suspects.append(lane)
        for share in shares:
            share.end(share.lanes.difference(batch.unfinished))

    def _credit(self, batch: _Batch, owners: Mapping[str, Share]) -> None:
        """Note for whom a batch did what."""
        completed = Counter(owners[queue_job.lane] for queue_job in batch.completed)
        failed = Counter(owners[queue_job.lane] for queue_job in batch.failed)
        for share in completed.keys() | failed.keys():
            share.result += RunResult(completed[share], failed[share])
        if self._tracer.is_on:
            for queue_job in (*batch.completed, *batch.failed):
                owners[queue_job.lane].result += RunResult(traceparents=recorded(self._tracer, [queue_job]))

    async def _run_once(self, queue: Queue, owners: Mapping[str, Share], way: Way) -> _Batch | Way:
        try:
            return await self._store.transact(lambda tx: self._run_batch(tx, queue, owners, way), Pool.CALL_BACKS)
        except (ConflictError, DatabaseUnavailableError):
            raise
        except Exception as error:
            if way is Way.ISOLATING:
                raise
            _log.info("batch_is_halved", queue=queue.value, error=type(error).__name__)
            return Way.ISOLATING

    async def _run_batch(self, tx: Transaction, queue: Queue, owners: Mapping[str, Share], way: Way) -> _Batch | Way:
        begun = time.monotonic()
        answer_within = self._settings.ring_answered_within
        size = self._pace.size(queue)
        rung, queue_jobs = await tx.ledger.pull(queue, sorted(owners), limit=size, ends_within=answer_within / 2)
        if repeated := [lane.name for lane in rung if lane.is_repeated]:
            await tx.ledger.mark_suspect(queue, repeated)
            return way
        suspects = [lane.name for lane in rung if lane.runs_alone]
        names = [lane.name for lane in rung if not lane.runs_alone]
        if not names:
            return _Batch(suspects)
        isolating = way is Way.ISOLATING
        done, failures = await self._attempt_all(tx, queue_jobs, isolating=isolating)
        completed, failed = _told_apart(queue_jobs, done, failures)
        unfinished: list[str] = []
        if len(queue_jobs) == size:
            now, most = time.monotonic(), self._settings.call_takes.total_seconds()
            with_more = _with_more(names, queue_jobs, [*completed, *failed])
            unfinished = [name for name in with_more if now < owners[name].began + most]
        if ending := {lane.name for lane in rung if lane.ends_soon}.intersection(unfinished):
            await tx.ledger.keep_lanes(queue, sorted(ending), answer_within=answer_within)
        closing = Lanes(queue, sorted(set(names).difference(unfinished)))
        await self._endings.close(tx, done, failures, isolating=isolating, closing=closing)
        took = timedelta(seconds=time.monotonic() - begun)
        self._pace.learn(queue, queue_jobs=len(queue_jobs), took=took)
        return _Batch(suspects, completed, failed, unfinished)

    async def _attempt_all(
        self, tx: Transaction, queue_jobs: Sequence[QueueJob], *, isolating: bool
    ) -> tuple[list[QueueJob], list[Failure]]:
        completed: list[QueueJob] = []
        failures: list[Failure] = []
        batches: dict[BatchHandler, list[QueueJob]] = {}
        for queue_job in queue_jobs:
            crash_point("before_effect", queue_job.kind)
            handler = self._handlers.get(queue_job.kind)
            if handler is None:
                failures.append(unknown_kind(queue_job, delay=self._settings.unknown_kind_delay))
            else:
                batches.setdefault(handler, []).append(queue_job)
        for handler, batch in batches.items():
            with traced(self._tracer, batch) as followed:
                if isolating:
                    await self._isolate(tx, handler, followed, completed, failures)
                else:
                    self._tell_apart(followed, await handler.run(tx, followed), completed, failures)
        return completed, failures

    async def _isolate(
        self,
        tx: Transaction,
        handler: BatchHandler,
        batch: Sequence[QueueJob],
        completed: list[QueueJob],
        failures: list[Failure],
    ) -> None:
        """Run a batch behind a savepoint, and its halves when it fails, until the culprit stands alone."""
        try:
            async with tx.savepoint():
                left = await handler.run(tx, batch)
        except (ConflictError, DatabaseUnavailableError):
            raise
        except Exception as error:  # noqa: BLE001 - stored with the queue job that caused it
            if len(batch) == 1:
                failures.append(self._endings.failure(batch[0], error))
                return
            middle = len(batch) // 2
            await self._isolate(tx, handler, batch[:middle], completed, failures)
            await self._isolate(tx, handler, batch[middle:], completed, failures)
        else:
            self._tell_apart(batch, left, completed, failures)

    def _tell_apart(
        self,
        batch: Sequence[QueueJob],
        left: Sequence[Left] | None,
        completed: list[QueueJob],
        failures: list[Failure],
    ) -> None:
        """Note what a handler did of a batch, and what it snoozed."""
        if not left:
            completed += batch
            return
        left_ids = {each.queue_job.id for each in left}
        completed += [queue_job for queue_job in batch if queue_job.id not in left_ids]
        failures += [self._endings.failure(each.queue_job, each.snoozed) for each in left if each.snoozed]

    async def _run_suspect(self, queue: Queue, lane: str) -> RunResult:
        """Run a lane by itself: one queue job, and twice as many after each time that went well."""
        claim = await self._suspects.take(queue, lane)
        if claim is None:
            return _NOTHING
        result, together = _NOTHING, 1
        self._leases.hold(claim)
        try:
            while left := max(0, self._settings.max_queue_jobs_per_call - result.completed - result.failed):
                most = min(together, left, self._pace.size(queue))
                async with self._suspects.attempting(queue, lane, claim, most=most) as begun:
                    if not begun:
                        break
                    done = await self._run_alone(begun, claim)
                result += done
                together = 1 if done.is_nothing_due else 2 * together
            await self._suspects.release(claim)
        except FencedError:
            _log.warning("suspect_lane_was_fenced", lane=lane, claim=claim)
        finally:
            self._leases.drop(claim)
        return result

    async def _run_alone(self, queue_jobs: Sequence[QueueJob], claim: int) -> RunResult:
        """Carry out what has begun; nothing when it is to be tried by itself, or somebody else has ended it."""

        async def held(tx: Transaction) -> list[QueueJob]:
            require_held(await tx.ledger.lock_claim(claim))
            waiting = await tx.ledger.end_alone([queue_job.id for queue_job in queue_jobs])
            return [queue_job for queue_job in queue_jobs if queue_job.id in waiting]

        async def work(tx: Transaction) -> RunResult:
            waiting = await held(tx)
            completed, failures = await self._attempt_all(tx, waiting, isolating=True)
            await self._endings.close(tx, completed, failures, isolating=True)
            return RunResult(len(completed), len(failures), recorded(self._tracer, waiting))

        async def fail(tx: Transaction) -> RunResult:
            waiting = await held(tx)
            if len(queue_jobs) > 1 or not waiting:
                return _NOTHING
            await self._endings.close(tx, [], [self._endings.too_slow(waiting[0], too_slow)], isolating=True)
            return RunResult(failed=1)

        try:
            return await self._store.transact(work, Pool.CALL_BACKS)
        except StatementTooSlowError as error:
            too_slow = error
            return await self._store.transact(fail, Pool.CALL_BACKS)


def _told_apart(
    queue_jobs: Sequence[QueueJob], done: Sequence[QueueJob], failures: Sequence[Failure]
) -> tuple[Sequence[QueueJob], Sequence[QueueJob]]:
    """Return which queue jobs were completed and which failed, as they were pulled; the rest was left."""
    if len(done) == len(queue_jobs):
        return queue_jobs, ()
    done_ids = {queue_job.id for queue_job in done}
    failed_ids = {failure.queue_job_id for failure in failures}
    return (
        [queue_job for queue_job in queue_jobs if queue_job.id in done_ids],
        [queue_job for queue_job in queue_jobs if queue_job.id in failed_ids],
    )


def _with_more(lanes: Sequence[str], pulled: Sequence[QueueJob], ended: Sequence[QueueJob]) -> list[str]:
    """Return the lanes that a full batch may not have emptied.

    It has each lane's first, then each lane's second and so on, until it is full: only the last round is incomplete.
    A lane of which something was left is not empty either.
    """
    taken = Counter(queue_job.lane for queue_job in pulled)
    done = taken if len(ended) == len(pulled) else Counter(queue_job.lane for queue_job in ended)
    rounds = max(taken.values())
    return [lane for lane in lanes if taken[lane] >= rounds - 1 or done[lane] < taken[lane]]
