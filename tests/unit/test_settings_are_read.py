"""Every setting is read by what it is about; one that nobody reads would promise what it does not do."""

from __future__ import annotations

import ast
from collections import defaultdict
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from services.endpoints.domain.endpoint_health import HealthPolicy
from services.endpoints.domain.ledger_settings import LedgerSettings, Retention
from services.endpoints.domain.retry import Backoff
from services.endpoints.operations.limits import CallLimits
from services.endpoints.rpc.deadlines import Deadlines
from services.endpoints.settings import EndpointsSettings
from services.endpoints.store.postgres import PoolSettings
from services.worker.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Collection

    from services.configuration.settings import ServiceSettings

ROOT = Path(__file__).parents[2]
OF_ENDPOINTS = ("services/endpoints/settings.py", "services/endpoints/tuning.py")
OF_WORKER = ("services/worker/settings.py",)
FOR_OTHERS = {"allow_plaintext", "queue_max_workers"}
"""What decides whether or how another setting is taken."""
BUNDLES = (Backoff, CallLimits, Deadlines, HealthPolicy, LedgerSettings, PoolSettings, Retention)


@cache
def readers() -> dict[str, set[str]]:
    """Return the files of the services that read an attribute of this name, by name."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in (ROOT / "services").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                found[node.attr].add(path.relative_to(ROOT).as_posix())
    return found


def properties_reading(field: str, files: Collection[str]) -> set[str]:
    """Return the properties and methods of the settings that read a field of theirs, and those that read these."""
    found: set[str] = set()
    for file in files:
        for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and any(
                isinstance(inner, ast.Attribute)
                and inner.attr == field
                and isinstance(inner.value, ast.Name)
                and inner.value.id == "self"
                for inner in ast.walk(node)
            ):
                found |= {node.name} | properties_reading(node.name, files)
    return found


@pytest.mark.parametrize(
    ("cls", "files", "field"),
    [
        *(
            (EndpointsSettings, OF_ENDPOINTS, field)
            for field in EndpointsSettings.model_fields
            if field not in FOR_OTHERS
        ),
        *((WorkerSettings, OF_WORKER, field) for field in WorkerSettings.model_fields if field not in FOR_OTHERS),
    ],
)
def test_every_setting_is_read_outside_the_settings(
    cls: type[ServiceSettings], files: tuple[str, ...], field: str
) -> None:
    names = {field} | properties_reading(field, files)

    assert any(readers()[name] - {*OF_ENDPOINTS, *OF_WORKER} for name in names), f"nobody reads {cls.__name__}.{field}"


@pytest.mark.parametrize(("bundle", "field"), [(bundle, one.name) for bundle in BUNDLES for one in fields(bundle)])
def test_every_number_that_settings_become_is_read(bundle: type, field: str) -> None:
    assert readers()[field] - {*OF_ENDPOINTS, *OF_WORKER}, f"nobody reads {bundle.__name__}.{field}"
