from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.endpoints.domain.json_text import (
    JsonTextError,
    canonical_hash,
    dump_json,
    find_unstorable,
    parse_json,
)

STORABLE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(-1e22, 1e22).map(lambda number: round(number, 12))
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")),
    lambda children: (
        st.lists(children) | st.dictionaries(st.text(st.characters(codec="ascii", min_codepoint=32)), children)
    ),
)


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@given(STORABLE)
def test_what_is_dumped_is_read_back_equal(value: Any) -> None:
    assert parse_json(dump_json(value)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("9007199254740993", 9007199254740993),
        (str(2**63), 2**63),
        ("1" * 1_000, int("1" * 1_000)),
        ("-" + "1" * 1_000, -int("1" * 1_000)),
        ('{"a":1,"a":2}', {"a": 2}),
        (b' {"\xc3\xa9":"\\u00e9\\ud83d\\ude00"} ', {"é": "é😀"}),
        ('"\\\\u0000"', "\\u0000"),
        ("1e39", 1e39),
        ("-1e38", -1e38),
        ("1E-38", 1e-38),
        ("1e-0000000001", 0.1),
        ("2.220446049250313e-16", 2.220446049250313e-16),
        ("0." + "1" * 60, 0.1111111111111111),
    ],
)
def test_large_and_unusual_values_are_kept(text: str | bytes, value: object) -> None:
    assert parse_json(text) == value


def test_a_float_without_fraction_stays_a_float() -> None:
    assert isinstance(parse_json("1.0"), float)
    assert dump_json(parse_json("[1.0,1]")) == "[1.0,1]"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Expecting value"),
        ("{} {}", "Extra data"),
        ("[1,]", "Illegal trailing comma|Expecting value"),
        ("\ufeff{}", "byte order mark"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b'"\xff"', "not UTF-8 at byte 1"),
        ("NaN", "NaN"),
        ("[-Infinity]", "-Infinity"),
        ("1e400", "range of a double"),
        ("-1e400000", "range of a double"),
        ("1e40", "more than 40 characters"),
        ("-1e39", "more than 40 characters"),
        ("[1E+308]", "more than 40 characters"),
        ("1e-39", "more than 40 characters"),
        ("5e-324", "more than 40 characters"),
        ("0e-300", "more than 40 characters"),
        ("0." + "0" * 60 + "1", "more than 40 characters"),
        ("1e-400", "more than 40 characters"),
        ("1e-" + "9" * 5_000, "more than 40 characters"),
        ("1" * 1_001, "more than 1,000 digits"),
        ("1" * 5_000, "more than 1,000 digits"),
        ('"\\u0000"', "NUL"),
        ('{"\\u0000":1}', "NUL"),
        ('"\\uD800"', "lone surrogate"),
        ('{"a":["\\udfff"]}', "lone surrogate"),
        ('"\ud800"', "lone surrogate"),
        ('"a\nb"', "control character"),
        (nested(65), "deeper than 64"),
        (nested(20_000), "deeper than 64"),
        ('{"a":' * 100_000, "deeper than 64|Expecting"),
    ],
)
def test_what_cannot_be_stored_is_refused(text: str | bytes, reason: str) -> None:
    with pytest.raises(JsonTextError, match=reason):
        parse_json(text)


def test_depth_counts_containers() -> None:
    assert parse_json(nested(64)) == json.loads(nested(64))
    with pytest.raises(JsonTextError):
        parse_json(nested(3), max_depth=2)


@pytest.mark.parametrize("text", ['"é"', '"é"'.encode()])
def test_the_limit_counts_bytes(text: str | bytes) -> None:
    assert parse_json(text, max_bytes=4) == "é"
    with pytest.raises(JsonTextError, match="longer than 3 bytes"):
        parse_json(text, max_bytes=3)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"a":"\\u0000"}', "NUL"),
        ('{"a":"\\ud800"}', "lone surrogate"),
        ('{"a":NaN}', "without a finite value"),
        ('{"a":1e400}', "without a finite value"),
        ('{"a":' + "1" * 1_001 + "}", "without a finite value"),
        ('{"a":[1e308]}', "more than 40 characters"),
        ('{"a":[-5e-324]}', "more than 40 characters"),
        (nested(65), "deeper than 64"),
    ],
)
def test_a_lenient_reader_leaves_what_cannot_be_stored_to_its_caller(text: str, problem: str) -> None:
    found = find_unstorable(parse_json(text, must_be_storable=False))
    assert found is not None
    assert problem in found


@given(STORABLE)
def test_whatever_parses_strictly_is_storable(value: object) -> None:
    assert find_unstorable(value) is None


@pytest.mark.parametrize("value", [{1}, b"x", {"a": 10**1_000}, {"\ud800": 1}])
def test_foreign_values_are_reported(value: object) -> None:
    assert find_unstorable(value) is not None


def test_the_hash_ignores_the_order_of_keys_and_nothing_else() -> None:
    assert canonical_hash({"a": 1, "b": [1, 2]}) == canonical_hash({"b": [1, 2], "a": 1})
    assert canonical_hash([1, 2]) != canonical_hash([2, 1])
    assert canonical_hash(1) != canonical_hash(1.0)
    assert canonical_hash("1") != canonical_hash(1)
    assert len(canonical_hash(None)) == 16


@pytest.mark.parametrize(
    ("before", "after"),
    [(1e16, 10**16), (1e23, 10**23), (-0.0, 0.0), (1.5e300, 15 * 10**299), ({"a": [-1e22]}, {"a": [-(10**22)]})],
)
def test_the_hash_is_the_same_for_the_number_that_jsonb_gives_back(before: Any, after: Any) -> None:
    assert canonical_hash(before) == canonical_hash(after)
