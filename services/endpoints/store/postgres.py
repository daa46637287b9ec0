"""The store on PostgreSQL: a pool for each kind of work, and transactions that know their statements."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import Counter
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Final, TypeVar, cast
from weakref import WeakValueDictionary

import asyncpg

from services.endpoints.crash_points import crash_point
from services.endpoints.domain.callers import Callers
from services.endpoints.domain.current_tenant import current_tenant
from services.endpoints.domain.errors import (
    ConflictError,
    DatabaseDefectError,
    DatabaseUnavailableError,
    NoConnectionFreeError,
)
from services.endpoints.domain.ledger_settings import LedgerSettings
from services.endpoints.domain.ports.observer import PoolReading
from services.endpoints.domain.ports.store import Pool
from services.endpoints.store.catalog import PostgresCatalog
from services.endpoints.store.dispatch import PostgresDispatch
from services.endpoints.store.dispatchers import PostgresDispatchers
from services.endpoints.store.endpoints import PostgresEndpoints
from services.endpoints.store.errors import connecting, refusal_of, translated
from services.endpoints.store.events import PostgresEvents
from services.endpoints.store.explanations import PostgresExplanations
from services.endpoints.store.indexes import PostgresIndexes
from services.endpoints.store.known_environments import KnownEnvironments
from services.endpoints.store.ledger import PostgresLedger
from services.endpoints.store.plans import Plans
from services.endpoints.store.queue_control import PostgresQueueControl
from services.endpoints.store.requests import PostgresRequests
from services.endpoints.store.schema import require_schema
from services.endpoints.store.tenancy import PostgresTenancy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    _Connection = asyncpg.Connection[asyncpg.Record]

_Result = TypeVar("_Result")

_ATTEMPTS: Final = 3
_ACQUIRE_WITHIN: Final = timedelta(seconds=5)
_CLOSE_WITHIN: Final = timedelta(seconds=2)
_SILENCE: Final = timedelta(seconds=2)
# A full disk is noticed by what is written, and there may be seconds between two changes.
_REFUSAL_COUNTS_FOR: Final = timedelta(seconds=4)
_CAN_WAIT: Final = frozenset({Pool.CALLS, Pool.CALL_BACKS})
# Tables grow: a plan that was made for small ones is made anew before long.
_PLANS_KEPT_FOR: Final = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """How one pool behaves; the timeouts are PostgreSQL's own.

    A statement may stay unanswered for `silence` after its own timeout, and a connection that is given back for as
    long after it was left: then nobody is there who could answer.
    """

    max_size: int
    statement_timeout: timedelta
    lock_timeout: timedelta
    idle_in_transaction_timeout: timedelta = timedelta(seconds=5)
    tcp_user_timeout: timedelta = timedelta(seconds=10)
    plans: Plans = Plans.KEPT
    silence: timedelta = _SILENCE

    def server_settings(self, application_name: str) -> dict[str, str]:
        """Return the settings each connection starts with."""
        return {
            "application_name": application_name,
            "statement_timeout": _milliseconds(self.statement_timeout),
            "lock_timeout": _milliseconds(self.lock_timeout),
            "idle_in_transaction_session_timeout": _milliseconds(self.idle_in_transaction_timeout),
            "tcp_user_timeout": _milliseconds(self.tcp_user_timeout),
            "jit": "off",
            **self.plans.value,
        }


DEFAULT_POOLS: Final[Mapping[Pool, PoolSettings]] = {
    Pool.CALLERS: PoolSettings(12, statement_timeout=timedelta(seconds=5), lock_timeout=timedelta(seconds=2)),
    Pool.READERS: PoolSettings(8, statement_timeout=timedelta(seconds=5), lock_timeout=timedelta(seconds=2)),
    Pool.LISTS: PoolSettings(
        6, statement_timeout=timedelta(seconds=5), lock_timeout=timedelta(seconds=2), plans=Plans.EACH_TIME
    ),
    # Few of them, because PostgreSQL shares its time evenly: what waits in the ledger can wait, a caller cannot.
    # What comes before and after a customer's call is short, and waits for no batch.
    Pool.CALLS: PoolSettings(4, statement_timeout=timedelta(seconds=20), lock_timeout=timedelta(seconds=5)),
    Pool.CALL_BACKS: PoolSettings(3, statement_timeout=timedelta(seconds=20), lock_timeout=timedelta(seconds=5)),
    Pool.RELAY: PoolSettings(5, statement_timeout=timedelta(seconds=5), lock_timeout=timedelta(seconds=1)),
    # Whatever hangs elsewhere, leases are renewed.
    Pool.LEASES: PoolSettings(
        1,
        statement_timeout=timedelta(seconds=5),
        lock_timeout=timedelta(seconds=1),
        silence=LedgerSettings().renewal_takes / 2,
    ),
}


@dataclass
class PostgresTransaction:
    """One connection with its statements grouped by noun."""

    connection: _Connection
    known_environments: KnownEnvironments = field(default_factory=KnownEnvironments)
    has_changed_ledger: bool = field(default=False)
    _after_commit: list[Callable[[], None]] = field(default_factory=list)

    @cached_property
    def tenancy(self) -> PostgresTenancy:
        """Organizations, projects, environments and tokens."""
        return PostgresTenancy(self.connection, known=self.known_environments)

    @cached_property
    def requests(self) -> PostgresRequests:
        """Request ids."""
        return PostgresRequests(self.connection)

    @cached_property
    def endpoints(self) -> PostgresEndpoints:
        """Endpoints."""
        return PostgresEndpoints(self.connection)

    @cached_property
    def indexes(self) -> PostgresIndexes:
        """Endpoint indexes and their items."""
        return PostgresIndexes(self.connection)

    @cached_property
    def catalog(self) -> PostgresCatalog:
        """Jobs, sources, dynamic triggers and schedules."""
        return PostgresCatalog(self.connection)

    @cached_property
    def ledger(self) -> PostgresLedger:
        """Queue jobs, lanes and windows."""
        return PostgresLedger(self.connection, changed=self._note_change)

    @cached_property
    def queue_control(self) -> PostgresQueueControl:
        """What operators do with the ledger."""
        return PostgresQueueControl(self.connection, changed=self._note_change)

    @cached_property
    def events(self) -> PostgresEvents:
        """Event records."""
        return PostgresEvents(self.connection, changed=self._note_change)

    @cached_property
    def dispatch(self) -> PostgresDispatch:
        """Deliveries, invocations and runs."""
        return PostgresDispatch(self.connection)

    @cached_property
    def dispatchers(self) -> PostgresDispatchers:
        """Dispatchers."""
        return PostgresDispatchers(self.connection)

    @cached_property
    def explanations(self) -> PostgresExplanations:
        """What came of events."""
        return PostgresExplanations(self.connection)

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Open a savepoint."""
        asked_before = len(self._after_commit)
        try:
            async with _begun(self.connection):
                yield
        except BaseException:
            del self._after_commit[asked_before:]
            raise

    def after_commit(self, act: Callable[[], None]) -> None:
        """Have `act` called once the transaction has committed."""
        self._after_commit.append(act)

    def tell_of_commit(self) -> None:
        """Call what waited for the commit."""
        for act in self._after_commit:
            act()

    def _note_change(self) -> None:
        self.has_changed_ledger = True


