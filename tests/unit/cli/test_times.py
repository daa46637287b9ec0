"""Times as people type them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cli.failures import USAGE, CommandError
from cli.times import read_duration, read_moment, read_range, read_time

NOW = datetime(2026, 5, 17, 12, tzinfo=UTC)
BEYOND_UTC = ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("", None),
        ("90s", NOW - timedelta(seconds=90)),
        ("15m", NOW - timedelta(minutes=15)),
        ("2h", NOW - timedelta(hours=2)),
        ("7d", NOW - timedelta(days=7)),
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T08:00:00", datetime(2026, 1, 31, 8, tzinfo=UTC)),
        ("2026-01-31T08:00:00+02:00", datetime(2026, 1, 31, 6, tzinfo=UTC)),
        ("2026-01-31T08:00:00Z", datetime(2026, 1, 31, 8, tzinfo=UTC)),
    ],
)
def test_time_is_so_long_ago_or_a_date(text: str, moment: datetime | None) -> None:
    assert read_time("--since", text, now=NOW) == moment


@pytest.mark.parametrize(
    "text",
    ["yesterday", "2w", "-2h", "2 h", "2026-13-01", "999999d", "\u0662h", *BEYOND_UTC],
)
def test_anything_else_is_refused_by_the_options_name(text: str) -> None:
    with pytest.raises(CommandError, match="--until must be a time") as refused:
        read_time("--until", text, now=NOW)
    assert refused.value.exit_code == USAGE


@pytest.mark.parametrize(
    ("text", "length"),
    [("", None), ("0s", timedelta(0)), ("60s", timedelta(minutes=1)), ("2h", timedelta(hours=2))],
)
def test_duration_is_a_number_with_its_unit(text: str, length: timedelta | None) -> None:
    assert read_duration("--deliver-after", text) == length


@pytest.mark.parametrize("text", ["60", "1.5h", "-1s", "PT1H", "2026-01-31"])
def test_duration_that_is_none_is_refused_by_the_options_name(text: str) -> None:
    with pytest.raises(CommandError, match="--deliver-after must be a length of time") as refused:
        read_duration("--deliver-after", text)
    assert refused.value.exit_code == USAGE


def test_moment_is_a_date_and_never_so_long_ago() -> None:
    assert read_moment("--deliver-at", "") is None
    assert read_moment("--deliver-at", "2026-01-31") == datetime(2026, 1, 31, tzinfo=UTC)
    for text in ("2h", *BEYOND_UTC):
        with pytest.raises(CommandError, match="--deliver-at must be a time"):
            read_moment("--deliver-at", text)


def test_range_has_the_fields_that_were_given() -> None:
    assert read_range("", "", now=NOW) == {}
    assert read_range("2h", "1h", now=NOW) == {
        "created_from": NOW - timedelta(hours=2),
        "created_before": NOW - timedelta(hours=1),
    }
