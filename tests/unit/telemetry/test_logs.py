from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest
import structlog

from services.endpoints.domain.errors import ConflictError
from services.endpoints.telemetry.logs import configure_logs

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "Failing row contains (tr_dev_key)."


@pytest.fixture(autouse=True)
def _structlog_as_before() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def refusal() -> Exception:
    """Return what PostgreSQL says of a row it refuses, below an error of nobody and one of the domain."""
    quoting = asyncpg.CheckViolationError(SECRET)
    quoting.add_note(SECRET)
    unexpected = raised(ValueError(SECRET), raised(quoting, None))
    return raised(ConflictError("It gave way.", retry_after=timedelta(seconds=1)), unexpected)


def raised(error: Exception, cause: Exception | None) -> Exception:
    with pytest.raises(type(error)):
        raise error from cause
    return error


def test_json_line_names_types_states_and_frames_but_quotes_no_data(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(level="INFO", log_format="json")
    structlog.get_logger().error("failed", exc_info=refusal())

    written = capsys.readouterr().err
    assert SECRET not in written
    exceptions = json.loads(written)["exception"]
    assert [(each["exc_type"], each["exc_value"], each.get("sqlstate")) for each in exceptions] == [
        ("ConflictError", "It gave way.", None),
        ("ValueError", "ValueError", None),
        ("CheckViolationError", "CheckViolationError", "23514"),
    ]
    assert [[frame["name"] for frame in each["frames"]] for each in exceptions] == [["raised"]] * 3


def test_members_of_a_group_are_named_without_their_texts(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(level="INFO", log_format="json")
    structlog.get_logger().error("failed", exc_info=ExceptionGroup(SECRET, [ValueError(SECRET), refusal()]))

    written = capsys.readouterr().err
    assert SECRET not in written
    (group,) = json.loads(written)["exception"]
    assert [chain[0]["exc_type"] for chain in group["exceptions"]] == ["ValueError", "ConflictError"]


def test_console_line_shows_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(level="INFO", log_format="console")
    structlog.get_logger().error("failed", exc_info=refusal())

    written = capsys.readouterr().err
    assert SECRET not in written
    assert "CheckViolationError: CheckViolationError (SQLSTATE 23514)" in written
    assert "in raised" in written
