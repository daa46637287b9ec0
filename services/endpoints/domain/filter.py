"""Event filters: which events a dispatcher wants.

A filter is compiled once into tests and asked often. It answers for every JSON value, and for no value at all:

| Clause | Value | Result |
|---|---|---|
| `[]` | anything, even nothing | match |
| strings, numbers or booleans | a scalar | match if identical to one of them |
| strings, numbers or booleans | null, an array, an object, nothing | no match |
| operators | anything | match if all hold |
| nested filter | an object | match if all its clauses match |
| nested filter | an array | match if an element matches; an array in an array counts by its elements |
| nested filter | null, another scalar, nothing | match if the nested filter is empty |

So an empty nested filter matches everything but an array without elements. A whole filter is matched against a payload
by the rows for nested filters.

Source: protocol, section 3.3, with the results of its last version where versions differ, and 10.3.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from services.endpoints.domain.event import PayloadType
from services.endpoints.domain.filter_failure import FilterFailure, show_alternatives, show_path, show_value
from services.endpoints.domain.filter_operators import (
    MISSING,
    FilterValue,
    ValueTest,
    first_operator,
    one_of,
    operator_test,
)
from services.endpoints.domain.filter_shape import MAX_FILTER_DEPTH, Path, find_filter_problem
from services.endpoints.domain.json_text import JsonObject, JsonTextError, JsonValue, parse_json

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "MISSING",
    "Filter",
    "FilterCache",
    "FilterError",
    "FilterFailure",
    "FilterValue",
    "compile_filter",
    "compiled_filter",
    "event_subject",
    "find_rule_failure",
    "rule_matches",
]

MAX_CACHED_CHARACTERS: Final = 4_000_000
_CHARACTERS_PER_ENTRY: Final = 200

_SEEN_OF_REQUEST: Final = frozenset({"url", "method", "headers"})

_Keys: TypeAlias = tuple[str, ...]


class FilterError(ValueError):
    """A filter that cannot be read: `problem` says what must stand at `path`, which is empty for the whole."""

    def __init__(self, path: Path, problem: str) -> None:
        """Hold both."""
        super().__init__(f"The filter{''.join(f'[{step!r}]' for step in path)} {problem}.")
        self.path = path
        self.problem = problem


class _Clause(Protocol):
    @property
    def holds(self) -> ValueTest: ...
    def find_failure(self, value: FilterValue, keys: _Keys, root: str) -> FilterFailure | None: ...


@dataclass(frozen=True, slots=True, eq=False)
class _Matcher:
    """Asks one thing of one value; it keeps what it was made of to say what that was."""

    holds: ValueTest
    operator: str | None
    operand: JsonValue

    def find_failure(self, value: FilterValue, keys: _Keys, root: str) -> FilterFailure | None:
        if self.holds(value):
            return None
        return FilterFailure(path=show_path(root, keys), expected=self._expected(), found=show_value(value))

    def _expected(self) -> str:
        if self.operator is not None:
            return f"{self.operator} {show_value(self.operand)}"
        return show_alternatives([show_value(scalar) for scalar in self.operand])  # type: ignore[union-attr]


@dataclass(frozen=True, slots=True, eq=False)
class _Nested:
    """Asks something of the values of an object, key by key."""

    source: JsonObject
    clauses: tuple[tuple[str, _Clause], ...]
    tests: tuple[tuple[str, ValueTest], ...]

    def holds(self, value: FilterValue) -> bool:
        if isinstance(value, dict):
            for key, holds in self.tests:  # noqa: SIM110 - all() would cost a generator for each object
                if not holds(value.get(key, MISSING)):
                    return False
            return True
        if isinstance(value, list):
            return any(map(self.holds, _elements(value)))
        return not self.source

    def find_failure(self, value: FilterValue, keys: _Keys, root: str) -> FilterFailure | None:
        if isinstance(value, dict):
            for key, clause in self.clauses:
                if failure := clause.find_failure(value.get(key, MISSING), (*keys, key), root):
                    return failure
            return None
        if self.holds(value):
            return None
        expected = "an object"
        if isinstance(value, list):
            expected = f"an element that matches {show_value(self.source)}, and no element of the array does"
        return FilterFailure(path=show_path(root, keys), expected=expected, found=show_value(value))


@dataclass(frozen=True, slots=True, eq=False)
class Filter:
    """A filter ready to be asked; `compile_filter` makes it."""

    _root: _Nested

    @property
    def is_empty(self) -> bool:
        """Tell whether the filter is `{}`."""
        return not self._root.source

    def matches(self, value: FilterValue) -> bool:
        """Tell whether `value` meets every clause; raises for no JSON value, however deep, and not for `MISSING`."""
        return self._root.holds(value)

    def first_failure(self, value: FilterValue, *, root: str = "$") -> FilterFailure | None:
        """Return the first clause that `value` does not meet, or None if and only if `value` matches.

        Clauses come in the order of the filter's keys. `root` is how `value` is called in the failure's path.
        """
        return self._root.find_failure(value, (), root)


def compile_filter(value: JsonValue) -> Filter:
    """Return the filter that `value` describes.

    Raises:
        FilterError: the shape of `value` is wrong, or it is nested deeper than 64 levels.
    """
    if problem := find_filter_problem(value):
        raise FilterError(*problem)
    return Filter(_compile_nested(value, ()))  # type: ignore[arg-type] # its shape has been checked


class FilterCache:
    """Filters by their text, so that each is compiled once; those used least recently go first.

    `max_characters` bounds the texts held together, each counted with 200 characters for what comes with it. A
    compiled filter takes some ten times the memory of its text.
    """

    def __init__(self, *, max_characters: int = MAX_CACHED_CHARACTERS) -> None:
        self._max_characters = max_characters
        self._characters = 0
        self._filters: OrderedDict[str, Filter] = OrderedDict()

    def __len__(self) -> int:
        return len(self._filters)

    def get(self, text: str) -> Filter:
        """Return the filter that `text` describes, the same one for the same text while it is held.

        Raises:
            FilterError: `text` is no JSON, or no filter; that is not remembered.
        """
        known = self._filters.get(text)
        if known is not None:
            self._filters.move_to_end(text)
            return known
        try:
            value = parse_json(text)
        except JsonTextError as error:
            raise FilterError((), f"must be JSON ({error.reason.rstrip('.')})") from error
        self._filters[text] = compiled = compile_filter(value)
        self._characters += len(text) + _CHARACTERS_PER_ENTRY
        while self._characters > self._max_characters:
            oldest, _ = self._filters.popitem(last=False)
            self._characters -= len(oldest) + _CHARACTERS_PER_ENTRY
        return compiled


_CACHE: Final = FilterCache()


def compiled_filter(text: str) -> Filter:
    """Return the filter that `text` describes, from the cache of this process.

    Raises:
        FilterError: `text` is no JSON, or no filter.
    """
    return _CACHE.get(text)


def event_subject(payload: JsonValue, context: JsonValue, payload_type: PayloadType) -> JsonObject | None:
    """Return what the filters of a dispatcher see of an event: an object with `payload` and `context`.

    A received request, `{url, method, headers, rawBody}`, is seen with `body`, parsed, in place of `rawBody` if its
    `content-type` names `application/json`. None means that this body is no JSON (or JSON that could not be stored):
    only a rule that asks nothing matches it. Any other request is itself what the filters see; it has no `payload`
    and no `context`, so only filters that are empty match.

    Source: protocol, section 3.3.
    """
    if payload_type is PayloadType.JSON:
        return {"payload": payload, "context": context}
    if not isinstance(payload, dict):
        return {}
    if not _holds_json(payload.get("headers")):
        return payload
    raw_body = payload.get("rawBody")
    if not isinstance(raw_body, str):
        return None
    try:
        body = parse_json(raw_body)
    except JsonTextError:
        return None
    seen = {name: value for name, value in payload.items() if name in _SEEN_OF_REQUEST}
    return {"payload": {**seen, "body": body}, "context": context}


def rule_matches(payload_filter: Filter | None, context_filter: Filter | None, subject: JsonObject | None) -> bool:
    """Tell whether a dispatcher with these filters wants an event; `subject` comes from `event_subject`.

    No filter is the same as an empty one, and two of these match at once, whatever the subject.
    """
    payload_filter, context_filter = payload_filter or _EMPTY, context_filter or _EMPTY
    if payload_filter.is_empty and context_filter.is_empty:
        return True
    return (
        subject is not None
        and payload_filter.matches(subject.get("payload", MISSING))
        and context_filter.matches(subject.get("context", MISSING))
    )


def find_rule_failure(
    payload_filter: Filter | None, context_filter: Filter | None, subject: JsonObject | None
) -> FilterFailure | None:
    """Return the first clause that keeps a dispatcher from wanting an event, or None if and only if its rule matches.

    The payload's filter is asked first. Paths start with `payload` or `context`.
    """
    payload_filter, context_filter = payload_filter or _EMPTY, context_filter or _EMPTY
    if payload_filter.is_empty and context_filter.is_empty:
        return None
    if subject is None:
        return FilterFailure(path="payload.body", expected="JSON", found="a body that is no JSON")
    for root, one in (("payload", payload_filter), ("context", context_filter)):
        if failure := one.first_failure(subject.get(root, MISSING), root=root):
            return failure
    return None


def _compile_nested(source: JsonObject, path: _Keys) -> _Nested:
    if len(path) >= MAX_FILTER_DEPTH:
        raise FilterError(path, f"must not be nested deeper than {MAX_FILTER_DEPTH} levels")
    clauses: list[tuple[str, _Clause]] = []
    for key, child in source.items():
        if isinstance(child, dict):
            clauses.append((key, _compile_nested(child, (*path, key))))
        elif isinstance(child, list):
            clauses.extend((key, matcher) for matcher in _compile_matchers(child))
    return _Nested(source, tuple(clauses), tuple((key, clause.holds) for key, clause in clauses))


def _compile_matchers(matchers: list[JsonValue]) -> list[_Matcher]:
    operators = [_compile_operator(matcher) for matcher in matchers if isinstance(matcher, dict)]
    if operators or not matchers:
        return operators
    return [_Matcher(one_of(matchers), None, matchers)]


def _compile_operator(operators: dict[str, JsonValue]) -> _Matcher:
    name = first_operator(operators)
    return _Matcher(operator_test(name, operators[name]), name, operators[name])


def _elements(array: list[JsonValue]) -> Iterator[JsonValue]:
    """Yield the elements of an array, and for an array in it those of that, without recursion."""
    pending = [iter(array)]
    while pending:
        for element in pending[-1]:
            if isinstance(element, list):
                pending.append(iter(element))
                break
            yield element
        else:
            pending.pop()


def _holds_json(headers: JsonValue) -> bool:
    return isinstance(headers, dict) and any(
        name.lower() == "content-type" and isinstance(value, str) and "application/json" in value.lower()
        for name, value in headers.items()
    )


_EMPTY: Final = compile_filter({})
