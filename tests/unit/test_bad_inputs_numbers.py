"""Every row of the table of bad inputs is tried: by a row of the tables or by a test that carries its number."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from tests.support import bad_call_rows, bad_endpoint_rows, bad_event_rows

INTEGRATION: Final = Path(__file__).parents[1] / "integration"
# Numbers that are left out were given up before there was anything to test.
NUMBERS: Final = {
    *range(1, 14),
    *range(15, 18),
    *range(19, 25),
    *range(27, 40),
    *(41, 42),
    *range(44, 51),
    *range(52, 67),
    *range(68, 72),
    *(73, 74),
    *range(76, 81),
    82,
}


def test_every_row_is_tried() -> None:
    tables = (bad_call_rows.ROWS, bad_endpoint_rows.ROWS, bad_event_rows.ROWS)
    tried = {row.number for table in tables for row in table}
    for path in INTEGRATION.glob("test_bad_inputs_*.py"):
        for numbers in re.findall(r"def test_row_((?:\d+_)(?:and_\d+_)*)", path.read_text(encoding="utf-8")):
            tried |= {int(number) for number in re.findall(r"\d+", numbers)}
    assert tried == NUMBERS


def test_no_two_rows_have_the_same_name() -> None:
    rows = (*bad_call_rows.ROWS, *bad_endpoint_rows.ROWS, *bad_event_rows.ROWS)
    names = [(row.number, row.name) for row in rows]
    assert len(names) == len(set(names)) > 130
