"""Parts of what is too much to be held at once."""

from __future__ import annotations

import pytest

from services.endpoints.operations.parts import in_parts


@pytest.mark.parametrize(
    ("sizes", "parts"),
    [
        ([], []),
        ([0, 0], [[0, 0]]),
        ([4, 6], [[4, 6]]),
        ([4, 7, 3, 1], [[4], [7, 3], [1]]),
        ([11, 1, 11], [[11], [1], [11]]),
    ],
)
def test_parts_keep_the_order_and_hold_as_much_as_fits_or_one(sizes: list[int], parts: list[list[int]]) -> None:
    assert list(in_parts(sizes, size=lambda size: size, most=10)) == parts
