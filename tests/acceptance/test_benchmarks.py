"""The benchmarks run; what they measure is no test's business."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from benchmarks.figures import Latencies, Row
from benchmarks.methods import unary_methods
from benchmarks.sides.rivals import is_installed

pytestmark = pytest.mark.acceptance

_ROOT = Path(__file__).resolve().parents[2]


def _run(*options: str, within: timedelta = timedelta(seconds=580)) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *options],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=within.total_seconds(),
        check=False,
    )


def _tables(figures: Path) -> dict[str, dict[str, Any]]:
    return {table["key"]: table for table in json.loads(figures.read_text())["tables"]}


def test_quick_run_by_itself_measures_every_unary_method_every_size_and_pickup(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    run = _run("--quick", "registrations", "calls", "handlers", "--json", str(figures))
    assert run.returncode == 0, run.stdout + run.stderr
    assert "targets met on this machine" in run.stdout
    rows = {key: table["rows"] for key, table in _tables(figures).items()}
    for key in ("calls-1", "calls-32"):
        assert [row["name"] for row in rows[key]] == list(unary_methods())
    assert [row["name"] for row in rows["registrations"]] == ["10 jobs", "100 jobs"]
    assert [row["targets"] for row in rows["handlers"] if row["targets"]] == [{"p50 ms": 5.0, "p99 ms": 25.0}]
    measured = [row["values"]["p50 ms"] for key in ("floor", "calls-1", "calls-32") for row in rows[key]]
    assert all(value > 0 for value in measured)


def test_quick_run_side_by_side_measures_the_pair_beside_every_queue_that_is_there(tmp_path: Path) -> None:
    figures, chart = tmp_path / "figures.json", tmp_path / "chart.png"
    drawn = ["--chart", str(chart)] if is_installed("matplotlib") else []
    sections = ("throughput", "pickup", "idle", "growth", "workers", "telemetry")
    run = _run("--quick", *sections, "--json", str(figures), *drawn)
    assert run.returncode == 0, run.stdout + run.stderr
    tables = _tables(figures)
    for key in ("throughput-a", "throughput-b", "throughput-c"):
        rows = {row["name"]: row for row in tables[key]["rows"]}
        assert all(row["values"]["both /s"] > 0 for row in rows.values())
        assert rows["arq, poll 10 ms"]["least"] == {"both ratio": 3 if key == "throughput-c" else 4}
        notes = " ".join(tables["throughput-c"]["notes"])
        for library in ("pair", "arq", "procrastinate", "pgqueuer", "River"):
            is_measured = any(name.startswith(library) for name in rows)
            assert is_measured != (f"Left out: {library}, because" in notes)
    assert [row["name"] for row in tables["pickup-rates"]["rows"] if row["targets"]] == [
        "pair",
        "pair, 10 calls in flight",
    ]
    assert tables["idle"]["rows"][0]["targets"] == {"% of a core": 2.0}
    assert [row["least"] for row in tables["growth"]["rows"]] == [{}, {"both ratio": 0.9}] * 3
    assert [row["name"] for row in tables["workers"]["rows"]][:2] == [
        "(a) 100 lanes: pair",
        "(a) 100 lanes: pair, 2 workers",
    ]
    observed = tables["telemetry"]["rows"]
    assert [row["name"] for row in observed][0::3] == ["no-ops (a) 100 lanes", "SendEvent, 32 callers"]
    assert [row["least"] for row in observed] == [{"ratio": 0.9}] * 4
    assert all(row["values"]["observed /s"] > 0 for row in observed)
    assert not drawn or chart.read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(is_installed("matplotlib"), reason="matplotlib is there")
def test_chart_without_matplotlib_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    run = _run("--chart", str(tmp_path / "chart.png"), within=timedelta(seconds=60))
    assert run.returncode == 2
    assert "--chart needs matplotlib" in run.stderr


def test_unknown_section_is_refused() -> None:
    run = _run("pickups", within=timedelta(seconds=60))
    assert run.returncode == 2
    assert "pickups" in run.stderr


def test_unary_methods_are_those_of_the_contract() -> None:
    methods = unary_methods()
    assert len(methods) == 51
    assert {
        "CreateEndpoint",
        "RotateApiKey",
        "RotateToken",
        "GetJob",
        "SendEvent",
        "GetRun",
        "GetQueueStats",
        "RunQueueJobs",
    } <= methods.keys()
    assert "WatchEndpointIndex" not in methods


@pytest.mark.parametrize(("share", "milliseconds"), [(0.5, 10_000), (0.95, 19_000), (0.99, 20_000), (0.01, 1000)])
def test_latency_of_a_share_is_the_nearest_rank(share: float, milliseconds: float) -> None:
    assert Latencies([float(number) for number in range(20, 0, -1)]).milliseconds(share) == milliseconds


def test_figure_at_its_target_is_met_and_above_is_missed() -> None:
    row = Row("call", {"p50 ms": 5.0, "p95 ms": 5.1, "p99 ms": 9.0}, {"p50 ms": 5.0, "p95 ms": 5.0})
    assert row.missed == ["p95 ms"]
