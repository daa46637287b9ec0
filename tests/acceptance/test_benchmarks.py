"""The benchmarks run; what they measure is no test's business."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.figures import Latencies, Row
from benchmarks.methods import unary_methods

pytestmark = pytest.mark.acceptance

_ROOT = Path(__file__).resolve().parents[2]


def test_quick_run_measures_every_unary_method_every_size_and_pickup(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--json", str(figures)],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "targets met on this machine" in run.stdout
    tables = {table["key"]: table["rows"] for table in json.loads(figures.read_text())["tables"]}
    for key in ("calls-1", "calls-32"):
        assert [row["name"] for row in tables[key]] == list(unary_methods())
    assert [row["name"] for row in tables["registrations"]] == ["10 jobs", "100 jobs"]
    assert [row["targets"] for row in tables["pickup"] if row["targets"]] == [{"p50 ms": 5.0, "p99 ms": 25.0}]
    measured = [row["values"]["p50 ms"] for key in ("floor", "calls-1", "calls-32") for row in tables[key]]
    assert all(value > 0 for value in measured)


def test_unary_methods_are_those_of_the_contract() -> None:
    methods = unary_methods()
    assert len(methods) == 29
    assert {"CreateEndpoint", "RotateApiKey", "GetJob", "GetQueueStats", "RunQueueJobs"} <= methods.keys()
    assert "WatchEndpointIndex" not in methods


@pytest.mark.parametrize(("share", "milliseconds"), [(0.5, 10_000), (0.95, 19_000), (0.99, 20_000), (0.01, 1000)])
def test_latency_of_a_share_is_the_nearest_rank(share: float, milliseconds: float) -> None:
    assert Latencies([float(number) for number in range(20, 0, -1)]).milliseconds(share) == milliseconds


def test_figure_at_its_target_is_met_and_above_is_missed() -> None:
    row = Row("call", {"p50 ms": 5.0, "p95 ms": 5.1, "p99 ms": 9.0}, {"p50 ms": 5.0, "p95 ms": 5.0})
    assert row.missed == ["p95 ms"]
