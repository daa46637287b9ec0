"""The shape of an event filter: what a dispatcher will be able to read, checked before it is stored."""

from __future__ import annotations

from typing import Final, TypeAlias

Path: TypeAlias = "tuple[str | int, ...]"

_TEXT: Final = "a string"
_TRUTH: Final = "true or false"
_NUMBER: Final = "a number"
_SCALAR: Final = "a string, a number or true or false"
_SCALARS: Final = "a string, a number, true or false, or an array of these"
_PAIR: Final = "an array of two numbers"

_OPERANDS: Final = {
    "$startsWith": _TEXT,
    "$endsWith": _TEXT,
    "$ignoreCaseEquals": _TEXT,
    "$exists": _TRUTH,
    "$isNull": _TRUTH,
    "$anythingBut": _SCALARS,
    "$gt": _NUMBER,
    "$gte": _NUMBER,
    "$lt": _NUMBER,
    "$lte": _NUMBER,
    "$between": _PAIR,
    "$includes": _SCALAR,
    "$not": _SCALAR,
}


def find_filter_problem(value: object) -> tuple[Path, str] | None:
    """Return where a filter is malformed and what must stand there, or None when its shape is right.

    A filter is an object of nested filters and of arrays; an array holds only strings, only numbers, only booleans or
    only operator objects. Depth is the caller's business: JSON is bounded at the door.

    Source: protocol, section 3.3.
    """
    pending: list[tuple[Path, object]] = [((), value)]
    while pending:
        path, item = pending.pop()
        if isinstance(item, dict):
            pending.extend(((*path, key), child) for key, child in item.items())
        elif isinstance(item, list):
            if problem := _find_array_problem(path, item):
                return problem
        else:
            return path, "must be an object or an array"
    return None


def _find_array_problem(path: Path, matchers: list[object]) -> tuple[Path, str] | None:
    kinds = {"boolean" if isinstance(one, bool) else _KINDS.get(type(one)) for one in matchers}
    if len(kinds) > 1 or None in kinds:
        return path, "must hold only strings, only numbers, only booleans or only operators"
    if kinds != {"operator"}:
        return None
    for position, operator in enumerate(matchers):
        if isinstance(operator, dict) and (problem := _find_operator_problem((*path, position), operator)):
            return problem
    return None


def _find_operator_problem(path: Path, operator: dict[str, object]) -> tuple[Path, str] | None:
    if not operator:
        return path, "must hold an operator such as $gt"
    for name, operand in operator.items():
        expected = _OPERANDS.get(name)
        if expected is None:
            return (*path, name), "is no operator"
        if not _is_operand(operand, expected):
            return (*path, name), f"must be {expected}"
    return None


def _is_operand(operand: object, expected: str) -> bool:
    if isinstance(operand, list):
        if expected == _PAIR:
            return len(operand) == len(("lowest", "highest")) and all(_is_number(one) for one in operand)
        return expected == _SCALARS and all(_is_scalar(one) for one in operand)
    if expected == _TEXT:
        return isinstance(operand, str)
    if expected == _TRUTH:
        return isinstance(operand, bool)
    if expected == _NUMBER:
        return _is_number(operand)
    return expected in {_SCALAR, _SCALARS} and _is_scalar(operand)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_scalar(value: object) -> bool:
    return isinstance(value, str | int | float)


_KINDS: Final[dict[type, str]] = {str: "string", int: "number", float: "number", dict: "operator"}
