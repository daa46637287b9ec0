"""Gives every side its turn, round after round, so that a machine's moods meet all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.figures import Table
    from benchmarks.sides.side import Side


class Measurement(Protocol):
    """Takes figures from sides that have started, and makes tables of them when every side had its turns."""

    async def take(self, side: Side) -> None:
        """Measure one side once."""
        ...

    def tables(self) -> Sequence[Table]:
        """Return what was measured."""
        ...


async def take_turns(
    sides: Sequence[Side], measurements: Sequence[Measurement], *, rounds: int, progress: Callable[[str], None]
) -> None:
    """Start one side after the other, take every measurement and stop it; then begin the next round."""
    for number in range(rounds):
        for side in sides:
            progress(f"side by side, round {number + 1} of {rounds}: {side.name}")
            try:
                await side.start()
                for measurement in measurements:
                    await measurement.take(side)
            finally:
                await side.stop()
