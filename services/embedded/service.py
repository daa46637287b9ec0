"""One of our own services as a child process: where it logs, and why it ended."""

from __future__ import annotations

import json
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import kongflow.v1

from services.embedded.process import EmbeddedServerError, ServerProcess, status_text

if TYPE_CHECKING:
    from collections.abc import Mapping

# Above the services' own drain timeout, after which they end by themselves.
_STOP_WITHIN = timedelta(seconds=40)
_IMPORT_ROOTS = (Path(__file__).resolve().parents[2], Path(next(iter(kongflow.v1.__path__))).resolve().parents[1])


class Service:
    """Runs `python -m services.<name>` with these variables and no others.

    `log` is written afresh with every start. A service may be started again after it ended.
    """

    def __init__(self, name: str, *, log: Path, variables: Mapping[str, str]) -> None:
        self.name = name
        self.log = log
        self._variables = variables
        self._process: ServerProcess | None = None

    @property
    def pid(self) -> int:
        """Return the process id.

        Raises:
            EmbeddedServerError: it is not running.
        """
        return self._running().pid

    def start(self) -> None:
        """Start the process; that it runs does not say that it serves."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._process = ServerProcess(
            [sys.executable, "-m", f"services.{self.name}"],
            log=self.log,
            stop_signal=signal.SIGTERM,
            environment={
                "PATH": os.environ.get("PATH", os.defpath),
                "PYTHONPATH": os.pathsep.join(str(root) for root in _IMPORT_ROOTS),
                "PYTHONUNBUFFERED": "1",
                **self._variables,
            },
        )

    async def ended(self) -> str:
        """Wait until the process has ended and return a sentence that says so, with the last thing it logged."""
        status = await self._running().ended()
        return f"The {self.name} process ended ({status_text(status)}): {last_words(self.log)}"

    async def stop(self) -> None:
        """Let the process finish what it has begun and end it. Repeatable."""
        if self._process is not None:
            await self._process.stop(grace=_STOP_WITHIN)
            self._process = None

    async def kill(self) -> None:
        """End the process at once, as a crash would."""
        if self._process is not None:
            if not self._process.has_ended:
                os.kill(self._process.pid, signal.SIGKILL)
            await self._process.ended()
            self._process = None

    def _running(self) -> ServerProcess:
        if self._process is None:
            raise EmbeddedServerError(f"The {self.name} process is not running.")
        return self._process


def last_words(log: Path) -> str:
    """Return the last sentence of a service's log, or where the log is when it is empty."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    for line in reversed(lines):
        try:
            entry = json.loads(line)
        except ValueError:
            return line.strip()
        if isinstance(entry, dict) and "event" in entry:
            return f"{entry['event']} (see {log})"
    return f"see {log}"
