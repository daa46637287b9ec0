from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.endpoints.domain.versions import is_version, parse_version

NUMBER = st.integers(0, 10**15 - 1)


@given(st.tuples(NUMBER, NUMBER, NUMBER))
def test_a_version_is_its_three_numbers(numbers: tuple[int, int, int]) -> None:
    assert parse_version(".".join(map(str, numbers))) == numbers


def test_versions_compare_as_numbers() -> None:
    assert sorted(["10.0.0", "9.0.0", "9.10.0", "9.9.0"], key=lambda text: parse_version(text) or (0, 0, 0)) == [
        "9.0.0",
        "9.9.0",
        "9.10.0",
        "10.0.0",
    ]


@pytest.mark.parametrize(
    "text", ["", "1", "1.0", "1.0.0.0", "1.x.0", "v1.0.0", "1.0.0-rc", "1.0.0\n", "-1.0.0", "٣.0.0", "1" * 16 + ".0.0"]
)
def test_anything_else_is_no_version(text: str) -> None:
    assert parse_version(text) is None
    assert not is_version(text)
