"""What a single matcher of an event filter asks of a value: to be one of some scalars, or an operator such as `$gt`.

Every test answers for every JSON value and for `MISSING`, and raises for none.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from unicodedata import normalize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from services.endpoints.domain.json_text import JsonValue


class Missing(Enum):
    """The type of `MISSING`, which no JSON value is."""

    MISSING = "missing"


MISSING: Final = Missing.MISSING

FilterValue: TypeAlias = "JsonValue | Missing"
ValueTest: TypeAlias = "Callable[[FilterValue], bool]"

_Identity: TypeAlias = "str | int | float | tuple[bool] | None"


def one_of(scalars: Iterable[JsonValue]) -> ValueTest:
    """Return the test for being identical to one of `scalars`.

    Nothing is converted: "1" is not 1, and 1 is not true. Numbers are compared as JSON's, exactly and whatever their
    notation: 1 is 1.0, and 9007199254740993 is not 9007199254740992. Strings are compared by code point.
    """
    identities = frozenset(_identity(scalar) for scalar in scalars)
    return lambda value: _identity(value) in identities


def operator_test(name: str, operand: JsonValue) -> ValueTest:
    """Return the test that the operator called `name` makes with `operand`, which must have the right shape.

    A missing value meets `$exists` false, `$isNull` false and `$anythingBut`, and nothing else; null meets `$exists`
    true, `$isNull` true and `$anythingBut`.

    Source: protocol, section 3.3; `$not` as in the last version that it describes.
    """
    return _TESTS[name](operand)


def first_operator(operators: dict[str, JsonValue]) -> str:
    """Return which of several operators in one object counts: the first in the order of the protocol's schema.

    The order in which they were written cannot decide, because `jsonb` does not keep it. The others are ignored, as
    the SDK's users had it: what they registered goes on meaning what it meant.
    """
    return next(name for name in _TESTS if name in operators)


def _identity(value: FilterValue) -> _Identity:
    """Return what identical scalars share and other scalars do not, and None for what is no scalar."""
    if isinstance(value, bool):
        return (value,)
    if isinstance(value, str | int | float):
        return value
    return None


def _is_number(value: FilterValue) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _ends_with(suffix: str) -> ValueTest:
    return lambda value: isinstance(value, str) and value.endswith(suffix)


def _starts_with(prefix: str) -> ValueTest:
    return lambda value: isinstance(value, str) and value.startswith(prefix)


def _equals_ignoring_case(text: str) -> ValueTest:
    folded = _without_case(text)
    return lambda value: isinstance(value, str) and _without_case(value) == folded


def _without_case(text: str) -> str:
    """Return what texts share that differ in case alone, or in how their accents are composed.

    "É" is "é", whether written as one code point or two, and is not "e"; "STRASSE" is "straße".

    Source: Unicode, section 3.13 (full case folding) and annex 15 (NFC).
    """
    return text.lower() if text.isascii() else normalize("NFC", normalize("NFC", text).casefold())


def _exists(wanted: bool) -> ValueTest:  # noqa: FBT001 - the operand of an operator, never written as an argument
    return lambda value: (value is not MISSING) is wanted


def _is_null(wanted: bool) -> ValueTest:  # noqa: FBT001 - as above
    return lambda value: (value is None) is wanted


def _anything_but(operand: JsonValue) -> ValueTest:
    is_excluded = one_of(operand if isinstance(operand, list) else [operand])
    return lambda value: not is_excluded(value)


def _is_greater(bound: float) -> ValueTest:
    return lambda value: _is_number(value) and value > bound  # type: ignore[operator]


def _is_less(bound: float) -> ValueTest:
    return lambda value: _is_number(value) and value < bound  # type: ignore[operator]


def _is_at_least(bound: float) -> ValueTest:
    return lambda value: _is_number(value) and value >= bound  # type: ignore[operator]


def _is_at_most(bound: float) -> ValueTest:
    return lambda value: _is_number(value) and value <= bound  # type: ignore[operator]


def _is_between(bounds: list[float]) -> ValueTest:
    lowest, highest = bounds
    return lambda value: _is_number(value) and lowest <= value <= highest  # type: ignore[operator]


def _includes(scalar: JsonValue) -> ValueTest:
    is_it = one_of([scalar])
    return lambda value: isinstance(value, list) and any(map(is_it, value))


def _is_not(scalar: JsonValue) -> ValueTest:
    is_it = one_of([scalar])

    def differs(value: FilterValue) -> bool:
        if isinstance(value, list):
            return not any(map(is_it, value))
        return isinstance(value, str | int | float) and not is_it(value)

    return differs


# In the order in which the protocol's schema tries them. `Any`, because the shape of operands is checked elsewhere.
_TESTS: Final[dict[str, Callable[[Any], ValueTest]]] = {
    "$endsWith": _ends_with,
    "$startsWith": _starts_with,
    "$ignoreCaseEquals": _equals_ignoring_case,
    "$exists": _exists,
    "$isNull": _is_null,
    "$anythingBut": _anything_but,
    "$gt": _is_greater,
    "$lt": _is_less,
    "$gte": _is_at_least,
    "$lte": _is_at_most,
    "$between": _is_between,
    "$includes": _includes,
    "$not": _is_not,
}
