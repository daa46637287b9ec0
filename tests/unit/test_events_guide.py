"""The guide to events names tests that exist, and its table of filters is what the matcher does."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from services.endpoints.domain.explanation import Verdict
from services.endpoints.domain.filter import compile_filter
from services.endpoints.domain.filter_operators import _TESTS as OPERATORS

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
PROOF = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
FILTERS = re.findall(r"^\| `(.+?)` \| `(.+?)` \| (match|no match) \|$", GUIDE, re.MULTILINE)


@pytest.mark.parametrize(("path", "name"), sorted(set(PROOF.findall(GUIDE))))
def test_named_test_exists(path: str, name: str) -> None:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert name in names


@pytest.mark.parametrize(("pattern", "payload", "result"), FILTERS)
def test_filter_of_the_table_does_what_it_says(pattern: str, payload: str, result: str) -> None:
    assert compile_filter(json.loads(pattern)).matches(json.loads(payload)) is (result == "match")


def test_table_of_filters_has_every_operator() -> None:
    named = {operator for pattern, _, _ in FILTERS for operator in re.findall(r"\$\w+", pattern)}
    assert named == set(OPERATORS)


def test_verdicts_are_listed_in_the_order_in_which_they_count() -> None:
    rows = re.findall(r"^\| ([A-Z_]+) \|", GUIDE.partition("## Why did nothing run?")[2], re.MULTILINE)
    assert rows == [verdict.name for verdict in Verdict]
