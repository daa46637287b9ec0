"""A counter that names only the largest."""

from __future__ import annotations

from services.endpoints.telemetry.largest import LargestCounter


def shown(counter: LargestCounter) -> dict[tuple[str, ...], float]:
    (family,) = counter.collect()
    return {tuple(sample.labels.values()): sample.value for sample in family.samples}


def test_the_largest_are_named_and_the_rest_are_other() -> None:
    counter = LargestCounter("made", "Made.", ["environment", "organization"], most=2)
    for environment, count in (("a", 3), ("b", 1), ("c", 2)):
        for _ in range(count):
            counter.count(environment, "o")
    assert shown(counter) == {("a", "o"): 3, ("c", "o"): 1, ("other", "other"): 2}


def test_everything_is_counted_and_memory_is_bounded_however_many_there_are() -> None:
    counter = LargestCounter("made", "Made.", ["environment"], most=5)
    for number in range(10_000):
        counter.count(str(number))
    series = shown(counter)
    assert sum(series.values()) == 10_000
    assert len(series) <= 6
    assert len(counter._weights) <= 20


def test_one_that_is_still_shown_never_falls() -> None:
    counter = LargestCounter("made", "Made.", ["environment"], most=2)
    before: dict[tuple[str, ...], float] = {}
    for number in range(2_000):
        counter.count(str(number % 7 if number % 3 else number % 2))
        now = shown(counter)
        assert all(now[labels] >= value for labels, value in before.items() if labels in now)
        before = now
