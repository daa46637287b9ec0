"""No number of the services is forgotten: each is a setting, the default of one, or fixed for a reason."""

from __future__ import annotations

import ast
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from services.endpoints.adapter_settings import deadlines_of, pools_of
from services.endpoints.rpc.deadlines import Deadlines
from services.endpoints.settings import EndpointsSettings
from services.endpoints.store.postgres import DEFAULT_POOLS
from tools.fixed_numbers import DEFAULTS, GROUPS, render_fixed_numbers, value_of
from tools.number_texts import bytes_text, count_text, duration_text

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVICES = Path(__file__).parents[3] / "services"
LISTED = {name for rows in GROUPS.values() for row in rows for name in row.names}


def constants() -> Iterator[str]:
    """Yield `module:NAME` of every public constant of the services but the embedded default's."""
    for path in sorted(SERVICES.rglob("*.py")):
        place = path.relative_to(SERVICES).with_suffix("").parts
        if place[0] == "embedded" or "versions" in place or place[-1] == "__main__":
            continue
        for statement in ast.parse(path.read_text(encoding="utf-8")).body:
            targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
            for target in targets:
                if isinstance(target, ast.Name) and target.id.isupper() and is_asked_about(target.id):
                    yield f"{'.'.join(place)}:{target.id}"


def is_asked_about(name: str) -> bool:
    """Tell whether a constant is public and no status of HTTP."""
    return not name.startswith("_") and name not in HTTPStatus.__members__


def is_number(name: str) -> bool:
    try:
        value_of(name)
    except TypeError:
        return False
    return True


def test_every_public_number_is_a_settings_default_or_fixed_for_a_reason() -> None:
    numbers = {name for name in constants() if is_number(name)}

    forgotten = numbers - LISTED - DEFAULTS.keys()

    assert forgotten == set(), "make it a setting, or say in tools/fixed_numbers.py why it is none"
    assert len(numbers) > 50


def test_nothing_is_both_a_default_and_fixed() -> None:
    assert LISTED & DEFAULTS.keys() == set()


@pytest.mark.parametrize("row", [row for rows in GROUPS.values() for row in rows], ids=lambda row: row.what)
def test_what_stands_in_several_places_is_the_same_everywhere(row: object) -> None:
    names = getattr(row, "names", ())
    assert len({value_of(name) for name in names}) == (1 if names else 0)


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_default_is_that_of_its_setting(name: str) -> None:
    default = EndpointsSettings.model_fields[DEFAULTS[name]].default
    value = value_of(name)
    assert default == (value.total_seconds() if isinstance(value, timedelta) else value)


def test_deadlines_and_pools_have_the_defaults_of_their_settings() -> None:
    settings = EndpointsSettings(database_url="postgresql://", secret_keys=f"{'1' * 64}", lookup_pepper=f"{'2' * 64}")

    assert deadlines_of(settings) == Deadlines()
    assert pools_of(settings) == DEFAULT_POOLS


def test_every_row_has_a_reason() -> None:
    page = render_fixed_numbers()

    for rows in GROUPS.values():
        for row in rows:
            assert row.why
            assert f"| {row.what} | " in page


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.075, "75 ms"),
        (1, "1 s"),
        (1.5, "1.5 s"),
        (60, "1 min"),
        (90, "90 s"),
        (86_400, "1 d"),
        (5_400, "90 min"),
    ],
)
def test_durations_are_shown_in_the_largest_unit_that_fits(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_sizes_and_counts_are_shown_for_people() -> None:
    assert [bytes_text(count) for count in (0, 8190, 1024, 3 << 20)] == ["0 bytes", "8,190 bytes", "1 KiB", "3 MiB"]
    assert [count_text(value) for value in (0.25, 2.0, 10_000)] == ["0.25", "2", "10,000"]
