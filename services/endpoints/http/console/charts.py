"""Line charts as numbers: where each line runs, for a template to draw as SVG."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from services.endpoints.http.console.history import WINDOW

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from services.endpoints.domain.queue_job import Queue
    from services.endpoints.http.console.history import Sample

WIDTH: Final = 600
HEIGHT: Final = 140
_STEPS: Final = (1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Line:
    """One queue's line; `points` are those of an SVG polyline, `now` is its last value."""

    name: str
    points: str
    now: float


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart of the last five minutes; its upper edge stands for `top`."""

    title: str
    unit: str
    top: float
    lines: tuple[Line, ...]


def waiting_chart(samples: Sequence[Sample]) -> Chart:
    """Return how many queue jobs of each queue were due and not taken."""
    return _chart("Waiting queue jobs", "", samples, lambda sample: sample.waiting)


def pickup_chart(samples: Sequence[Sample]) -> Chart:
    """Return how long each queue's queue jobs waited for a worker, in milliseconds."""
    return _chart(
        "Pickup latency, 95th percentile",
        "ms",
        samples,
        lambda sample: {queue: seconds * 1000 for queue, seconds in sample.pickup_seconds.items()},
    )


def round_up(value: float) -> float:
    """Return the next of 1, 2, 5, 10, 20, 50 …: 0 and 1 become 1, 3 becomes 5, 51 becomes 100."""
    scale = 1.0
    while value > scale * _STEPS[-1]:
        scale *= 10
    return next(scale * step for step in _STEPS if value <= scale * step)


def _chart(
    title: str, unit: str, samples: Sequence[Sample], values_of: Callable[[Sample], Mapping[Queue, float]]
) -> Chart:
    top = round_up(max((value for sample in samples for value in values_of(sample).values()), default=0.0))
    lines = []
    for queue in sorted({queue for sample in samples for queue in values_of(sample)}, key=lambda queue: queue.value):
        known = [(sample.at_seconds, values_of(sample)[queue]) for sample in samples if queue in values_of(sample)]
        points = [_point(samples[-1].at_seconds - at_seconds, value / top) for at_seconds, value in known]
        lines.append(Line(queue.value, " ".join(points), known[-1][1]))
    return Chart(title, unit, top, tuple(lines))


def _point(ago_seconds: float, share: float) -> str:
    """Return a point: now is at the right edge, five minutes ago at the left; a share of 1 is at the top."""
    x = WIDTH * (1 - ago_seconds / WINDOW.total_seconds())
    return f"{x:.1f},{HEIGHT * (1 - share):.1f}"
