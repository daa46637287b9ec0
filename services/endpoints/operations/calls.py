"""Calls customers: a transaction before the call, one after it, and none in between."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import structlog

from services.endpoints.crash_points import crash_point
from services.endpoints.domain.attempt import unknown_kind
from services.endpoints.domain.errors import ConflictError, DatabaseUnavailableError, StatementTooSlowError
from services.endpoints.domain.ports.store import Pool
from services.endpoints.domain.queue_job import QueueJob
from services.endpoints.operations.attempts import BeginFailedError, Call, FencedError, Way, require_held
from services.endpoints.operations.following import following, recorded
from services.endpoints.operations.gathering import RunResult
from services.endpoints.operations.suspects import Suspects

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from services.endpoints.domain.ledger_settings import LedgerSettings
    from services.endpoints.domain.ports.clock import Jitter
    from services.endpoints.domain.ports.ledger import Failure
    from services.endpoints.domain.ports.store import Store, Transaction
    from services.endpoints.domain.ports.tracer import Tracer
    from services.endpoints.domain.queue_job import Queue
    from services.endpoints.operations.endings import Endings
    from services.endpoints.operations.finality import Finality
    from services.endpoints.operations.handlers import CallingHandler
    from services.endpoints.operations.leases import LeaseKeeper

_log = structlog.get_logger(__name__)

_NOTHING: Final = RunResult()
_LEASES_TO_STORE_AN_END: Final = 3
_STORE_END_AGAIN_AFTER: Final = timedelta(milliseconds=500)


class CallRunner:
    """Runs lanes whose queue jobs call customers, one queue job of a lane at a time."""

    def __init__(
        self,
        *,
        store: Store,
        handlers: Mapping[str, CallingHandler[Any, Any]],
        finality: Finality,
        endings: Endings,
        leases: LeaseKeeper,
        settings: LedgerSettings,
        jitter: Jitter,
        tracer: Tracer,
    ) -> None:
        """Hold the ports."""
        self._store = store
        self._handlers = handlers
        self._finality = finality
        self._endings = endings
        self._leases = leases
        self._settings = settings
        self._jitter = jitter
        self._tracer = tracer
        self._suspects = Suspects(store=store, pool=Pool.CALLS, endings=endings, settings=settings)

    async def run(self, queue: Queue, lane: str) -> RunResult:
        """Carry out what is first in a lane."""
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
        claim = await self._suspects.take(queue, lane)
        if claim is None:
            return _NOTHING
        self._leases.hold(claim)
        try:
            async with self._suspects.attempting(queue, lane, claim) as begun:
                if begun:
                    return await self._begin_call(lambda tx: self._take_alone(tx, begun[0], claim))
            await self._suspects.release(claim)
            return _NOTHING  # noqa: TRY300
        except FencedError:
            _log.warning("suspect_lane_was_fenced", lane=lane, claim=claim)
            return _NOTHING
        finally:
            self._leases.drop(claim)

    async def _take_first(self, tx: Transaction, queue: Queue, lane: str) -> QueueJob | RunResult | Way:
        """Lock a RUNG lane and the first queue job in it, or say how to go on."""
        lanes, queue_jobs = await tx.ledger.pull(queue, [lane], limit=1)
        for rung in lanes:
            if rung.runs_alone:
                return Way.ALONE
            if rung.is_repeated:
                await tx.ledger.mark_suspect(queue, [lane])
                return Way.TOGETHER
            if queue_jobs:
                return queue_jobs[0]
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
        handler = self._handlers.get(queue_job.kind)
        if handler is None:
            await self._endings.close(tx, [], [unknown_kind(queue_job, delay=self._settings.unknown_kind_delay)])
            await tx.ledger.close_lanes(queue_job.queue, [queue_job.lane])
            return RunResult(failed=1)
        try:
            begun = await handler.begin(tx, queue_job)
        except (ConflictError, DatabaseUnavailableError):
            raise
        except Exception as error:
            raise BeginFailedError(queue_job, self._endings.failure(queue_job, error)) from error
        if begun is None:
            await self._endings.close(tx, [queue_job], [])
            await tx.ledger.close_lanes(queue_job.queue, [queue_job.lane])
            return RunResult(completed=1)
        claim = await tx.ledger.start(queue_job, lease=self._settings.lease)
        return Call(queue_job, claim, begun)

    async def _carry_out(self, call: Call) -> RunResult:
        handler = self._handlers[call.queue_job.kind]
        crash_point("after_begin_before_call")
        try:
            answer = await handler.call(call.begun)
        except Exception as error:  # noqa: BLE001 - stored as the attempt's failure
            return await self._end_call(call, self._endings.failure(call.queue_job, error), call_error=error)
        crash_point("after_endpoint_answered")
        try:
            return await self._store_end(lambda tx: self._finish_call(tx, call, answer))
        except StatementTooSlowError as error:
            return await self._end_call(call, self._endings.too_slow(call.queue_job, error))
        except (ConflictError, DatabaseUnavailableError, FencedError):
            raise
        except Exception as error:  # noqa: BLE001 - stored as the attempt's failure
            return await self._end_call(call, self._endings.failure(call.queue_job, error))

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
        handler = self._handlers[call.queue_job.kind]
        await handler.finish(tx, call.queue_job, call.begun, answer)
        await self._endings.close(tx, [call.queue_job], [])
        return RunResult(completed=1)

    async def _fail_call(
        self, tx: Transaction, call: Call, failure: Failure, call_error: Exception | None
    ) -> RunResult:
        if await self._is_cancelled(tx, call):
            return RunResult(failed=1)
        await self._fail(tx, call.queue_job, failure)
        if call_error is not None:
            handler = self._handlers[call.queue_job.kind]
            await self._noted(tx, call.queue_job, lambda: handler.on_call_failed(tx, call.begun, call_error))
        return RunResult(failed=1)

    async def _fail(self, tx: Transaction, queue_job: QueueJob, failure: Failure) -> None:
        """Store a failed attempt; what its kind cannot note is logged, so that it cannot hold up its lane for ever."""
        if failure.retry_in is not None:
            handler = self._handlers[queue_job.kind]
            await self._noted(tx, queue_job, lambda: handler.on_failed(tx, queue_job, failure))
        await self._endings.close(tx, [], [failure], isolating=True)

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
