"""Docker Compose, built from what tools/go.mod pins: it reads a compose file without an engine."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import subprocess
from pathlib import Path
from typing import Final

from tests.support.go_build import GO_FLAGS

_TOOLS: Final = Path(__file__).resolve().parents[2] / "tools"
_PACKAGE: Final = "github.com/docker/compose/v2/cmd"
_BUILD_SECONDS: Final = 850


def built_compose() -> Path:
    """Return the binary; it is built once for each state of the pins, whoever comes first.

    Two minutes of two processors are kept where it outlives the checkout: in the user's cache directory.
    """
    pinned = b"".join((_TOOLS / name).read_bytes() for name in ("go.mod", "go.sum"))
    digest = hashlib.sha256(pinned + platform.machine().encode()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "kongflow-tests" / f"compose-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    binary = folder / "compose"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not binary.exists():
            unfinished = folder / "unfinished"
            built = ["go", "build", "-o", str(unfinished), _PACKAGE]
            environment = {**os.environ, "GOFLAGS": GO_FLAGS}
            subprocess.run(built, cwd=_TOOLS, env=environment, check=True, timeout=_BUILD_SECONDS)
            unfinished.rename(binary)
    return binary
