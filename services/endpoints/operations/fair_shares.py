"""Whose work comes first in a transaction that may have room for some of it only."""

from __future__ import annotations

from collections import Counter
from operator import itemgetter
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from uuid import UUID

_Item = TypeVar("_Item")


def in_turns(items: Iterable[_Item], *, owner: Callable[[_Item], UUID], size: Callable[[_Item], int]) -> list[_Item]:
    """Return each owner's first, the smallest of these at the beginning, then each one's second, and so on.

    An owner's own order stays. Where the room ends, nobody with little to do is left behind somebody with much.
    """
    turns: Counter[UUID] = Counter()
    ordered: list[tuple[tuple[int, int], _Item]] = []
    for item in items:
        whose = owner(item)
        ordered.append(((turns[whose], size(item)), item))
        turns[whose] += 1
    ordered.sort(key=itemgetter(0))
    return [item for _, item in ordered]
