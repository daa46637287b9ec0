"""Strict JSON at every door: what is accepted here can be stored by PostgreSQL and read back unchanged.

PostgreSQL's `jsonb` refuses NUL characters, lone surrogates and numbers without a finite value, and writes 1e308 as 309
digits; Python's own parser lets all of them in, and ends deep nesting with an exception of the interpreter. This module
is the one place that knows.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from decimal import Decimal
from typing import Final, TypeAlias

JsonValue: TypeAlias = "dict[str, JsonValue] | list[JsonValue] | str | int | float | bool | None"
JsonObject: TypeAlias = "dict[str, JsonValue]"

MAX_DEPTH: Final = 64
MAX_INTEGER_DIGITS: Final = 1_000
MAX_EXPANDED_CHARACTERS: Final = 40
HASH_BYTES: Final = 16

_TOO_DEEP: Final = "It is nested deeper than {max_depth} levels."
_NOT_TEXT: Final = re.compile("[\x00\ud800-\udfff]")
_ESCAPES_THAT_MAY_BE_REFUSED: Final = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_EXPANDS: Final = f"It holds a number that takes more than {MAX_EXPANDED_CHARACTERS} characters without an exponent."
_MAX_EXPONENT_DIGITS: Final = 3
_LARGEST_INTEGER: Final = 10**MAX_INTEGER_DIGITS
# json.dumps with options makes an encoder for every call.
_WRITE: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_WRITE_SORTED: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


class JsonTextError(ValueError):
    """A text that is no JSON, or JSON that cannot be stored; `reason` is one sentence for the sender."""

    def __init__(self, reason: str) -> None:
        """Hold the sentence."""
        super().__init__(reason)
        self.reason = reason


def parse_json(
    text: str | bytes,
    *,
    max_depth: int = MAX_DEPTH,
    max_bytes: int | None = None,
    must_be_storable: bool = True,
) -> JsonValue:
    """Return the one JSON document that `text` holds.

    Integers keep all their digits (at most 1,000), 1.0 stays a float, of equal keys the last one wins. Refused are
    bytes that are not UTF-8, a byte order mark, trailing data, NaN, Infinity, numbers beyond the range of a double or
    with an exponent that `jsonb` would write out to more than 40 characters, NUL characters, lone surrogates and
    nesting deeper than `max_depth` containers. `max_bytes` counts UTF-8 bytes; None means no limit.

    With `must_be_storable=False` a document may hold what `find_unstorable` reports (its part alone is then refused by
    the reader): numbers out of range become infinite.

    Raises:
        JsonTextError: the text is refused; nothing of it is returned.
    Source: RFC 8259; PostgreSQL, section 8.14.
    """
    text = _decode(text, max_bytes)
    try:
        value: JsonValue = (_STRICT if must_be_storable else _LENIENT).decode(text)
    except json.JSONDecodeError as error:
        raise JsonTextError(f"{error.msg} at line {error.lineno}, column {error.colno}.") from error
    except RecursionError as error:
        raise JsonTextError(_TOO_DEEP.format(max_depth=max_depth)) from error
    if must_be_storable:
        if _is_deeper(value, max_depth):
            raise JsonTextError(_TOO_DEEP.format(max_depth=max_depth))
        if _ESCAPES_THAT_MAY_BE_REFUSED.search(text) and (problem := find_unstorable(value, max_depth=max_depth)):
            raise JsonTextError(problem)
    return value


def dump_json(value: JsonValue) -> str:
    """Return compact JSON that `parse_json` reads back to an equal value.

    Raises:
        ValueError: the value holds NaN or an infinite number.
    """
    return _WRITE(value)


def canonical_hash(value: JsonValue) -> bytes:
    """Return 16 bytes that are equal for equal documents, whatever the order of their keys.

    The hash of a value is the same before it went into a `jsonb` column and after it came out: `jsonb` writes 1e16 as
    an integer and knows no negative zero.
    """
    text = _WRITE_SORTED(value)
    if "e+" in text or "-0.0" in text:
        text = _WRITE_SORTED(_as_jsonb_writes_it(value))
    return hashlib.blake2b(text.encode(), digest_size=HASH_BYTES).digest()


def find_unstorable(value: object, *, max_depth: int = MAX_DEPTH) -> str | None:
    """Return one sentence about what keeps `value` out of a `jsonb` column, or None when nothing does.

    Works without recursion, so any depth is safe.
    """
    level: list[object] = [value]
    depth = 0
    while level:
        containers: list[object] = []
        for item in level:
            if isinstance(item, dict | list):
                containers.append(item)
            elif problem := _find_unstorable_scalar(item):
                return problem
        if not containers:
            return None
        depth += 1
        if depth > max_depth:
            return _TOO_DEEP.format(max_depth=max_depth)
        level = []
        for container in containers:
            if isinstance(container, dict):
                level.extend(container)
                level.extend(container.values())
            elif isinstance(container, list):
                level.extend(container)
    return None


def _find_unstorable_scalar(item: object) -> str | None:
    if isinstance(item, str):
        if not item.isascii() or "\x00" in item:
            match = _NOT_TEXT.search(item)
            if match:
                return "It holds a NUL character." if match.group() == "\x00" else "It holds a lone surrogate."
    elif isinstance(item, float):
        if not math.isfinite(item):
            return "It holds a number without a finite value."
        if _expands(repr(item)):
            return _EXPANDS
    elif isinstance(item, int):
        if not -_LARGEST_INTEGER < item < _LARGEST_INTEGER:
            return f"It holds an integer of more than {MAX_INTEGER_DIGITS:,} digits."
    elif item is not None:
        return f"It holds a {type(item).__name__}, which is no JSON."
    return None


def _expands(number: str) -> bool:
    """Tell whether `jsonb`, which knows no exponents, would make a long text of this short one."""
    _, _, exponent = number.lower().partition("e")
    if not exponent:
        return False
    if len(exponent.lstrip("+-0")) > _MAX_EXPONENT_DIGITS:
        return True
    return len(format(Decimal(number), "f")) > MAX_EXPANDED_CHARACTERS


def _decode(text: str | bytes, max_bytes: int | None) -> str:
    if max_bytes is not None and len(text) > max_bytes:
        raise JsonTextError(f"It is longer than {max_bytes:,} bytes.")
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise JsonTextError(f"It is not UTF-8 at byte {error.start}.") from error
    else:
        try:
            encoded_length = len(text) if text.isascii() else len(text.encode("utf-8"))
        except UnicodeEncodeError as error:
            raise JsonTextError("It holds a lone surrogate.") from error
        if max_bytes is not None and encoded_length > max_bytes:
            raise JsonTextError(f"It is longer than {max_bytes:,} bytes.")
    if text.startswith("\ufeff"):
        raise JsonTextError("It starts with a byte order mark.")
    return text


def _is_deeper(value: JsonValue, max_depth: int) -> bool:
    level: list[JsonValue] = [value] if isinstance(value, dict | list) else []
    depth = 0
    while level:
        depth += 1
        if depth > max_depth:
            return True
        level = [
            child
            for container in level
            for child in (container.values() if isinstance(container, dict) else container)  # type: ignore[union-attr]
            if isinstance(child, dict | list)
        ]
    return False


def _as_jsonb_writes_it(value: JsonValue) -> JsonValue:
    if isinstance(value, dict):
        return {key: _as_jsonb_writes_it(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_as_jsonb_writes_it(child) for child in value]
    if isinstance(value, float):
        if "e+" in repr(value):
            return int(Decimal(repr(value)))
        return value + 0.0
    return value


def _parse_finite_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise JsonTextError("It holds a number beyond the range of a double.")
    if _expands(text) or _expands(repr(value)):
        raise JsonTextError(_EXPANDS)
    return value


def _parse_short_integer(text: str) -> int:
    if len(text) > MAX_INTEGER_DIGITS and len(text.lstrip("-")) > MAX_INTEGER_DIGITS:
        raise JsonTextError(f"It holds an integer of more than {MAX_INTEGER_DIGITS:,} digits.")
    return int(text)


def _parse_any_integer(text: str) -> float:
    return int(text) if len(text) <= MAX_INTEGER_DIGITS else math.inf


def _refuse_constant(text: str) -> float:
    raise JsonTextError(f"It holds {text}, which is no JSON.")


_STRICT: Final = json.JSONDecoder(
    parse_float=_parse_finite_float, parse_int=_parse_short_integer, parse_constant=_refuse_constant
)
_LENIENT: Final = json.JSONDecoder(parse_int=_parse_any_integer)
