"""The kongflow command as a process: run to its end, or kept running until the test has seen enough."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT: Final = Path(__file__).resolve().parents[2]
_END_SECONDS: Final = 60


def environment(**variables: str) -> dict[str, str]:
    """Return this process's environment without its KONGFLOW_* variables, and with these."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("KONGFLOW_")}
    return {**inherited, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'gen'}", **variables}


def kongflow(
    *arguments: str, variables: Mapping[str, str] | None = None, cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "cli", *arguments],
        cwd=cwd,
        env=environment(**(variables or {})),
        capture_output=True,
        text=True,
        check=False,
        timeout=_END_SECONDS,
    )


@dataclass(frozen=True, slots=True)
class RunningUp:
    """A running `kongflow up`: what it said when it was ready, and everything it started."""

    process: subprocess.Popen[str]
    ready: dict[str, Any]
    directory: Path

    @property
    def family(self) -> list[psutil.Process]:
        """Return the process and all that descends from it."""
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def member(self, name: str) -> psutil.Process:
        """Return the one descendant whose command line holds `name`."""
        (found,) = [one for one in self.family if any(name in part for part in one.cmdline())]
        return found

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another command that finds this stack by its directory."""
        return kongflow(*arguments, variables={"KONGFLOW_DIRECTORY": str(self.directory)})

    def run_json(self, *arguments: str) -> Any:
        """Run another command with --json and return what it printed."""
        result = self.run(*arguments, "--json")
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(_END_SECONDS)


@contextmanager
def running_up(directory: Path, **variables: str) -> Iterator[RunningUp]:
    """Run `kongflow up` on free ports in `directory`; end it with the block unless the test has."""
    with started_up(directory, **variables) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            pytest.fail(f"kongflow up ended before it was ready:\n{process.communicate()[1]}")
        running = RunningUp(process=process, ready=json.loads(line), directory=directory)
        yield running


@contextmanager
def started_up(directory: Path, *arguments: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """Start `kongflow up` on free ports without waiting for it; end it with the block unless the test has."""
    given = {
        "KONGFLOW_DIRECTORY": str(directory),
        "KONGFLOW_GRPC_ADDRESS": "127.0.0.1:0",
        "KONGFLOW_HTTP_ADDRESS": "127.0.0.1:0",
        **variables,
    }
    with subprocess.Popen(
        [sys.executable, "-m", "cli", "up", *(arguments or ("--json",))],
        cwd=ROOT,
        env=environment(**given),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_END_SECONDS)
                process.kill()


def still_running(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return those of `processes` that have not ended; the dead whom nobody has buried yet count as ended."""
    running = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                running.append(process)
    return running
