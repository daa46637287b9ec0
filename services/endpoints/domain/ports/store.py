"""The store: transactions, and what can be asked inside one."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from services.endpoints.domain.ports.catalog import Catalog
    from services.endpoints.domain.ports.dispatch import Dispatch
    from services.endpoints.domain.ports.dispatchers import Dispatchers
    from services.endpoints.domain.ports.endpoints import Endpoints
    from services.endpoints.domain.ports.events import Events
    from services.endpoints.domain.ports.explanations import Explanations
    from services.endpoints.domain.ports.indexes import Indexes
    from services.endpoints.domain.ports.ledger import Ledger
    from services.endpoints.domain.ports.queue_control import QueueControl
    from services.endpoints.domain.ports.requests import Requests
    from services.endpoints.domain.ports.tenancy import Tenancy

_Result = TypeVar("_Result")


class Pool(Enum):
    """Whose connections a transaction takes, so that nobody's backlog starves another.

    READERS read what has one way of being found. LISTS are those for which it depends on what is asked, and on how much
    there is of it.
    """

    CALLERS = "callers"
    READERS = "readers"
    LISTS = "lists"
    CALLS = "calls"
    CALL_BACKS = "call backs"
    RELAY = "relay"
    LEASES = "leases"


class Transaction(Protocol):
    """One transaction, or one connection for reading: every statement of it goes through these groups."""

    @property
    def tenancy(self) -> Tenancy:
        """Organizations, projects, environments and tokens."""
        ...

    @property
    def requests(self) -> Requests:
        """Request ids."""
        ...

    @property
    def endpoints(self) -> Endpoints:
        """Endpoints."""
        ...

    @property
    def indexes(self) -> Indexes:
        """Endpoint indexes and their items."""
        ...

    @property
    def catalog(self) -> Catalog:
        """Jobs, sources, dynamic triggers and schedules."""
        ...

    @property
    def ledger(self) -> Ledger:
        """Queue jobs, lanes and windows."""
        ...

    @property
    def queue_control(self) -> QueueControl:
        """What operators do with the ledger."""
        ...

    @property
    def events(self) -> Events:
        """Event records."""
        ...

    @property
    def dispatch(self) -> Dispatch:
        """Deliveries, invocations and runs."""
        ...

    @property
    def dispatchers(self) -> Dispatchers:
        """Dispatchers."""
        ...

    @property
    def explanations(self) -> Explanations:
        """What came of events."""
        ...

    def after_commit(self, act: Callable[[], None]) -> None:
        """Have `act` called once the transaction has committed; it neither fails nor waits.

        It is never called when the transaction, or the savepoint in which this was asked, is rolled back. On a
        connection for reading it is called when that is given back.
        """
        ...

    def savepoint(self) -> AbstractAsyncContextManager[None]:
        """Open a savepoint: an exception undoes what was done inside, and only that."""
        ...


class Store(Protocol):
    """Gives transactions."""

    def transaction(self, pool: Pool = Pool.CALLERS) -> AbstractAsyncContextManager[Transaction]:
        """Begin a transaction that commits when the block ends and rolls back when it raises.

        Raises:
            ConflictError: the database gave way to concurrent work; nothing was written.
            DatabaseUnavailableError: PostgreSQL is away; on the way out of the block the outcome may be unknown.
        """
        ...

    def reading(self, pool: Pool = Pool.READERS) -> AbstractAsyncContextManager[Transaction]:
        """Lend a connection without a transaction: each statement commits by itself, whether it reads or writes."""
        ...

    async def transact(self, work: Callable[[Transaction], Awaitable[_Result]], pool: Pool = Pool.CALLERS) -> _Result:
        """Run `work` in a transaction, again (three times at most, with jitter) when the database gave way.

        `work` must not do anything but through its transaction.

        Raises:
            ConflictError: it gave way every time.
            DatabaseUnavailableError: PostgreSQL is away.
        """
        ...

    async def in_one_statement(
        self, work: Callable[[Transaction], Awaitable[_Result]], pool: Pool = Pool.CALLERS
    ) -> _Result:
        """Run `work`, which is one statement, as `transact` does: it commits by itself and takes one round trip.

        Raises:
            ConflictError: it gave way every time.
            DatabaseUnavailableError: PostgreSQL is away.
        """
        ...
