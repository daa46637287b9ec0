"""Filters matched the slow way: the protocol's table read row by row, sharing no code with the product.

A value is looked at through a place: a tuple of one value, or an empty tuple where there is none.
"""

from __future__ import annotations

import unicodedata
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

Place: TypeAlias = "tuple[Any, ...]"
Failure: TypeAlias = "tuple[tuple[str, ...], Place]"

OPERATORS_BY_RANK = [
    "$endsWith",
    "$startsWith",
    "$ignoreCaseEquals",
    "$exists",
    "$isNull",
    "$anythingBut",
    "$gt",
    "$lt",
    "$gte",
    "$lte",
    "$between",
    "$includes",
    "$not",
]
SCALAR_KINDS = {"string", "number", "boolean"}


def slowly_matches(pattern: dict[str, Any], place: Place) -> bool:
    return next(slow_failures(pattern, place), None) is None


def slow_failures(pattern: dict[str, Any], place: Place, keys: tuple[str, ...] = ()) -> Iterator[Failure]:
    """Yield every clause that does not hold: the keys that lead to it, and what is there."""
    kind = kind_of(place)
    if kind == "object":
        for key, child in pattern.items():
            inner: Place = (place[0][key],) if key in place[0] else ()
            if isinstance(child, dict):
                yield from slow_failures(child, inner, (*keys, key))
            else:
                yield from (((*keys, key), inner) for matcher in asked(child) if not holds(matcher, inner))
    elif kind == "array":
        if not [1 for element in place[0] if slowly_matches(pattern, (element,))]:
            yield keys, place
    elif pattern != {}:
        yield keys, place


def asked(matchers: list[Any]) -> list[Any]:
    """Return what must hold together: each operator object for itself, and plain scalars as one choice."""
    if matchers == []:
        return []
    return list(matchers) if kind_of((matchers[0],)) == "object" else [matchers]


def holds(matcher: Any, place: Place) -> bool:
    if isinstance(matcher, list):
        return any(is_same(place, scalar) for scalar in matcher)
    operator = min(matcher, key=OPERATORS_BY_RANK.index)
    return operator_holds(operator, matcher[operator], place)


def operator_holds(operator: str, operand: Any, place: Place) -> bool:
    kind = kind_of(place)
    if operator in {"$startsWith", "$endsWith", "$ignoreCaseEquals"}:
        return kind == "string" and text_holds(operator, operand, place[0])
    if operator in {"$gt", "$gte", "$lt", "$lte", "$between"}:
        return kind == "number" and number_holds(operator, operand, Fraction(place[0]))
    if operator in {"$exists", "$isNull"}:
        return bool(operand == (kind == "null" if operator == "$isNull" else kind != "missing"))
    excluded = operand if isinstance(operand, list) else [operand]
    found = [item for item in (place[0] if kind == "array" else []) if is_same((item,), operand)]
    return {
        "$anythingBut": not any(is_same(place, scalar) for scalar in excluded),
        "$includes": found != [],
        "$not": found == [] and (kind == "array" or (kind in SCALAR_KINDS and not is_same(place, operand))),
    }[operator]


def text_holds(operator: str, operand: str, text: str) -> bool:
    if operator == "$ignoreCaseEquals":
        return folded(text) == folded(operand)
    if operator == "$endsWith":
        text, operand = text[::-1], operand[::-1]
    return text[: len(operand)] == operand


def number_holds(operator: str, operand: Any, number: Fraction) -> bool:
    if operator == "$between":
        return number_holds("$gte", operand[0], number) and number_holds("$lte", operand[1], number)
    difference = number - Fraction(operand)
    sign = (difference > 0) - (difference < 0)
    return sign in {"$gt": {1}, "$gte": {0, 1}, "$lt": {-1}, "$lte": {-1, 0}}[operator]


def is_same(place: Place, scalar: Any) -> bool:
    kind = kind_of(place)
    if kind != kind_of((scalar,)) or kind not in SCALAR_KINDS:
        return False
    return Fraction(place[0]) == Fraction(scalar) if kind == "number" else bool(place[0] == scalar)


def folded(text: str) -> list[str]:
    """Return the letters and accents of a text, taken apart and without case."""
    return list(unicodedata.normalize("NFD", unicodedata.normalize("NFD", text).casefold()))


def kind_of(place: Place) -> str:
    if place == ():
        return "missing"
    kinds = {type(None): "null", bool: "boolean", int: "number", float: "number", str: "string", list: "array"}
    return kinds.get(type(place[0]), "object")
