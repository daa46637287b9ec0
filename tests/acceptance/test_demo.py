"""`kongflow demo`: the main job from nothing to a checked result, and nothing left of it."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from cli import demo
from cli.__main__ import main
from cli.demo_findings import SAMPLE_FINDINGS
from tests.support.absence import skip
from tests.support.command import kongflow

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.acceptance


def test_demo_registers_the_sample_endpoint_checks_itself_and_cleans_up(directory: Path) -> None:
    result = kongflow("demo", variables={"TMPDIR": str(directory)})
    assert result.returncode == 0, result.stderr
    for shown in (
        *("count-bees", "supplier.seeds", "grower-digest", "deliverEvent"),
        *("water-plants", "which made 1 run", "payload.day", "events.invokeDispatcher", "All 31 numbers"),
    ):
        assert shown in result.stdout, shown
    assert list(directory.iterdir()) == []


def test_demo_prints_its_numbers_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--json"]) == 0
    outcome = json.loads(capsys.readouterr().out)
    assert outcome["ok"] is True
    assert outcome["findings"]["index jobs"] == 10
    assert outcome["findings"]["second item UNCHANGED"] == 14
    assert outcome["findings"]["run of water-plants"] == 1
    assert outcome["findings"]["no run because"].startswith("payload.day must be one of")


def test_demo_whose_numbers_are_wrong_fails_and_names_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "SAMPLE_FINDINGS", {**SAMPLE_FINDINGS, "catalog jobs": 11})
    assert main(["demo"]) == 1
    assert "catalog jobs is 10 and must be 11" in capsys.readouterr().err


def test_demo_registers_a_real_sdk_app() -> None:
    if shutil.which("node") is None or shutil.which("npm") is None:
        skip("the SDK app needs Node.js and npm")
    result = kongflow("demo", "--sdk", "--json")
    assert result.returncode == 0, result.stdout + result.stderr
    assert json.loads(result.stdout)["findings"]["index"] == "SUCCEEDED"
    assert json.loads(result.stdout)["findings"]["run of comet-seen"] == 1


def test_demo_with_an_sdk_app_says_when_node_is_absent(directory: Path) -> None:
    result = kongflow("demo", "--sdk", variables={"PATH": str(directory)})
    assert result.returncode == 2
    assert "needs Node.js" in result.stderr
