"""What a measurement gives: latencies, and tables whose rows may have a target."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MILLISECONDS: Final = 1000.0


@dataclass(frozen=True, slots=True)
class Latencies:
    """Durations in seconds, at least one."""

    seconds: Sequence[float]

    def milliseconds(self, share: float) -> float:
        """Return the duration that `share` of all did not exceed, in milliseconds; `share` in (0, 1].

        Source: the nearest-rank method. Of 20 durations, share 0.95 gives the 19th and share 0.5 the 10th.
        """
        ordered = sorted(self.seconds)
        # Rounded first, because 0.95 * 20 is a little more than 19.
        return ordered[math.ceil(round(share * len(ordered), 9)) - 1] * _MILLISECONDS


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: what was measured, its values by column, and what was promised for some of them.

    `targets` are the most that a value may be, `least` the least.
    """

    name: str
    values: Mapping[str, float]
    targets: Mapping[str, float] = field(default_factory=dict)
    least: Mapping[str, float] = field(default_factory=dict)

    @property
    def missed(self) -> Sequence[str]:
        """Return the columns whose values are above the most or below the least that was promised."""
        return [
            *(column for column, most in self.targets.items() if self.values[column] > most),
            *(column for column, least in self.least.items() if self.values[column] < least),
        ]

    def promise(self, column: str) -> str:
        """Return what was promised for a column, such as `≤ 5`; nothing when nothing was."""
        if column in self.targets:
            return f"≤ {self.targets[column]:g}"
        return f"≥ {self.least[column]:g}" if column in self.least else ""


@dataclass(frozen=True, slots=True)
class Table:
    """One table; `notes` say how to read it."""

    key: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Row]
    notes: Sequence[str] = field(default_factory=tuple)
