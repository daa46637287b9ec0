"""Crash points end the process where, and as late as, the variable says; each service has its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from services.endpoints import crash_points as of_the_server
from services.worker import crash_points as of_the_worker

if TYPE_CHECKING:
    from types import ModuleType

MODULES = [pytest.param(of_the_server, id="server"), pytest.param(of_the_worker, id="worker")]


@pytest.mark.parametrize("module", MODULES)
def test_nothing_ends_where_nothing_is_asked_for(module: ModuleType) -> None:
    ends: list[int] = []
    pass_by = module.crash_point_of("", ends.append)
    for place in module.PLACES:
        pass_by(place)
    assert ends == []


@pytest.mark.parametrize("module", MODULES)
def test_the_nth_passage_of_the_wanted_place_ends_the_process(module: ModuleType) -> None:
    ends: list[int] = []
    place, other = sorted(module.PLACES)[:2]
    crash = module.crash_point_of(f"{place}:2", ends.append)
    crash(other)
    crash(place)
    assert ends == []
    crash(place)
    assert ends == [module.EXIT_STATUS]


@pytest.mark.parametrize("module", MODULES)
def test_a_detail_narrows_the_place(module: ModuleType) -> None:
    ends: list[int] = []
    place = min(module.PLACES)
    crash = module.crash_point_of(f"{place}.default", ends.append)
    crash(place, "execution")
    assert ends == []
    crash(place, "default")
    assert ends == [module.EXIT_STATUS]


@pytest.mark.parametrize("text", ["nowhere", "before_commit:0", "before_commit:soon", ".callers"])
def test_a_place_that_is_not_there_is_a_mistake(text: str) -> None:
    with pytest.raises(ValueError, match=r"no place|invalid literal"):
        of_the_server.crash_point_of(text)
