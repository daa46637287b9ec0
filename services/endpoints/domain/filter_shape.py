"""The shape of an event filter: what a dispatcher will be able to read, checked before it is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

Path: TypeAlias = "tuple[str | int, ...]"

MAX_FILTER_DEPTH: Final = 64
MAX_FILTER_NODES: Final = 1_000

# A place in a filter as links to the root: a filter has many places, and only the path of a problem is written out.
_Trail: TypeAlias = "tuple[_Trail, str | int] | None"

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
    only operator objects. This is what an index answer must keep to, so it is no stricter than the protocol: an empty
    array is accepted, and so is an operator object with several operators, of which matching reads the first. Depth is
    the caller's business: JSON is bounded at the door.

    Source: protocol, section 3.3.
    """
    if not isinstance(value, dict):
        return (), "must be an object"
    for trail, item in _walk(value):
        if isinstance(item, list):
            if problem := _find_array_problem(_path(trail), item):
                return problem
        elif not isinstance(item, dict):
            return _path(trail), "must be an object or an array"
    return None


def find_dispatcher_filter_problem(value: object) -> tuple[Path, str] | None:
    """Return what keeps a caller's filter from being stored and where, or None when nothing does.

    Beyond `find_filter_problem`, it refuses what is surely a mistake in a filter that somebody writes today: an array
    without elements, an operator object with several operators, a `$between` that runs backwards, more than
    `MAX_FILTER_DEPTH` levels, and more than `MAX_FILTER_NODES` values (each object, array and scalar counts as one).
    """
    if problem := find_filter_problem(value):
        return problem
    for nodes, (trail, item) in enumerate(_walk(value, into_arrays=True), start=1):
        if nodes > MAX_FILTER_NODES:
            return (), f"must hold at most {MAX_FILTER_NODES:,} values, counting each object, array and scalar"
        if problem := _find_mistake(trail, item):
            return problem
    return None


def _find_mistake(trail: _Trail, item: object) -> tuple[Path, str] | None:
    if not isinstance(item, dict | list):
        return None
    path = _path(trail)
    if len(path) >= MAX_FILTER_DEPTH:
        return path, f"must not be nested deeper than {MAX_FILTER_DEPTH} levels"
    if not item and path:
        return None if isinstance(item, dict) else (path, "must not be empty")
    *above, last = path or ("",)
    if isinstance(item, dict) and len(item) > 1 and isinstance(last, int):
        return path, "must hold one operator; several are elements of the array, of which all must hold"
    if isinstance(item, list) and last == "$between" and above and isinstance(above[-1], int) and item[0] > item[1]:
        return path, "must hold the lower number first"
    return None


def _walk(value: object, *, into_arrays: bool = False) -> Iterator[tuple[_Trail, object]]:
    """Yield all that a filter holds, in its own order, without recursion."""
    pending: list[tuple[_Trail, object]] = [(None, value)]
    while pending:
        trail, item = pending.pop()
        yield trail, item
        if isinstance(item, dict):
            pending.extend(((trail, key), child) for key, child in reversed(item.items()))
        elif into_arrays and isinstance(item, list):
            pending.extend(((trail, place), item[place]) for place in range(len(item) - 1, -1, -1))


def _path(trail: _Trail) -> Path:
    steps: list[str | int] = []
    while trail is not None:
        trail, step = trail
        steps.append(step)
    return tuple(reversed(steps))


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
