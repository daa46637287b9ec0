"""Translates what asyncpg raises into the errors of the domain."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import asyncpg

from services.endpoints.domain.errors import (
    ConflictError,
    DatabaseDefectError,
    DatabaseUnavailableError,
    NoConnectionFreeError,
    StatementTooSlowError,
    is_out_of_descriptors,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_RETRY_CONFLICT_AFTER: Final = timedelta(milliseconds=100)
_RETRY_UNAVAILABLE_AFTER: Final = timedelta(seconds=1)

_CONFLICTS: Final = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
    # Every statement of the pool is prepared anew after it.
    asyncpg.InvalidCachedStatementError,
)
_UNAVAILABLE: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    ConnectionError,
    TimeoutError,
    OSError,
)
# PostgreSQL answers, but cannot do what a server is there for.
_REFUSALS: Final = (
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.CannotConnectNowError,
)


def refusal_of(error: DatabaseUnavailableError) -> str | None:
    """Return in one sentence what PostgreSQL refuses to everybody, None when this error tells of nothing like that."""
    cause = error.__cause__
    if not isinstance(cause, _REFUSALS):
        return None
    return f"The database refuses to serve ({cause.sqlstate}): {type(cause).__name__.removesuffix('Error')}."


@contextmanager
def translated() -> Iterator[None]:
    """Turn a driver's error into a domain error with the driver's as its cause.

    Raises:
        ConflictError: serialization failure, deadlock, lock timeout, or a plan from before a column changed its type.
        DatabaseUnavailableError: PostgreSQL is away, starting, read-only, out of resources, failed by its disk, or
            cancelled the statement.
        StatementTooSlowError: PostgreSQL ended the statement because of its own statement timeout.
        NoConnectionFreeError: this process can open no more connections.
        DatabaseDefectError: whatever else PostgreSQL answers.
    Source: PostgreSQL, appendix A, error codes.
    """
    try:
        yield
    except _CONFLICTS as error:
        raise ConflictError(
            f"The database had to give way to concurrent work ({error.sqlstate}); try again.",
            retry_after=_RETRY_CONFLICT_AFTER,
        ) from error
    except asyncpg.QueryCanceledError as error:
        # Somebody else may have cancelled it, or the server speaks another language: then it is only away.
        is_slow = "statement timeout" in str(error)
        raise (StatementTooSlowError if is_slow else DatabaseUnavailableError)(
            "The database did not answer in time; try again.", retry_after=_RETRY_UNAVAILABLE_AFTER
        ) from error
    except _UNAVAILABLE as error:
        if is_out_of_descriptors(error):
            raise NoConnectionFreeError("file descriptors") from error
        raise _away() from error
    except asyncpg.PostgresError as error:
        raise DatabaseDefectError(str(error.sqlstate), type(error).__name__) from error
    except RuntimeError as error:
        # What uvloop says of a transport that closed under a statement.
        if "handler is closed" not in str(error):
            raise
        raise _away() from error


@contextmanager
def connecting() -> Iterator[None]:
    """Turn a driver's error into a domain error while it connects: who refuses that is away, whatever is said.

    Raises:
        DatabaseUnavailableError: PostgreSQL is away, or lets nobody in.
        NoConnectionFreeError: this process can open no more connections.
    """
    try:
        with translated():
            yield
    except DatabaseDefectError as error:
        raise _away() from error


def _away() -> DatabaseUnavailableError:
    return DatabaseUnavailableError(
        "The database cannot be reached or cannot serve right now; try again.",
        retry_after=_RETRY_UNAVAILABLE_AFTER,
    )
