from __future__ import annotations

import asyncpg
import pytest

from services.endpoints.domain.errors import DatabaseUnavailableError, StatementTooSlowError
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
