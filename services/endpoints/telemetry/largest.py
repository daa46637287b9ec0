"""A counter that names only the largest, however many there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

OTHER: Final = "other"
# So many more are remembered than shown, so that one that grows is noticed before it is among the largest.
_REMEMBERED: Final = 4


class LargestCounter:
    """A counter with a series for each of the `most` largest combinations of labels, and one for the rest.

    All series together count everything, and none but one that stops being shown ever falls: what it counted goes to
    `other`. One that begins to be shown counts from there. Memory is bounded by `most`.

    Source: Metwally, Agrawal and El Abbadi, "Efficient Computation of Frequent and Top-k Elements in Data Streams".
    """

    def __init__(self, name: str, documentation: str, labels: Sequence[str], *, most: int) -> None:
        """Count from nothing; `name` is without `_total`."""
        self._name = name
        self._documentation = documentation
        self._labels = tuple(labels)
        self._most = most
        self._weights: dict[tuple[str, ...], int] = {}
        self._shown: dict[tuple[str, ...], int] = {}
        self._rest = 0

    def count(self, *labels: str) -> None:
        """Count one."""
        weight = self._weigh(labels)
        if labels in self._shown:
            self._shown[labels] += 1
        elif len(self._shown) < self._most:
            self._shown[labels] = 1
        else:
            smallest = min(self._shown, key=lambda shown: self._weights.get(shown, 0))
            if weight > self._weights.get(smallest, 0):
                self._rest += self._shown.pop(smallest)
                self._shown[labels] = 1
            else:
                self._rest += 1

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield what Prometheus reads."""
        family = CounterMetricFamily(self._name, self._documentation, labels=self._labels)
        for labels, count in self._shown.items():
            family.add_metric(labels, count)
        if self._rest:
            family.add_metric([OTHER] * len(self._labels), self._rest)
        yield family

    def describe(self) -> Iterator[CounterMetricFamily]:
        """Yield what will be shown, so that no other metric takes its name."""
        yield CounterMetricFamily(self._name, self._documentation, labels=self._labels)

    def _weigh(self, labels: tuple[str, ...]) -> int:
        weight = self._weights.pop(labels, 0)
        if not weight and len(self._weights) >= self._most * _REMEMBERED:
            lightest = min(self._weights, key=lambda known: self._weights[known])
            weight = self._weights.pop(lightest)
        self._weights[labels] = weight + 1
        return weight + 1
