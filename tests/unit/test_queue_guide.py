"""The queue's guide names tests that exist and draws the transitions that the code allows."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from services.endpoints.domain.transitions import TRANSITIONS

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "queue.md").read_text(encoding="utf-8")
PROMISES = [
    block for block in re.split(r"\n\n", GUIDE.partition("## What is promised")[2].partition("\n## ")[0]) if block
]
PROOF = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@pytest.mark.parametrize(("path", "name"), sorted(set(PROOF.findall(GUIDE))))
def test_named_test_exists(path: str, name: str) -> None:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert name in names


def test_every_promise_names_its_test() -> None:
    promises = [promise for promise in PROMISES if promise.startswith("**")]
    assert len(promises) > 10
    assert [promise for promise in promises if not PROOF.search(promise)] == []


def test_table_is_the_one_in_the_code() -> None:
    rows = re.findall(r"^\| ([\w, ]+) \| ([A-Z, ]+) \| ([A-Z]+) \|$", GUIDE, flags=re.MULTILINE)
    assert {name: (set(states.split(", ")), target) for name, states, target in rows} == {
        transition.value: ({state.value for state in steps}, next(iter(steps.values())).value)
        for transition, steps in TRANSITIONS.items()
    }
