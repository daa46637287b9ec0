"""Runs what lanes hold: the one thing a worker's call back asks for."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final

import structlog

from services.endpoints.crash_points import crash_point
from services.endpoints.domain.attempt import AttemptFailedError, RetryPolicy, SnoozedError, unknown_kind
from services.endpoints.domain.attempt_reason import AttemptReason
from services.endpoints.domain.catalog import CALLING_QUEUES
from services.endpoints.domain.errors import (
    ConflictError,
    DatabaseUnavailableError,
    KongflowError,
    ServerOverloadedError,
    StatementTooSlowError,
)
from services.endpoints.domain.pace import Pace
from services.endpoints.domain.ports.ledger import NO_LANES, Failure, Lanes
from services.endpoints.domain.ports.store import Pool
from services.endpoints.domain.queue_job import Queue, QueueJob
from services.endpoints.domain.tracing import NO_TRACER, set_traceparent
from services.endpoints.domain.turns import lanes_per_message
from services.endpoints.operations.attempts import (
    BeginFailedError,
    Call,
    FencedError,
    Way,
    completed_queue_job,
    done_of,
    require_held,
)
from services.endpoints.operations.following import following, recorded, traced
from services.endpoints.operations.gathering import Gathering, RunResult

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from services.endpoints.domain.ledger_settings import LedgerSettings
    from services.endpoints.domain.ports.clock import Jitter
    from services.endpoints.domain.ports.observer import LedgerObserver
    from services.endpoints.domain.ports.store import Store, Transaction
    from services.endpoints.domain.ports.tracer import Tracer
    from services.endpoints.operations.finality import Finality
    from services.endpoints.operations.gathering import Share
    from services.endpoints.operations.handlers import BatchHandler, CallingHandler
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
_LEASES_TO_STORE_AN_END: Final = 3
_STORE_END_AGAIN_AFTER: Final = timedelta(milliseconds=500)


class QueueJobRunner:
    """Pulls due queue jobs of rung lanes and carries them out."""

    def __init__(
        self,
        *,
        store: Store,
        batch_handlers: Mapping[str, BatchHandler],
        calling_handlers: Mapping[str, CallingHandler[Any, Any]],
        finality: Finality,
        leases: LeaseKeeper,
        settings: LedgerSettings,
        observer: LedgerObserver,
        jitter: Jitter,
        batches_at_once: int = 3,
        tracer: Tracer = NO_TRACER,
    ) -> None:
        """Hold the ports; more than `batches_at_once` transactions of database work would wait for each other."""
        self._tracer = tracer
        self._store = store
        self._batch_handlers = batch_handlers
        self._calling_handlers = calling_handlers
        self._finality = finality
        self._leases = leases
        self._settings = settings
        self._policy = RetryPolicy(settings.backoff)
        self._observer = observer
        self._jitter = jitter
        self._pace = Pace(
            lanes_per_message(Queue.DEFAULT, settings),
            settings.max_queue_jobs_per_call,
            settings.batch_takes,
        )
        self._gathering = Gathering(run=self._run_shares, most_lanes=self._most_lanes, at_once=batches_at_once)
        self._begun: set[asyncio.Task[RunResult]] = set()

    async def run_queue_jobs(self, queue: Queue, lanes: Sequence[str]) -> RunResult:
        """Run what is due in `lanes`; a caller that goes away does not stop what has begun.

        Raises:
            ConflictError: the database gave way every time; the lanes are rung again.
            DatabaseUnavailableError: PostgreSQL is away; the same.
        """
        task = asyncio.create_task(self._run(queue, sorted(set(lanes))))
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)
        return await asyncio.shield(task)

    async def drain(self) -> None:
        """Wait until everything that has begun has ended."""
        while self._begun:
            await asyncio.wait(self._begun)

    async def _run(self, queue: Queue, lanes: Sequence[str]) -> RunResult:
        # A call back carries work of many traces, so that none of it belongs to the call back's own.
        set_traceparent(None)
        if queue in CALLING_QUEUES:
            # All of them end, and what they did is counted, before one's failure is told.
            ends = await asyncio.gather(*(self._call_lane(queue, lane) for lane in lanes), return_exceptions=True)
        else:
            ends = await self._run_lanes(queue, lanes)
        result = sum((end for end in ends if isinstance(end, RunResult)), _NOTHING)
        self._observer.count_run(queue.value, completed=result.completed, failed=result.failed)
        if failures := [end for end in ends if isinstance(end, BaseException)]:
            raise failures[0]
        return result

    # Database only: everything in one transaction.

    async def _run_lanes(self, queue: Queue, lanes: Sequence[str]) -> list[RunResult | BaseException]:
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
        rung = await tx.ledger.lock_rung_lanes(queue, sorted(owners), ends_within=answer_within / 2)
        if repeated := [lane.name for lane in rung if lane.is_repeated]:
            await tx.ledger.mark_suspect(queue, repeated)
            return way
        suspects = [lane.name for lane in rung if lane.runs_alone]
        names = [lane.name for lane in rung if not lane.runs_alone]
        if not names:
            return _Batch(suspects)
        size = self._pace.size(queue)
        queue_jobs = await tx.ledger.pull(queue, names, limit=size)
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
        await self._close(tx, done, failures, isolating=isolating, closing=closing)
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
            handler = self._batch_handlers.get(queue_job.kind)
            if handler is None:
                failures.append(unknown_kind(queue_job, delay=self._settings.unknown_kind_delay))
            else:
                batches.setdefault(handler, []).append(queue_job)
        for handler, batch in batches.items():
            with traced(self._tracer, batch) as followed:
                if isolating:
                    await self._isolate(tx, handler, followed, completed, failures)
                else:
                    completed += done_of(followed, await handler.run(tx, followed))
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
                failures.append(self._failure(batch[0], error))
                return
            middle = len(batch) // 2
            await self._isolate(tx, handler, batch[:middle], completed, failures)
            await self._isolate(tx, handler, batch[middle:], completed, failures)
        else:
            completed += done_of(batch, left)

    async def _close(
        self,
        tx: Transaction,
        completed: Sequence[QueueJob],
        failures: Sequence[Failure],
        *,
        isolating: bool = False,
        closing: Lanes = NO_LANES,
    ) -> None:
        final = [completed_queue_job(queue_job) for queue_job in completed]
        if completed:
            await tx.ledger.complete(completed, closing=closing)
        elif closing.names:
            await tx.ledger.close_lanes(closing.queue, closing.names)
        if failures:
            final += await tx.ledger.fail(failures)
        tx.after_commit(lambda: self._count_attempts(completed, failures))
        await self._finality.settle(tx, final, isolating=isolating)

    def _count_attempts(self, completed: Sequence[QueueJob], failures: Sequence[Failure]) -> None:
        ended = Counter((queue_job.kind, "completed") for queue_job in completed)
        ended.update((failure.kind, "failed" if failure.counts_attempt else "snoozed") for failure in failures)
        for (kind, result), attempts in ended.items():
            self._observer.count_attempts(kind, result, attempts)

    # A suspect lane: held by a claim, each beginning committed before it. First one queue job, and twice as many after
    # each time that went well; what has begun without an end before is always by itself.

    async def _run_suspect(self, queue: Queue, lane: str) -> RunResult:
        claim = await self._store.transact(lambda tx: self._take_suspect(tx, queue, lane), Pool.CALL_BACKS)
        if claim is None:
            return _NOTHING
        result, together = _NOTHING, 1
        self._leases.hold(claim)
        try:
            while left := max(0, self._settings.max_queue_jobs_per_call - result.completed - result.failed):
                most = min(together, left, self._pace.size(queue))
                begin = partial(self._begin_alone, queue=queue, lane=lane, claim=claim, most=most)
                begun = await self._store.transact(begin, Pool.CALL_BACKS)
                if not begun:
                    break
                done = await self._run_alone(begun, claim)
                result += done
                together = 1 if done.is_nothing_due else 2 * together
            await self._store.transact(lambda tx: tx.ledger.release(claim), Pool.CALL_BACKS)
        except FencedError:
            _log.warning("suspect_lane_was_fenced", lane=lane, claim=claim)
        finally:
            self._leases.drop(claim)
        return result

    async def _take_suspect(self, tx: Transaction, queue: Queue, lane: str) -> int | None:
        if not await tx.ledger.lock_rung_lanes(queue, [lane]):
            return None
        return await tx.ledger.take_lane(queue, lane, lease=self._settings.lease)

    async def _begin_alone(
        self, tx: Transaction, *, queue: Queue, lane: str, claim: int, most: int = 1
    ) -> Sequence[QueueJob]:
        """Count that attempts begin: of one queue job that once began without an end, or of several that never did."""
        require_held(await tx.ledger.lock_claim(claim))
        while pulled := await tx.ledger.pull(queue, [lane], limit=most):
            first = pulled[0]
            if first.rescues < self._settings.max_unended_attempts:
                innocent = list(takewhile(lambda queue_job: not queue_job.rescues, pulled))
                await tx.ledger.begin_alone([queue_job.id for queue_job in innocent or [first]])
                return innocent or [first]
            message = f"{first.rescues} attempts began and never ended."
            _log.error("queue_job_poisoned", queue_job_id=str(first.id), kind=first.kind)
            poisoned = Failure(first.id, first.kind, AttemptReason.POISONED, message, retry_in=None)
            await self._close(tx, [], [poisoned], isolating=True)
        return ()

    async def _run_alone(self, queue_jobs: Sequence[QueueJob], claim: int) -> RunResult:
        """Carry out what has begun; nothing when it is to be tried by itself, or somebody else has ended it."""

        async def held(tx: Transaction) -> list[QueueJob]:
            require_held(await tx.ledger.lock_claim(claim))
            waiting = await tx.ledger.end_alone([queue_job.id for queue_job in queue_jobs])
            return [queue_job for queue_job in queue_jobs if queue_job.id in waiting]

        async def work(tx: Transaction) -> RunResult:
            waiting = await held(tx)
            completed, failures = await self._attempt_all(tx, waiting, isolating=True)
            await self._close(tx, completed, failures, isolating=True)
            return RunResult(len(completed), len(failures), recorded(self._tracer, waiting))

        async def fail(tx: Transaction) -> RunResult:
            waiting = await held(tx)
            if len(queue_jobs) > 1 or not waiting:
                return _NOTHING
            await self._close(tx, [], [self._too_slow(waiting[0], too_slow)], isolating=True)
            return RunResult(failed=1)

        async with self._ending_alone(queue_jobs, Pool.CALL_BACKS):
            try:
                return await self._store.transact(work, Pool.CALL_BACKS)
            except StatementTooSlowError as error:
                too_slow = error
                return await self._store.transact(fail, Pool.CALL_BACKS)

    @asynccontextmanager
    async def _ending_alone(self, queue_jobs: Sequence[QueueJob], pool: Pool) -> AsyncIterator[None]:
        """Take back that attempts began when they have ended, if not well: only what never ends counts as poison."""
        try:
            yield
        except (ConflictError, DatabaseUnavailableError, FencedError):
            ids = [queue_job.id for queue_job in queue_jobs]
            with suppress(KongflowError):
                await self._store.transact(lambda tx: tx.ledger.end_alone(ids), pool)
            raise

    # Calling a customer: a transaction before, a transaction after, none in between.

    async def _call_lane(self, queue: Queue, lane: str) -> RunResult:
        call: Call | RunResult | Way = Way.TOGETHER
        while isinstance(call, Way):
            if call is Way.ALONE:
                call = await self._begin_suspect_call(queue, lane)
            else:
                call = await self._begin_call(lambda tx: self._take_first(tx, queue, lane))
        if isinstance(call, RunResult):
            return call
        self._leases.hold(call.claim)
        try:
            with following(self._tracer, call.queue_job):
                return await self._carry_out(call) + RunResult(traceparents=recorded(self._tracer, [call.queue_job]))
        except FencedError:
            _log.warning("attempt_was_fenced", queue_job_id=str(call.queue_job.id), claim=call.claim)
            return _NOTHING
        finally:
            self._leases.drop(call.claim)

    async def _begin_suspect_call(self, queue: Queue, lane: str) -> Call | RunResult | Way:
        """Begin a call behind a claim, its beginning committed before it."""
        claim = await self._store.transact(lambda tx: self._take_suspect(tx, queue, lane), Pool.CALLS)
        if claim is None:
            return _NOTHING
        self._leases.hold(claim)
        try:
            begin = partial(self._begin_alone, queue=queue, lane=lane, claim=claim)
            begun = await self._store.transact(begin, Pool.CALLS)
            if not begun:
                await self._store.transact(lambda tx: tx.ledger.release(claim), Pool.CALLS)
                return _NOTHING
            async with self._ending_alone(begun, Pool.CALLS):
                return await self._begin_call(lambda tx: self._take_alone(tx, begun[0], claim))
        except FencedError:
            _log.warning("suspect_lane_was_fenced", lane=lane, claim=claim)
            return _NOTHING
        finally:
            self._leases.drop(claim)

    async def _take_first(self, tx: Transaction, queue: Queue, lane: str) -> QueueJob | RunResult | Way:
        """Lock a RUNG lane and the first queue job in it, or say how to go on."""
        for rung in await tx.ledger.lock_rung_lanes(queue, [lane]):
            if rung.runs_alone:
                return Way.ALONE
            if rung.is_repeated:
                await tx.ledger.mark_suspect(queue, [lane])
                return Way.TOGETHER
            if pulled := await tx.ledger.pull(queue, [lane], limit=1):
                return pulled[0]
            await tx.ledger.close_lanes(queue, [lane])
        return _NOTHING

    async def _take_alone(self, tx: Transaction, queue_job: QueueJob, claim: int) -> QueueJob | RunResult:
        """Lock the lane of a claim, RUNG again, and the queue job that was to begin."""
        require_held(await tx.ledger.return_lane(claim))
        if await tx.ledger.end_alone([queue_job.id]):
            return queue_job
        await tx.ledger.close_lanes(queue_job.queue, [queue_job.lane])
        return _NOTHING

    async def _begin_call(
        self, take: Callable[[Transaction], Awaitable[QueueJob | RunResult | Way]]
    ) -> Call | RunResult | Way:
        """Prepare the call of what `take` locks; when that fails, take it once more and store the failure."""

        async def begin(tx: Transaction) -> Call | RunResult | Way:
            taken = await take(tx)
            return await self._prepare(tx, taken) if isinstance(taken, QueueJob) else taken

        async def fail(tx: Transaction) -> RunResult | Way:
            taken = await take(tx)
            if not isinstance(taken, QueueJob):
                return taken
            if taken.id != failed.queue_job.id:
                return Way.TOGETHER
            await self._fail(tx, taken, failed.failure)
            await tx.ledger.close_lanes(taken.queue, [taken.lane])
            return RunResult(failed=1)

        try:
            return await self._store.transact(begin, Pool.CALLS)
        except BeginFailedError as error:
            failed = error
            return await self._store.transact(fail, Pool.CALLS)

    async def _prepare(self, tx: Transaction, queue_job: QueueJob) -> Call | RunResult:
        handler = self._calling_handlers.get(queue_job.kind)
        if handler is None:
            await self._close(tx, [], [unknown_kind(queue_job, delay=self._settings.unknown_kind_delay)])
            await tx.ledger.close_lanes(queue_job.queue, [queue_job.lane])
            return RunResult(failed=1)
        try:
            begun = await handler.begin(tx, queue_job)
        except (ConflictError, DatabaseUnavailableError):
            raise
        except Exception as error:
            raise BeginFailedError(queue_job, self._failure(queue_job, error)) from error
        if begun is None:
            await self._close(tx, [queue_job], [])
            await tx.ledger.close_lanes(queue_job.queue, [queue_job.lane])
            return RunResult(completed=1)
        claim = await tx.ledger.start(queue_job, lease=self._settings.lease)
        return Call(queue_job, claim, begun)

    async def _carry_out(self, call: Call) -> RunResult:
        handler = self._calling_handlers[call.queue_job.kind]
        crash_point("after_begin_before_call")
        try:
            answer = await handler.call(call.begun)
        except Exception as error:  # noqa: BLE001 - stored as the attempt's failure
            return await self._end_call(call, self._failure(call.queue_job, error), call_error=error)
        crash_point("after_endpoint_answered")
        try:
            return await self._store_end(lambda tx: self._finish_call(tx, call, answer))
        except StatementTooSlowError as error:
            return await self._end_call(call, self._too_slow(call.queue_job, error))
        except (ConflictError, DatabaseUnavailableError, FencedError):
            raise
        except Exception as error:  # noqa: BLE001 - stored as the attempt's failure
            return await self._end_call(call, self._failure(call.queue_job, error))

    async def _end_call(self, call: Call, failure: Failure, *, call_error: Exception | None = None) -> RunResult:
        return await self._store_end(lambda tx: self._fail_call(tx, call, failure, call_error))

    async def _store_end(self, work: Callable[[Transaction], Awaitable[RunResult]]) -> RunResult:
        """Store how a call ended, however often the database has to be asked: the customer is not to be called again.

        Another server that has taken the call over meanwhile fences it; so does a commit whose answer was lost.
        """
        give_up = time.monotonic() + self._settings.lease.total_seconds() * _LEASES_TO_STORE_AN_END
        while True:
            try:
                return await self._store.transact(work, Pool.CALLS)
            except StatementTooSlowError:
                raise
            except (ConflictError, DatabaseUnavailableError) as error:
                if time.monotonic() >= give_up:
                    raise
                _log.warning("end_of_call_waits", reason=error.reason.value)
            await asyncio.sleep(_STORE_END_AGAIN_AFTER.total_seconds() * (1 + self._jitter()) / 2)

    async def _finish_call(self, tx: Transaction, call: Call, answer: Any) -> RunResult:  # noqa: ANN401 - the handler's own type
        if await self._is_cancelled(tx, call):
            return RunResult(failed=1)
        handler = self._calling_handlers[call.queue_job.kind]
        await handler.finish(tx, call.queue_job, call.begun, answer)
        await self._close(tx, [call.queue_job], [])
        return RunResult(completed=1)

    async def _fail_call(
        self, tx: Transaction, call: Call, failure: Failure, call_error: Exception | None
    ) -> RunResult:
        if await self._is_cancelled(tx, call):
            return RunResult(failed=1)
        await self._fail(tx, call.queue_job, failure)
        if call_error is not None:
            handler = self._calling_handlers[call.queue_job.kind]
            await self._noted(tx, call.queue_job, lambda: handler.on_call_failed(tx, call.begun, call_error))
        return RunResult(failed=1)

    async def _fail(self, tx: Transaction, queue_job: QueueJob, failure: Failure) -> None:
        """Store a failed attempt; what its kind cannot note is logged, so that it cannot hold up its lane for ever."""
        if failure.retry_in is not None:
            handler = self._calling_handlers[queue_job.kind]
            await self._noted(tx, queue_job, lambda: handler.on_failed(tx, queue_job, failure))
        await self._close(tx, [], [failure], isolating=True)

    async def _noted(self, tx: Transaction, queue_job: QueueJob, note: Callable[[], Awaitable[None]]) -> None:
        try:
            async with tx.savepoint():
                await note()
        except (ConflictError, DatabaseUnavailableError):
            raise
        except Exception as error:  # noqa: BLE001 - logged; the attempt has failed all the same
            _log.error("on_failed_failed", queue_job_id=str(queue_job.id), kind=queue_job.kind, exc_info=error)

    async def _is_cancelled(self, tx: Transaction, call: Call) -> bool:
        """Take the lane back and lock the queue job; end it here when somebody asked for that.

        Raises:
            FencedError: a newer owner has either of them.
        """
        if not await tx.ledger.release(call.claim):
            raise FencedError
        held = await tx.ledger.lock_running(call.queue_job.id, attempt=call.queue_job.attempt)
        if held is None:
            raise FencedError
        if not held.cancel_requested:
            return False
        final = await tx.ledger.cancel([call.queue_job.id], message="It was cancelled while it ran.")
        await self._finality.settle(tx, final, isolating=True)
        return True

    def _too_slow(self, queue_job: QueueJob, error: StatementTooSlowError) -> Failure:
        """Return the failure of an attempt that is by itself: nobody else's work it could be, and its lane waits."""
        _log.warning("attempt_too_slow", queue_job_id=str(queue_job.id), kind=queue_job.kind, exc_info=error)
        message = "A statement of the attempt took longer than the database lets any take."
        return self._failure(queue_job, AttemptFailedError(message, reason=AttemptReason.TOOK_TOO_LONG))

    def _failure(self, queue_job: QueueJob, error: Exception) -> Failure:
        if not isinstance(error, AttemptFailedError | SnoozedError | ServerOverloadedError):
            _log.error("attempt_failed", queue_job_id=str(queue_job.id), kind=queue_job.kind, exc_info=error)
        return self._policy.after(queue_job, error, jitter=self._jitter())


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
