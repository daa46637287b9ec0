"""The apps that the demo registers: the sample endpoint in Python, or a real SDK app on Node.js."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cli.demo_events import DemoEvent
from cli.failures import USAGE, CommandError
from services.embedded.process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

_ROOT: Final = Path(__file__).resolve().parents[1]
_SDK_APP: Final = _ROOT / "examples" / "sdk_app"
_SDK_FILES: Final = ("package.json", "package-lock.json", ".npmrc", "index.js")
_LISTENS_WITHIN: Final = timedelta(seconds=30)
_STOPS_WITHIN: Final = timedelta(seconds=5)
_LOOK_AGAIN_AFTER: Final = timedelta(milliseconds=20)


@dataclass(frozen=True, slots=True)
class DemoApp:
    """An app to start: how, with which variables, the slug it calls itself, and events that its jobs listen to."""

    slug: str
    command: tuple[str, ...]
    variables: Mapping[str, str]
    events: tuple[DemoEvent, ...]


def _install(npm: str, folder: Path) -> None:
    """Install what the lock file names, once."""
    installed = folder / "installed"
    if installed.exists():
        return
    outcome = subprocess.run(
        [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if outcome.returncode:
        said = (outcome.stderr.strip() or outcome.stdout.strip()).splitlines()
        reasons = [line for line in said if "A complete log of this run" not in line]
        raise CommandError(f"npm could not install the SDK app: {reasons[-1] if reasons else 'it did not say why'}")
    installed.touch()


def sample_app() -> DemoApp:
    """Return the sample endpoint.

    Raises:
        CommandError: the examples are not here.
    """
    if not (_ROOT / "examples" / "sample_endpoint").is_dir():
        raise CommandError("The demo needs KongFlow's examples: run it in a checkout.", exit_code=USAGE)
    return DemoApp(
        slug="greenhouse",
        command=(sys.executable, "-m", "examples.sample_endpoint"),
        variables={"PYTHONPATH": str(_ROOT)},
        events=(
            DemoEvent("soil.dry", '{"bed": "tomatoes", "moisture": 12}'),
            DemoEvent("air.hot", '{"degrees": 41.5}'),
            DemoEvent("visitor.came", '{"day": "monday"}'),
        ),
    )


def sdk_app() -> DemoApp:
    """Return the SDK app, its packages installed in `build/` once for each lock file.

    Raises:
        CommandError: there is no Node.js or npm, or npm fails.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise CommandError("demo --sdk needs Node.js 18 or later with npm: neither may be absent.", exit_code=USAGE)
    if not _SDK_APP.is_dir():
        raise CommandError("The demo needs KongFlow's examples: run it in a checkout.", exit_code=USAGE)
    digest = hashlib.sha256((_SDK_APP / "package-lock.json").read_bytes()).hexdigest()[:12]
    folder = _ROOT / "build" / f"sdk-demo-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    for name in _SDK_FILES:
        shutil.copyfile(_SDK_APP / name, folder / name)
    with (folder / "lock").open("w") as lock:
        # Another demo may install at the same moment.
        fcntl.flock(lock, fcntl.LOCK_EX)
        _install(npm, folder)
    return DemoApp(
        slug="observatory",
        command=(node, str(folder / "index.js")),
        variables={},
        events=(
            DemoEvent("comet.seen", '{"name": "Halley", "magnitude": 2.1}'),
            DemoEvent("rain.began", "{}"),
            DemoEvent("comet.seen", '{"name": "Borrelly", "magnitude": 9.5}'),
        ),
    )


@asynccontextmanager
async def running_app(app: DemoApp, *, api_key: str, platform_url: str, directory: Path) -> AsyncIterator[str]:
    """Run the app on a free port until the block ends, and yield the url of its endpoint.

    Raises:
        CommandError: it did not say within 30 s where it listens.
    """
    log = directory / f"{app.slug}.log"
    process = ServerProcess(
        app.command,
        log=log,
        stop_signal=signal.SIGTERM,
        environment={
            "PATH": os.environ.get("PATH", os.defpath),
            **app.variables,
            "TRIGGER_API_KEY": api_key,
            "TRIGGER_API_URL": platform_url,
            "PORT": "0",
        },
    )
    try:
        yield await _announced_url(process, log)
    finally:
        await process.stop(grace=_STOPS_WITHIN)


async def _announced_url(process: ServerProcess, log: Path) -> str:
    """Return the url at the end of the line `<slug> listening on <url>`."""
    try:
        async with asyncio.timeout(_LISTENS_WITHIN.total_seconds()):
            while not (url := _url_in(_read(log))):
                if process.has_ended:
                    break
                await asyncio.sleep(_LOOK_AGAIN_AFTER.total_seconds())
    except TimeoutError:
        url = ""
    if not url:
        said = _read(log).strip().split("\n")
        raise CommandError(f"The app of the demo does not listen; it said: {said[-1] or 'nothing'}")
    return url


def _url_in(text: str) -> str:
    for line in text.splitlines(keepends=True):
        _, found, url = line.partition(" listening on ")
        if found and url.endswith("\n"):
            return url.strip()
    return ""


def _read(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")
