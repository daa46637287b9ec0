"""Keeps most fault tests for `make faults`, and sums up what they counted and measured."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.support.fault_stack import running_stack
from tests.support.invariants import DOUBLED, LOST, broken
from tests.support.servers import reachable_directory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from tests.support.fault_stack import FaultStack

# How much runs: what is marked `bounded`, a minute or two; most, a few minutes; the whole, a quarter of an hour.
_EXTENT = os.environ.get("KONGFLOW_FAULTS", "bounded")
_HERE = Path(__file__).parent


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_stack() -> AsyncIterator[FaultStack]:
    """One stack for all tests of this process."""
    with reachable_directory() as directory:
        async with running_stack(directory) as stack:
            yield stack


@pytest_asyncio.fixture(loop_scope="session")
async def stack(shared_stack: FaultStack) -> AsyncIterator[FaultStack]:
    """A whole stack at rest; afterwards it is healed, and nothing may be lost or doubled."""
    await shared_stack.heal()
    await shared_stack.settle()
    yield shared_stack
    await shared_stack.heal()
    await shared_stack.settle()
    assert await broken(shared_stack, {**LOST, **DOUBLED}) == []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = {item for item in items if item.path.is_relative_to(_HERE) and not _runs(item)}
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = [item for item in items if item not in left_out]


def _runs(item: pytest.Item) -> bool:
    is_long = item.get_closest_marker("whole") is not None
    match _EXTENT:
        case "whole":
            return True
        case "most":
            return not is_long
        case "bounded":
            return item.get_closest_marker("bounded") is not None and not is_long
        case unknown:
            raise pytest.UsageError(f"KONGFLOW_FAULTS is bounded, most or whole, not {unknown!r}.")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports: Sequence[Any] = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    figures = [str(value) for report in reports for name, value in report.user_properties if name == "figure"]
    if figures:
        terminalreporter.section("figures")
        for figure in figures:
            terminalreporter.write_line(figure)
    lanes = [dict(counts) for report in reports for name, counts in report.user_properties if name == "faults"]
    if not lanes:
        return
    terminalreporter.section("random faults")
    for name in lanes[0]:
        values = [lane[name] for lane in lanes]
        both = max(values) if name.startswith("worst") else sum(values)
        told = f"{both}  {values}" if name != "seed" else f"{values}"
        terminalreporter.write_line(f"{name.replace('_', ' '):>24}: {told}")
