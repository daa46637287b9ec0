"""Every test that the table of faults names is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_table_of_faults_names_tests_that_exist() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs/queue-faults.md").read_text())

    assert len(named) > 40
    assert [
        f"{path}::{name}" for path, name in named if not re.search(rf"def {name}\(", (ROOT / path).read_text())
    ] == []
