"""Random filters and payloads from a seed, in numbers that hypothesis is too slow for."""

from __future__ import annotations

from random import Random
from typing import Any

KEYS = ["a", "b", "c", "$gt", "first name", ""]
TEXTS = ["", "a", "A", "ab", "ba", "é", "E\u0301", "e", "straße", "STRASSE", "1", "true", "a" * 300]
NUMBERS = [0, 1, 1.0, -1, 2, 0.5, 9007199254740992, 9007199254740993, 9007199254740992.0, 10**400, -0.0, 1e300]
SCALARS = [*TEXTS, *NUMBERS, True, False]


class FilterPairs:
    """Makes filters, payloads and JSON of any shape, small and of few values so that filters match often."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)  # noqa: S311 - a seed brings the same pairs back

    def filter(self, depth: int = 0) -> dict[str, Any]:
        return {self._random.choice(KEYS): self._clause(depth) for _ in range(self._random.randrange(3))}

    def payload(self, depth: int = 0) -> Any:
        choice = self._random.random()
        if depth < 4 and choice < 0.45:
            keys = [self._random.choice(KEYS) for _ in range(self._random.randrange(5))]
            return {key: self.payload(depth + 1) for key in keys}
        if depth < 4 and choice < 0.6:
            return [self.payload(depth + 1) for _ in range(self._random.randrange(4))]
        return None if choice > 0.95 else self._random.choice(SCALARS)

    def malformed(self) -> Any:
        """Return a filter in which something is out of place, most of the time."""
        pattern = self.filter()
        pattern[self._random.choice(KEYS)] = self._random.choice([self.payload(), [self.payload(), self.payload()]])
        return self._random.choice([pattern, pattern, self.payload()])

    def _clause(self, depth: int) -> Any:
        choice = self._random.random()
        if depth < 3 and choice < 0.35:
            return self.filter(depth + 1)
        if choice < 0.4:
            return []
        if choice < 0.65:
            return [self._operator() for _ in range(self._random.randrange(1, 3))]
        pool: list[Any] = self._random.choice([TEXTS, NUMBERS, [True, False]])
        return [self._random.choice(pool) for _ in range(self._random.randrange(1, 4))]

    def _operator(self) -> dict[str, Any]:
        choose = self._random.choice
        operands: dict[str, list[Any]] = {
            "$startsWith": [choose(TEXTS)],
            "$endsWith": [choose(TEXTS)],
            "$ignoreCaseEquals": [choose(TEXTS)],
            "$exists": [True, False],
            "$isNull": [True, False],
            "$anythingBut": [choose(SCALARS), [choose(SCALARS), choose(SCALARS)], []],
            "$gt": [choose(NUMBERS)],
            "$gte": [choose(NUMBERS)],
            "$lt": [choose(NUMBERS)],
            "$lte": [choose(NUMBERS)],
            "$between": [[choose(NUMBERS), choose(NUMBERS)]],
            "$includes": [choose(SCALARS)],
            "$not": [choose(SCALARS)],
        }
        names = self._random.sample(list(operands), self._random.choice([1, 1, 1, 2]))
        return {name: choose(operands[name]) for name in names}
