"""Runs a test again that failed while the machine stood still."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from _pytest.runner import runtestprotocol

if TYPE_CHECKING:
    from collections.abc import Callable

# What waits for a database or a lease gives up after a few seconds.
_STANDSTILL: Final = 1.0
_KEY: Final = "stood still"


class AgainAfterStandstill:
    """Gives a test that failed one more run, if the machine stood still for a second or longer during the first.

    The code under test has limits of a few seconds: after a standstill of five every one of them is over, whatever the
    code does. What a fault test finds is believed at once, because it counts what was lost and not seconds.
    """

    def __init__(self, stood_still: Callable[[], float]) -> None:
        """Take what says for how many seconds the machine has stood still so far."""
        self._stood_still = stood_still
        self._stood_still()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Run a test, once or twice, and tell of its last run."""
        if item.path.parent.name == "faults":
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        before = self._stood_still()
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        seconds = self._stood_still() - before
        if seconds >= _STANDSTILL and any(report.failed for report in reports):
            reports = runtestprotocol(item, log=False, nextitem=nextitem)
            for report in reports:
                report.user_properties.append((_KEY, f"{seconds:.1f}"))
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Name the tests that had two runs."""
        twice = {
            report.nodeid: dict(report.user_properties)[_KEY]
            for reports in terminalreporter.stats.values()
            for report in reports
            if isinstance(report, pytest.TestReport) and _KEY in dict(report.user_properties)
        }
        if twice:
            terminalreporter.section("run again, because the machine stood still")
            for nodeid, seconds in twice.items():
                terminalreporter.line(f"{seconds} s  {nodeid}")
