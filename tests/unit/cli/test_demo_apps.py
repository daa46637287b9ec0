"""What the demo installs is installed once, whoever else does so, and npm's reason is told when it fails."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cli import demo_apps
from cli.failures import CommandError

# Refuses to run twice at once, and takes long enough to be met.
_NPM = """#!/bin/sh
mkdir busy || { echo "npm error ENOTEMPTY: somebody else is here" >&2; exit 1; }
echo ran >> runs
head -c 20000000 /dev/zero | cksum > /dev/null
rmdir busy
"""
_REFUSING_NPM = """#!/bin/sh
echo "npm error code ENOSPC" >&2
echo "npm error no space left on device" >&2
echo "npm error A complete log of this run can be found in: /nowhere" >&2
exit 1
"""


def tools(directory: Path, monkeypatch: pytest.MonkeyPatch, npm: str) -> None:
    """Let the demo find a Node.js that does nothing and this npm, and build below `directory`."""
    for name, text in (("node", "#!/bin/sh\n"), ("npm", npm)):
        tool = directory / name
        tool.write_text(text)
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    monkeypatch.setattr(demo_apps, "_ROOT", directory)


def test_demos_that_begin_at_once_install_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools(tmp_path, monkeypatch, _NPM)
    with ThreadPoolExecutor() as threads:
        apps = list(threads.map(lambda _: demo_apps.sdk_app(), range(4)))

    folder = Path(apps[0].command[1]).parent
    assert [Path(app.command[1]).parent for app in apps] == [folder] * 4
    assert (folder / "runs").read_text() == "ran\n"


def test_reason_that_npm_gives_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools(tmp_path, monkeypatch, _REFUSING_NPM)
    with pytest.raises(CommandError, match="no space left on device"):
        demo_apps.sdk_app()
