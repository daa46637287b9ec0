from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.endpoints.domain.versions import is_version

NUMBER = st.integers(0, 10**15 - 1)


@given(st.tuples(NUMBER, NUMBER, NUMBER))
def test_a_version_is_its_three_numbers(numbers: tuple[int, int, int]) -> None:
    assert is_version(".".join(map(str, numbers)))


@pytest.mark.parametrize(
    "text", ["", "1", "1.0", "1.0.0.0", "1.x.0", "v1.0.0", "1.0.0-rc", "1.0.0\n", "-1.0.0", "٣.0.0", "1" * 16 + ".0.0"]
)
def test_anything_else_is_no_version(text: str) -> None:
    assert not is_version(text)
