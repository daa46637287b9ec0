"""The table of metrics, the dashboard and the alerts speak of what the services really show."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from services.endpoints.telemetry.metrics import Metrics
from services.worker.metrics import WorkerMetrics

if TYPE_CHECKING:
    from collections.abc import Mapping

DASHBOARD = Path("deploy/grafana/dashboards/kongflow.json")
ALERTS = Path("deploy/prometheus/alerts.yml")
PROMETHEUS = Path("deploy/prometheus/prometheus.yml")
GUIDE = Path("docs/metrics.md")
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
ADDED = {"instance", "job"}


def collectors() -> list[Any]:
    registries = (Metrics().registry, WorkerMetrics().registry)
    return [
        each for registry in registries for each in {id(c): c for c in registry._names_to_collectors.values()}.values()
    ]


def type_of(collector: Any) -> str:
    return str(getattr(collector, "_type", "counter"))


def labels_of(collector: Any) -> tuple[str, ...]:
    return tuple(getattr(collector, "_labelnames", None) or getattr(collector, "_labels", None) or ())


def shown() -> Mapping[str, set[str]]:
    """Return the labels of every series that may be asked for, by name."""
    names: dict[str, set[str]] = {}
    for collector in collectors():
        for suffix in SUFFIXES[type_of(collector)]:
            more = {"le"} if suffix == "_bucket" else set()
            names[f"{collector._name}{suffix}"] = {*labels_of(collector), *more, *ADDED}
    return names


def expressions() -> list[str]:
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    rules = [rule for group in yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]
    return [target["expr"] for panel in panels for target in panel.get("targets", [])] + [
        rule["expr"] for rule in rules
    ]


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_asks_for_series_that_exist_by_labels_they_have(expression: str) -> None:
    names = shown()
    asked = re.findall(r"\bkongflow_\w+", expression)
    assert asked or re.search(r"\bkongflow:|\bup\b", expression)
    assert set(asked) <= names.keys()
    for name, selector in re.findall(r"\b(kongflow_\w+)\{([^}]*)\}", expression):
        assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector)) <= names[name]
    known = set().union(*(names[name] for name in asked)) if asked else ADDED
    for grouping in re.findall(r"by \(([^)]*)\)", expression):
        assert {label.strip() for label in grouping.split(",")} <= known


def test_recorded_rules_are_recorded_before_they_are_asked_for() -> None:
    text = ALERTS.read_text(encoding="utf-8")
    asked = {name for expression in expressions() for name in re.findall(r"kongflow:\w+:\w+", expression)}
    assert asked <= set(re.findall(r"record: (\S+)", text))


def test_every_alert_says_how_grave_it_is_what_happens_and_what_to_do() -> None:
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    alerts = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    assert len({rule["alert"] for rule in alerts}) == len(alerts) > 5
    for rule in alerts:
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert set(rule["annotations"]) == {"summary", "action"}


def test_prometheus_reads_the_alerts_and_scrapes_both_services() -> None:
    config = yaml.safe_load(PROMETHEUS.read_text(encoding="utf-8"))
    assert [PROMETHEUS.parent / name for name in config["rule_files"]] == [ALERTS]
    assert {job["job_name"] for job in config["scrape_configs"]} == {"kongflow-endpoints", "kongflow-worker"}


def test_every_series_is_on_the_dashboard_or_in_an_alert_and_none_is_there_for_nobody() -> None:
    text = "\n".join(expressions())
    unasked = {each._name for each in collectors() if each._name not in text}
    assert unasked <= {
        "kongflow_queue_jobs_run",
        "kongflow_worker_crashes",
        "kongflow_worker_messages_missing",
        "kongflow_worker_messages_popped",
        "kongflow_worker_messages_set_aside",
    }


def test_the_guide_lists_every_metric_with_its_labels_and_meaning() -> None:
    rows = re.findall(
        r"^\| `(kongflow_\w+)` \| (\w+) \| (.*?) \| (.*?) \|$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE
    )
    wanted = [
        (
            each._name + ("_total" if type_of(each) == "counter" else ""),
            type_of(each),
            ", ".join(f"`{label}`" for label in labels_of(each)),
            each._documentation,
        )
        for each in collectors()
    ]
    assert sorted(rows) == sorted(wanted)