class PostgresStore:
    """Gives transactions from a pool per kind of work, and wakes the relays after commits that changed the ledger."""

    def __init__(
        self,
        *,
        database_url: str,
        on_ledger_change: Callable[[], None],
        pools: Mapping[Pool, PoolSettings] = DEFAULT_POOLS,
        callers: Callers | None = None,
    ) -> None:
        """Prepare; `open` connects.

        While `callers` are many, what is done for the ledger goes on one transaction at a time.
        """
        self._database_url = database_url
        self._on_ledger_change = on_ledger_change
        self._settings = pools
        self._pools: dict[Pool, asyncpg.Pool[asyncpg.Record]] = {}
        self._callers = callers or Callers()
        self._one = asyncio.Lock()
        self._waiting: Counter[Pool] = Counter()
        self._shares: WeakValueDictionary[tuple[Pool, str], asyncio.Semaphore] = WeakValueDictionary()
        self._known_environments = KnownEnvironments()
        self._refusal: str | None = None
        self._refused_at = -math.inf

    async def open(self) -> None:
        """Connect once, so that a wrong address or an old schema shows at once; pools connect when they are needed.

        Raises:
            DatabaseUnavailableError: PostgreSQL cannot be reached or lacks the schema; nothing stays open.
            DatabaseDefectError: it answers with an error that nobody expects; the same.
        """
        try:
            for pool, settings in self._settings.items():
                self._pools[pool] = await asyncpg.create_pool(
                    self._database_url,
                    min_size=0,
                    max_size=settings.max_size,
                    timeout=_ACQUIRE_WITHIN.total_seconds(),
                    command_timeout=(settings.statement_timeout + settings.silence).total_seconds(),
                    server_settings=settings.server_settings(f"kongflow {pool.value}"),
                    reset=_keep_as_it_is,
                    max_cached_statement_lifetime=int(_PLANS_KEPT_FOR.total_seconds()),
                )
            # Its connection is there before all others ask for theirs.
            async with self.reading(Pool.LEASES) as tx:
                with translated():
                    await require_schema(tx.connection)
        except (DatabaseUnavailableError, DatabaseDefectError):
            await self.close()
            raise

    async def why_not_serving(self) -> str | None:
        """Return in one sentence what PostgreSQL refuses, or refused in the last seconds; None when it serves.

        Raises:
            DatabaseUnavailableError: PostgreSQL is away.
        """
        async with self.reading(Pool.RELAY) as tx:
            with translated():
                is_read_only = await tx.connection.fetchval("SHOW transaction_read_only") == "on"
        if is_read_only:
            await self._distrust_connections()
            return "The database takes no changes: it is read-only, or a replica."
        is_recent = time.monotonic() - self._refused_at < _REFUSAL_COUNTS_FOR.total_seconds()
        return self._refusal if is_recent else None

    def pool_readings(self) -> list[PoolReading]:
        """Return how each pool is used now."""
        return [
            PoolReading(pool.value, lender.get_size(), lender.get_size() - lender.get_idle_size(), self._waiting[pool])
            for pool, lender in self._pools.items()
        ]

    async def close(self) -> None:
        """End every connection, those that are lent out after a moment's grace."""
        pools, self._pools = self._pools, {}
        await asyncio.gather(*(_close(pool) for pool in pools.values()))

    @asynccontextmanager
    async def transaction(self, pool: Pool = Pool.CALLERS) -> AsyncIterator[PostgresTransaction]:
        """Begin a transaction."""
        async with self._room(pool), self._lent(pool) as transaction, _begun(transaction.connection):
            yield transaction
            crash_point("before_commit", pool.value)
        transaction.tell_of_commit()
        self._tell(transaction, pool)

    @asynccontextmanager
    async def reading(self, pool: Pool = Pool.READERS) -> AsyncIterator[PostgresTransaction]:
        """Lend a connection."""
        async with self._room(pool), self._lent(pool) as transaction:
            yield transaction
        transaction.tell_of_commit()
        if transaction.has_changed_ledger:
            self._tell(transaction, pool)

    def _tell(self, transaction: PostgresTransaction, pool: Pool) -> None:
        """Wake the relays when they have something to look for."""
        crash_point("after_commit", pool.value)
        if transaction.has_changed_ledger:
            self._on_ledger_change()

    def _room(self, pool: Pool) -> AbstractAsyncContextManager[None]:
        """Return what has the ledger's work go one transaction at a time while callers are many."""
        makes_room = pool in _CAN_WAIT and self._callers.are_many
        return self._one if makes_room else nullcontext()

    @asynccontextmanager
    async def _lent(self, pool: Pool) -> AsyncIterator[PostgresTransaction]:
        # `close` forgets the pools, but what is lent out goes back to the one it came from.
        lender = self._pools.get(pool)
        if lender is None:
            raise DatabaseUnavailableError("The store is not open.", retry_after=timedelta(seconds=1))
        share = self._share(pool)
        self._waiting[pool] += 1
        try:
            with connecting():
                # The pool's own timeout would cost a task.
                async with asyncio.timeout(_ACQUIRE_WITHIN.total_seconds()):
                    lent = await _borrowed(lender, share)
        except DatabaseUnavailableError as error:
            self._note_refusal(error)
            if isinstance(error.__cause__, TimeoutError) and share.locked():
                raise NoConnectionFreeError("connections for this tenant") from error
            if isinstance(error.__cause__, TimeoutError) and lender.get_size() == lender.get_max_size():
                raise NoConnectionFreeError("connections") from error
            raise
        finally:
            self._waiting[pool] -= 1
        try:
            # The pool lends a proxy that behaves as the connection it stands for.
            yield PostgresTransaction(cast("_Connection", lent), self._known_environments)
        except DatabaseUnavailableError as error:
            self._note_refusal(error)
            if isinstance(error.__cause__, TimeoutError):
                await self._distrust_connections()
            raise
        finally:
            try:
                # What was done is done or undone by now; the pool replaces a connection that it cannot take back.
                with suppress(DatabaseUnavailableError), translated():
                    await lender.release(lent, timeout=self._settings[pool].silence.total_seconds())
            finally:
                share.release()

    def _share(self, pool: Pool) -> asyncio.Semaphore:
        """Return what a tenant may borrow at once, two thirds of the pool: its slow calls leave others connections."""
        tenant = current_tenant()
        if tenant is None:
            return asyncio.Semaphore()
        most = max(1, self._settings[pool].max_size * 2 // 3)
        return self._shares.setdefault((pool, tenant), asyncio.Semaphore(most))

    def _note_refusal(self, error: DatabaseUnavailableError) -> None:
        refusal = refusal_of(error)
        if refusal is not None:
            self._refusal, self._refused_at = refusal, time.monotonic()

    async def _distrust_connections(self) -> None:
        """Replace every connection before its next use: where one was lost without a word, the others were, too."""
        for pool in self._pools.values():
            await pool.expire_connections()

    async def transact(
        self, work: Callable[[PostgresTransaction], Awaitable[_Result]], pool: Pool = Pool.CALLERS
    ) -> _Result:
        """Run `work` in a transaction, again when the database gave way."""
        return await _run_again(work, lambda: self.transaction(pool))

    async def in_one_statement(
        self, work: Callable[[PostgresTransaction], Awaitable[_Result]], pool: Pool = Pool.CALLERS
    ) -> _Result:
        """Run `work`, one statement, again when the database gave way."""
        return await _run_again(work, lambda: self.reading(pool))


async def _run_again(
    work: Callable[[PostgresTransaction], Awaitable[_Result]],
    begin: Callable[[], AbstractAsyncContextManager[PostgresTransaction]],
) -> _Result:
    for attempt in range(1, _ATTEMPTS):
        try:
            async with begin() as transaction:
                return await work(transaction)
        except ConflictError:
            await asyncio.sleep(0.01 * attempt * (1 + random.random()))  # noqa: S311 - jitter, no secret
    async with begin() as transaction:
        return await work(transaction)


@asynccontextmanager
async def _begun(connection: _Connection) -> AsyncIterator[None]:
    """Begin a transaction, or a savepoint inside one, and end it with the block.

    The driver tells the loop of a transaction that somebody forgot, and takes one that was cancelled as it began for
    that, unless it is entered and left as a context.
    """
    with translated():
        transaction = connection.transaction()
        await transaction.__aenter__()
    try:
        yield
    except BaseException as error:
        await _roll_back(connection, transaction, error)
        raise
    with translated():
        await transaction.__aexit__(None, None, None)


async def _roll_back(
    connection: _Connection, transaction: asyncpg.transaction.Transaction, error: BaseException
) -> None:
    """Undo what was begun, and end the connection where that fails."""
    try:
        with translated():
            if not connection.is_closed():
                async with asyncio.timeout(_SILENCE.total_seconds()):
                    await transaction.__aexit__(type(error), error, error.__traceback__)
    except DatabaseUnavailableError:
        # The pool takes a connection that broke from its borrower, who can no longer end it.
        with suppress(asyncpg.InterfaceError):
            connection.terminate()


async def _borrowed(
    lender: asyncpg.Pool[asyncpg.Record], share: asyncio.Semaphore
) -> asyncpg.pool.PoolConnectionProxy[asyncpg.Record]:
    """Return a connection of a pool, taken from a share of it that the borrower gives back, too."""
    await share.acquire()
    try:
        return await lender.acquire()
    except BaseException:
        share.release()
        raise


async def _close(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    """End a pool's connections, without farewell where the database does not answer it."""
    try:
        with translated():
            async with asyncio.timeout(_CLOSE_WITHIN.total_seconds()):
                await pool.close()
    except DatabaseUnavailableError:
        pool.terminate()


async def _keep_as_it_is(_connection: _Connection) -> None:
    """Give a connection back without a round trip: nothing here outlives its transaction."""


def _milliseconds(duration: timedelta) -> str:
    return str(int(duration.total_seconds() * 1000))
