"""The bookshop of `tests/acceptance/sdk_app`: a real app on the unmodified SDK, installed once, started on demand."""

from __future__ import annotations

import fcntl
import filecmp
import hashlib
import os
import select
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.absence import skip

if TYPE_CHECKING:
    from collections.abc import Iterator

API_KEY: Final = "tr_dev_Bookshop0000000000Aa"
CLIENT_ID: Final = "bookshop"

_ROOT: Final = Path(__file__).resolve().parents[2]
_SOURCE: Final = _ROOT / "tests" / "acceptance" / "sdk_app"
_FILES: Final = ("package.json", "package-lock.json", ".npmrc", "index.js")
_START_SECONDS: Final = 30
_INSTALL_SECONDS: Final = 300


@dataclass(frozen=True, slots=True)
class SdkApp:
    """A running bookshop."""

    url: str
    api_key: str
    client_id: str


def installed_sdk_app() -> Path:
    """Return a folder with the app and its packages; `npm ci` runs once per lock file, whoever comes first."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        skip("the SDK app needs Node.js and npm")
    digest = hashlib.sha256((_SOURCE / "package-lock.json").read_bytes()).hexdigest()[:12]
    folder = _ROOT / "build" / f"sdk-app-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in _FILES:
            # A copy that is the same may be read at this moment by an app that another process starts.
            if not (folder / name).exists() or not filecmp.cmp(_SOURCE / name, folder / name, shallow=False):
                shutil.copyfile(_SOURCE / name, folder / name)
        installed = folder / "installed"
        if not installed.exists():
            result = subprocess.run(
                [str(npm), "ci", "--ignore-scripts"],
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
                timeout=_INSTALL_SECONDS,
            )
            if result.returncode != 0:
                skip(f"npm ci failed: {result.stderr[-500:]}")
            installed.touch()
    return folder


@contextmanager
def running_sdk_app(
    *, api_key: str = API_KEY, client_id: str = CLIENT_ID, api_url: str = "http://127.0.0.1:1"
) -> Iterator[SdkApp]:
    """Run the app on a free port of its own until the block ends; `api_url` is where it calls the platform."""
    folder = installed_sdk_app()
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "TRIGGER_API_KEY": api_key,
        "TRIGGER_API_URL": api_url,
        "TRIGGER_CLIENT_ID": client_id,
        "PORT": "0",
    }
    node = str(shutil.which("node"))
    with subprocess.Popen(
        [node, "index.js"], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield SdkApp(url=_announced_url(process), api_key=api_key, client_id=client_id)
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()


def _announced_url(process: subprocess.Popen[str]) -> str:
    if process.stdout is None or not select.select([process.stdout], [], [], _START_SECONDS)[0]:
        pytest.fail("the SDK app did not say where it listens")
    line = process.stdout.readline()
    _, found, url = line.strip().partition(" listening on ")
    if not found:
        pytest.fail(f"the SDK app ended before it listened (code {process.poll()})")
    return url
