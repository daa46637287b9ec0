"""Keeps the long fault tests for `make faults`, and sums up what they counted and measured."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest_asyncio

from tests.support.fault_stack import running_stack
from tests.support.invariants import DOUBLED, LOST, broken
from tests.support.servers import reachable_directory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    import pytest

    from tests.support.fault_stack import FaultStack

# Everything takes a quarter of an hour; without this variable only what takes a minute or two runs.
WHOLE = "KONGFLOW_FAULTS"


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
    if os.environ.get(WHOLE) == "whole":
        return
    long = [item for item in items if item.get_closest_marker("whole")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]


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
