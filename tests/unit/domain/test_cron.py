from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.endpoints.domain.cron import find_cron_problem


@pytest.mark.parametrize(
    "text",
    [
        "* * * * *",
        "*/5 * * * *",
        "0 9-17/2 * * mon-fri",
        "30 0 9 * * 1",
        "0 0 1,15 * 7",
        "0 0 L * *",
        "0 0 ? * 5L",
        "0 0 ? * tue#2",
        "0 0 29 2 *",
        "0 0 31 JAN,mar *",
        "0 0 31 2 1",
        "5/10 * * * *",
        "@hourly",
        "@Daily",
        "  0   0 * * * ",
    ],
)
def test_what_can_match_is_accepted(text: str) -> None:
    assert find_cron_problem(text) is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "must have 5 fields, or 6 with leading seconds, and has 0"),
        ("* * * *", "and has 4"),
        ("* * * * * * *", "and has 7"),
        ("60 * * * *", "'60' as its minute, which must be 0 to 59"),
        ("* 24 * * *", "'24' as its hour"),
        ("* * 0 * *", "'0' as its day of month"),
        ("* * * 13 *", "'13' as its month"),
        ("* * * * 8", "'8' as its day of week"),
        ("60 * * * * *", "'60' as its second"),
        ("* * * foo *", "'foo' as its month"),
        ("*/0 * * * *", "step '0' in its minute"),
        ("*/x * * * *", "step 'x' in its minute"),
        ("30-10 * * * *", "range '30-10' in its minute, which runs backwards"),
        ("1,,2 * * * *", "'' as its minute"),
        ("-1 * * * *", "'' as its minute"),
        ("? * * * *", "'?' as its minute"),
        ("* * * * 1#6", "'1#6' as its day of week"),
        ("0 0 30 2 *", "never matches"),
        ("0 0 31 4,6 *", "never matches"),
        ("٣ * * * *", "as its minute"),
        ("* " * 101, "at most 200 characters"),
    ],
)
def test_what_never_matches_is_refused_with_its_field(text: str, problem: str) -> None:
    found = find_cron_problem(text)
    assert found is not None
    assert problem in found


@given(st.text(alphabet="0123456789*/,-?L# @adefjmnorstuwyh", max_size=40))
def test_any_text_gets_an_answer(text: str) -> None:
    found = find_cron_problem(text)
    assert found is None or found


@given(st.integers(0, 59), st.integers(0, 23), st.integers(1, 31), st.integers(0, 7))
def test_plain_numbers_in_range_are_accepted(minute: int, hour: int, day: int, weekday: int) -> None:
    assert find_cron_problem(f"{minute} {hour} {day} * {weekday}") is None
