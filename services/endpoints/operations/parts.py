"""What is too much to be held at once, part by part."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_Item = TypeVar("_Item")


def in_parts(items: Iterable[_Item], *, size: Callable[[_Item], int], most: int) -> Iterator[list[_Item]]:
    """Yield items, in their order, in parts that have at most `most` together, or one item that has more."""
    part: list[_Item] = []
    held = 0
    for item in items:
        weight = size(item)
        if part and held + weight > most:
            yield part
            part, held = [], 0
        part.append(item)
        held += weight
    if part:
        yield part
