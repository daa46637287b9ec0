from __future__ import annotations

import asyncpg
import pytest

from services.endpoints.domain.errors import DatabaseDefectError, DatabaseUnavailableError, StatementTooSlowError
from services.endpoints.store.errors import translated


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (asyncpg.QueryCanceledError("canceling statement"), "The database did not answer in time; try again."),
        (asyncpg.AdminShutdownError("shut"), "The database cannot be reached or cannot serve right now; try again."),
    ],
)
def test_cancelled_statement_is_told_from_a_database_that_is_away(error: Exception, message: str) -> None:
    with pytest.raises(DatabaseUnavailableError) as raised, translated():
        raise error

    assert raised.value.message == message
    assert raised.value.retry_after is not None


@pytest.mark.parametrize(("cause", "is_slow"), [("statement timeout", True), ("user request", False)])
def test_statement_that_took_too_long_is_told_from_one_that_somebody_ended(cause: str, *, is_slow: bool) -> None:
    with pytest.raises(DatabaseUnavailableError) as raised, translated():
        raise asyncpg.QueryCanceledError(f"canceling statement due to {cause}")
    assert isinstance(raised.value, StatementTooSlowError) is is_slow


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (asyncpg.InternalServerError("cache lookup failed"), "PostgreSQL answered with XX000, InternalServerError."),
        (asyncpg.UndefinedTableError("no such thing"), "PostgreSQL answered with 42P01, UndefinedTableError."),
        (asyncpg.ObjectInUseError("in use"), "PostgreSQL answered with 55006, ObjectInUseError."),
    ],
)
def test_error_that_nobody_expects_is_told_by_its_code_and_not_by_its_text(error: Exception, told: str) -> None:
    with pytest.raises(DatabaseDefectError, match=told) as raised, translated():
        raise error

    assert raised.value.__cause__ is error


@pytest.mark.parametrize("error", [asyncpg.OutOfMemoryError("53200"), asyncpg.PostgresIOError("58030")])
def test_database_without_means_is_away(error: Exception) -> None:
    with pytest.raises(DatabaseUnavailableError), translated():
        raise error
