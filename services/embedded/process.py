"""A server process of ours: started, watched and stopped without leaving anything behind."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import signal
    from collections.abc import Coroutine, Mapping, Sequence
    from datetime import timedelta

LAUNCHER = Path(__file__).with_name("launcher.py")


class EmbeddedServerError(Exception):
    """Says in one sentence why an embedded server could not be started."""


class ServerAwayError(EmbeddedServerError):
    """Says that a server which was given by its URL, and is not started here, cannot be reached."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The user and the group a server process runs as."""

    user_id: int
    group_id: int


class ServerProcess:
    """Holds one running server process.

    The process has a session of its own, so a Ctrl-C at the terminal reaches its parent only, which then stops things
    in order. On Linux it is signalled when the thread that started it ends, and with `gives_way` it interrupts nobody
    when it is woken. Of our environment it is given only where shared libraries are, and of `environment` everything.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        stop_signal: signal.Signals,
        identity: Identity | None = None,
        environment: Mapping[str, str] | None = None,
        gives_way: bool = False,
    ) -> None:
        self._stop_signal = stop_signal
        self._ended: concurrent.futures.Future[int] = concurrent.futures.Future()
        self._ended.set_running_or_notify_cancel()
        user, group = (str(identity.user_id), str(identity.group_id)) if identity else ("", "")
        scheduling = "batch" if gives_way else ""
        ours = (str(os.getpid()), str(int(stop_signal)), user, group, scheduling)
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(LAUNCHER), *ours, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**_environment(), **(environment or {})},
                start_new_session=True,
            )
        threading.Thread(target=self._watch, name=f"wait-{self._process.pid}", daemon=True).start()

    @property
    def pid(self) -> int:
        """Return the process id; it stays the same from the launcher to the server."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Tell whether the process has ended."""
        return self._ended.done()

    async def ended(self) -> int:
        """Wait until the process has ended, however that came, and return its exit status (negative: a signal)."""
        return await asyncio.wrap_future(self._ended)

    async def stop(self, *, grace: timedelta) -> None:
        """Ask the process to end, kill it after `grace`, and wait until it is gone. Repeatable.

        A cancellation does not shorten it: see `uninterrupted`.
        """
        if not self.has_ended:
            await uninterrupted(self._stop(grace))

    async def _stop(self, grace: timedelta) -> None:
        self._process.send_signal(self._stop_signal)
        try:
            async with asyncio.timeout(grace.total_seconds()):
                await self.ended()
        except TimeoutError:
            self._process.kill()
            await self.ended()

    def _watch(self) -> None:
        self._ended.set_result(self._process.wait())


async def uninterrupted(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` to its end, though the task that waits for it is cancelled: that happens at the task's next pause.

    What is being stopped is not left half stopped, and an error that the task is about to end with is not replaced.
    """
    waiting = asyncio.current_task()
    task = asyncio.create_task(work)
    is_cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            is_cancelled = True
    if is_cancelled and waiting is not None:
        # Again, in place of the one that was caught: how many were asked for stays the same.
        waiting.uncancel()
        waiting.cancel()
    task.result()


def status_text(status: int) -> str:
    """Return in words how a process ended, by its exit status (negative: a signal)."""
    return f"signal {-status}" if status < 0 else f"exit code {status}"


def _environment() -> dict[str, str]:
    libraries = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH") if name in os.environ}
    return {"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath, **libraries}
