"""Keeps the long fault tests for `make faults`, and sums up what their lanes counted."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

# Everything takes a quarter of an hour; without this variable only what takes a minute or two runs.
WHOLE = "KONGFLOW_FAULTS"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ.get(WHOLE) == "whole":
        return
    long = [item for item in items if item.get_closest_marker("whole")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports: Sequence[Any] = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    lanes = [dict(counts) for report in reports for name, counts in report.user_properties if name == "faults"]
    if not lanes:
        return
    terminalreporter.section("random faults")
    for name in lanes[0]:
        values = [lane[name] for lane in lanes]
        both = max(values) if name.startswith("worst") else sum(values)
        told = f"{both}  {values}" if name != "seed" else f"{values}"
        terminalreporter.write_line(f"{name.replace('_', ' '):>24}: {told}")
