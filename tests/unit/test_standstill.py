"""A test that failed while the machine stood still gets one more run, and no other does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

CONFTEST = """
from tests.support.standstill import AgainAfterStandstill

stood_still = 0.0


def pytest_configure(config):
    config.pluginmanager.register(AgainAfterStandstill(lambda: stood_still))
"""

TESTS = """
import conftest
import pytest

runs = []


@pytest.fixture(scope="module")
def once():
    runs.append("fixture")
    yield
    conftest.stood_still += 9


def test_fails_as_it_stands_still(once):
    conftest.stood_still += 5
    runs.append("first")
    assert runs.count("first") == 2


def test_fails_twice(once):
    conftest.stood_still += 1
    runs.append("second")
    assert runs.count("second") == 3


def test_fails_while_it_runs(once):
    conftest.stood_still += 0.9
    runs.append("third")
    assert runs.count("third") == 2


def test_succeeds_as_it_stands_still(once):
    conftest.stood_still += 5
    runs.append("fourth")


def test_others():
    assert [runs.count(name) for name in ("fixture", "first", "second", "third", "fourth")] == [1, 2, 2, 1, 1]
"""


def run(folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_it.py").write_text(TESTS)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-pno:randomly", "-pno:cacheprovider", "--rootdir", folder.parent, folder],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    ).stdout


def test_failure_while_the_machine_stood_still_is_tried_once_more(tmp_path: Path) -> None:
    said = run(tmp_path / "integration")
    assert "2 failed, 3 passed" in said, said
    twice = said.partition("run again, because the machine stood still")[2].partition("short test summary")[0]
    assert twice.split()[1:-1] == [
        *("5.0", "s", "integration/test_it.py::test_fails_as_it_stands_still"),
        *("1.0", "s", "integration/test_it.py::test_fails_twice"),
    ]


def test_what_a_fault_test_finds_is_believed_at_once(tmp_path: Path) -> None:
    said = run(tmp_path / "faults")
    assert "4 failed, 1 passed" in said, said
    assert "run again" not in said
