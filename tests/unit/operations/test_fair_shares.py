"""Whose work comes first where there may be room for some of it only."""

from __future__ import annotations

from uuid import UUID

from services.endpoints.operations.fair_shares import in_turns

OWNERS = {"a": UUID(int=1), "b": UUID(int=2)}


def ordered(*items: tuple[str, int]) -> list[tuple[str, int]]:
    return in_turns(items, owner=lambda item: OWNERS[item[0][0]], size=lambda item: item[1])


def test_owners_take_turns_and_the_smallest_of_a_turn_comes_first() -> None:
    assert ordered(("a1", 900), ("a2", 1), ("a3", 7), ("b1", 3), ("b2", 8)) == [
        *(("b1", 3), ("a1", 900)),
        *(("a2", 1), ("b2", 8)),
        ("a3", 7),
    ]


def test_order_of_one_owner_stays() -> None:
    assert ordered(("a1", 9), ("a2", 5), ("a3", 7)) == [("a1", 9), ("a2", 5), ("a3", 7)]
    assert ordered() == []
