"""Every reason that an attempt is stored with is in the catalog, and so is a label of its own in the metrics."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from services.endpoints.domain.attempt_reason import AttemptReason
from services.endpoints.telemetry.numbers import known_reason

_SERVICE = Path(__file__).resolve().parents[3] / "services/endpoints"
# Where the reason stands among the arguments of what is stored with an attempt.
_TAKE_A_REASON = {"AttemptFailedError": None, "SnoozedError": None, "Failure": 2, "_final": None}


def reasons_given() -> list[ast.expr]:
    calls = [
        node
        for path in _SERVICE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _TAKE_A_REASON
    ]
    found = []
    for call in calls:
        place = _TAKE_A_REASON[call.func.id] if isinstance(call.func, ast.Name) else None
        found += [keyword.value for keyword in call.keywords if keyword.arg == "reason"]
        found += [] if place is None else call.args[place : place + 1]
    return found


def test_no_reason_is_spelled_where_it_is_given() -> None:
    given = reasons_given()
    assert len(given) >= len(AttemptReason)
    assert [ast.unparse(reason) for reason in given if isinstance(reason, ast.Constant | ast.JoinedStr)] == []


def test_statements_store_reasons_of_the_catalog() -> None:
    texts = (path.read_text() for path in (_SERVICE / "store/sql").glob("*.sql"))
    stored = {
        reason
        for text in texts
        for expression in re.findall(r"'reason',(.*?)(?:,\n|\n)", text)
        for reason in re.findall(r"'([A-Z_]+)'", expression)
    }
    assert stored >= {AttemptReason.LEASE_EXPIRED, AttemptReason.CANCELLED}
    assert stored <= set(AttemptReason)


@pytest.mark.parametrize("reason", AttemptReason)
def test_reason_is_a_label_and_a_name_of_capitals(reason: AttemptReason) -> None:
    assert known_reason(reason.value) == reason.value == reason.name
    assert known_reason(reason.value.lower()) == "other"
