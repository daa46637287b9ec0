"""When callers are so many that work makes room for them."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from services.endpoints.domain.callers import MANY, PAUSE, Callers


@dataclass
class Clock:
    seconds: float = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def callers(clock: Clock) -> Callers:
    return Callers(monotonic=clock)


def test_few_callers_are_not_many(callers: Callers) -> None:
    with ExitStack() as calls:
        for _ in range(MANY - 1):
            calls.enter_context(callers.calling())
        assert not callers.are_many
        calls.enter_context(callers.calling())
        assert callers.are_many


def test_callers_were_many_until_a_pause_has_passed(callers: Callers, clock: Clock) -> None:
    with ExitStack() as calls:
        for _ in range(MANY):
            calls.enter_context(callers.calling())
        clock.seconds += 60
    assert callers.are_many
    clock.seconds += PAUSE.total_seconds() - 0.001
    assert callers.are_many
    clock.seconds += 0.002
    assert not callers.are_many


def test_who_waits_elsewhere_takes_no_room(callers: Callers, clock: Clock) -> None:
    with ExitStack() as calls:
        for _ in range(MANY):
            calls.enter_context(callers.calling())
        with callers.elsewhere():
            clock.seconds += 1
            assert not callers.are_many
        assert callers.are_many


def test_a_call_that_fails_is_no_longer_counted(callers: Callers, clock: Clock) -> None:
    for _ in range(MANY):
        with pytest.raises(OSError, match="lost"), callers.calling():
            raise OSError("lost")
    with ExitStack() as calls:
        for _ in range(MANY - 1):
            calls.enter_context(callers.calling())
        clock.seconds += 1
        assert not callers.are_many
