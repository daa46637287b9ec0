"""Real grpcurl, installed with Go once into `build/`."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.support.absence import skip
from tests.support.go_build import GO_FLAGS

VERSION: Final = "v1.9.3"
_ROOT: Final = Path(__file__).resolve().parents[2]
_PACKAGE: Final = f"github.com/fullstorydev/grpcurl/cmd/grpcurl@{VERSION}"
_INSTALL_SECONDS: Final = 600


def installed_grpcurl() -> Path:
    """Return grpcurl's binary; without Go the test is skipped, and fails where CI is true."""
    folder = _ROOT / "build" / "tools" / f"grpcurl-{VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    binary = folder / "grpcurl"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not binary.exists():
            _install(folder)
    return binary


def _install(folder: Path) -> None:
    go = shutil.which("go")
    if go is None:
        skip("grpcurl is installed with Go, which is not here")
    outcome = subprocess.run(
        [str(go), "install", _PACKAGE],
        env={**os.environ, "GOBIN": str(folder), "GOFLAGS": GO_FLAGS},
        capture_output=True,
        text=True,
        check=False,
        timeout=_INSTALL_SECONDS,
    )
    if outcome.returncode != 0:
        skip(f"go install failed: {outcome.stderr[-500:]}")
