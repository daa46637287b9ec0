"""Draws the side by side figures as one picture. Only this module needs matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from matplotlib import use
from matplotlib.figure import Figure

from benchmarks.report import machine
from benchmarks.throughput import BOTH, BOTH_RATIO, CASES, DRAIN, PAIR

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from benchmarks.figures import Table

_INCHES: Final = (14.0, 9.5)
_DOTS_PER_INCH: Final = 110
_BAR: Final = 0.8
_OURS: Final = "#1b6ca8"
_THEIRS: Final = ("#e07b39", "#f0b48a", "#7a9e7e", "#8d6a9f", "#bfa6cc", "#c0504d", "#dfa3a1", "#888888")
_SHADES: Final = ("#1b6ca8", "#6fa8d6", "#b9d6ec")
_NEEDED_FOR_GROWTH: Final = 0.9
_LEAST_MILLISECONDS: Final = 0.5


def draw(path: Path, tables: Sequence[Table]) -> None:
    """Write a PNG of throughput, pickup, growth and workers, as far as they are among `tables`."""
    use("Agg")
    by_key = {table.key: table for table in tables}
    panels: list[Callable[[Any], None]] = []
    cases = [(case.title, by_key[f"throughput-{case.key}"]) for case in CASES if f"throughput-{case.key}" in by_key]
    if cases:
        panels += [
            lambda axes: _draw_rates(axes, cases, BOTH, "Enqueue and drain at once, jobs/s"),
            lambda axes: _draw_rates(axes, cases, DRAIN, "Drain alone, jobs/s"),
        ]
    if "pickup-rates" in by_key:
        panels.append(lambda axes: _draw_pickup(axes, by_key["pickup-rates"]))
    if "growth" in by_key or "workers" in by_key:
        panels.append(lambda axes: _draw_ratios(axes, [by_key[key] for key in ("growth", "workers") if key in by_key]))
    figure = Figure(figsize=_INCHES, layout="constrained")
    figure.suptitle(f"KongFlow beside other job queues, one run on one machine ({machine()})")
    for number, panel in enumerate(panels, start=1):
        panel(figure.add_subplot((len(panels) + 1) // 2, 2, number))
    figure.savefig(path, dpi=_DOTS_PER_INCH, metadata={"Software": None})


def _draw_rates(axes: Any, cases: Sequence[tuple[str, Table]], column: str, title: str) -> None:  # noqa: ANN401 - matplotlib's own type
    names = [row.name for row in cases[0][1].rows]
    width = _BAR / len(names)
    theirs = iter(_THEIRS)
    for number, name in enumerate(names):
        values = [next(row.values[column] for row in table.rows if row.name == name) for _, table in cases]
        places = [case - _BAR / 2 + (number + 0.5) * width for case in range(len(cases))]
        bars = axes.bar(places, values, width, label=name, color=_OURS if name == PAIR else next(theirs, "#cccccc"))
        axes.bar_label(bars, [f"{value:,.0f}" for value in values], rotation=90, fontsize=7, padding=2)
    axes.set_title(title)
    axes.set_xticks(range(len(cases)), [name for name, _ in cases])
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.margins(y=0.15)
    axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=4)


def _draw_pickup(axes: Any, table: Table) -> None:  # noqa: ANN401 - as above
    columns = ("p50 ms", "p95 ms", "p99 ms")
    height = _BAR / len(columns)
    for number, column in enumerate(columns):
        places = [row - _BAR / 2 + (number + 0.5) * height for row in range(len(table.rows))]
        values = [max(row.values[column], _LEAST_MILLISECONDS) for row in table.rows]
        bars = axes.barh(places, values, height, label=column, color=_SHADES[number])
        axes.bar_label(bars, [f"{value:.1f}" for value in values], fontsize=7, padding=2)
    axes.set_title(table.title)
    axes.set_yticks(range(len(table.rows)), [row.name for row in table.rows], fontsize=8)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(left=_LEAST_MILLISECONDS)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("milliseconds from commit to handler, logarithmic")
    axes.margins(x=0.1)
    axes.legend(fontsize=8)


def _draw_ratios(axes: Any, tables: Sequence[Table]) -> None:  # noqa: ANN401 - as above
    ratios: Mapping[str, float] = {
        row.name: row.values[BOTH_RATIO] for table in tables for row in table.rows if BOTH_RATIO in row.values
    }
    bars = axes.barh(range(len(ratios)), list(ratios.values()), color=_OURS)
    axes.bar_label(bars, [f"{ratio:.2f}" for ratio in ratios.values()], fontsize=8, padding=2)
    axes.axvline(1, color="#888888", linewidth=1)
    axes.axvline(_NEEDED_FOR_GROWTH, color="#c0504d", linewidth=1, linestyle="--")
    axes.set_title("Times one worker on an empty ledger")
    axes.set_yticks(range(len(ratios)), list(ratios), fontsize=8)
    axes.set_xlabel("enqueue and drain; dashed: what growth may cost at most")
    axes.invert_yaxis()
    axes.margins(x=0.1)
