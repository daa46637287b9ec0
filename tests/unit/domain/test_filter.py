"""Every row of the table of filters, every operator, and how a failure reads."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any

import pytest

from services.endpoints.domain.event import PayloadType
from services.endpoints.domain.filter import (
    MISSING,
    FilterCache,
    FilterError,
    FilterFailure,
    compile_filter,
    compiled_filter,
    event_subject,
    find_rule_failure,
    rule_matches,
)
from services.endpoints.domain.filter_operators import first_operator
from tests.support.slow_filter import OPERATORS_BY_RANK

BIG = 9007199254740993
KINDS_BUT_TEXT = [None, MISSING, 1, 1.5, True, [], ["x"], {}, {"x": 1}]
KINDS_BUT_NUMBER = [None, MISSING, "1", True, False, [], [1], {}, {"x": 1}]


def holds(matchers: Any, value: Any) -> bool:
    """Tell whether a clause holds for what stands under its key, and check that the failure agrees."""
    one = compile_filter({"key": matchers})
    payload = {} if value is MISSING else {"key": value}
    matches = one.matches(payload)
    assert (one.first_failure(payload) is None) is matches
    return matches


@pytest.mark.parametrize("value", [MISSING, None, 0, "", "x", True, [], [1], {}, {"x": 1}])
def test_an_empty_array_matches_anything(value: Any) -> None:
    assert holds([], value)


@pytest.mark.parametrize(
    ("matchers", "matching", "others"),
    [
        (["x", "y"], ["x", "y"], ["X", "", "xy", "x ", None, MISSING, 1, True, ["x"], {"x": "x"}, [], {}]),
        (["é"], ["é"], ["e\u0301", "e"]),
        (["1", "true", "null"], ["1", "true", "null"], [1, True, None]),
        ([1, 2.5], [1, 1.0, 2.5], ["1", True, False, 2, None, MISSING, [1], {}]),
        ([0], [0, 0.0, -0.0], [False, "", None, MISSING, [], {}]),
        ([BIG], [BIG], [BIG - 1, float(BIG), BIG + 1]),
        ([float(BIG)], [BIG - 1, float(BIG)], [BIG]),
        ([True], [True], [1, 1.0, "true", False, None, MISSING, [True]]),
        ([False], [False], [0, 0.0, "", None, MISSING, []]),
        ([True, False], [True, False], [0, 1, None, MISSING]),
    ],
)
def test_scalars_match_what_is_identical_to_one_of_them(matchers: Any, matching: list[Any], others: list[Any]) -> None:
    assert [value for value in matching if not holds(matchers, value)] == []
    assert [value for value in others if holds(matchers, value)] == []


@pytest.mark.parametrize(
    ("operator", "matching", "others"),
    [
        ({"$startsWith": "ab"}, ["ab", "abc"], ["a", "Abc", "cab", "", *KINDS_BUT_TEXT]),
        ({"$startsWith": ""}, ["", "x"], KINDS_BUT_TEXT),
        ({"$endsWith": "ab"}, ["ab", "cab"], ["b", "caB", "abc", "", *KINDS_BUT_TEXT]),
        ({"$ignoreCaseEquals": "résumé"}, ["RÉSUMÉ", "re\u0301sume\u0301"], ["resume", "résumés", *KINDS_BUT_TEXT]),
        ({"$ignoreCaseEquals": "Straße"}, ["STRASSE", "straße"], ["strase", *KINDS_BUT_TEXT]),
        ({"$exists": True}, [None, 0, "", False, [], {}, "x"], [MISSING]),
        ({"$exists": False}, [MISSING], [None, 0, "", False, [], {}, "x"]),
        ({"$isNull": True}, [None], [MISSING, 0, "", False, [], {}, [None]]),
        ({"$isNull": False}, [MISSING, 0, "", False, [], {}, [None]], [None]),
        ({"$anythingBut": "x"}, ["y", "X", 1, True, None, MISSING, ["x"], {}], ["x"]),
        ({"$anythingBut": 1}, ["1", True, 2, None, MISSING, [1]], [1, 1.0]),
        ({"$anythingBut": ["x", 1, True]}, ["y", 2, False, None, MISSING], ["x", 1, 1.0, True]),
        ({"$anythingBut": []}, ["x", 1, None, MISSING], []),
        ({"$gt": 5}, [6, 5.5, 10**400], [5, 5.0, 4, *KINDS_BUT_NUMBER]),
        ({"$gte": 5}, [6, 5, 5.0], [4.999, -6, *KINDS_BUT_NUMBER]),
        ({"$lt": 5}, [4, 4.999, -(10**400)], [5, 5.0, 6, *KINDS_BUT_NUMBER]),
        ({"$lte": 5}, [4, 5, 5.0], [5.001, 6, *KINDS_BUT_NUMBER]),
        ({"$gt": BIG - 1}, [BIG], [BIG - 1, float(BIG)]),
        (
            {"$between": [1, 3]},
            [1, 1.0, 2, 3],
            [0.999, 3.001, 0, 4, *(v for v in KINDS_BUT_NUMBER if v != 1 or v is True)],
        ),
        ({"$between": [3, 1]}, [], [1, 2, 3]),
        ({"$includes": "x"}, [["x"], ["y", "x"]], ["x", [], ["y"], [["x"]], None, MISSING, {"x": "x"}]),
        ({"$includes": 1}, [[1], [1.0]], [1, [True], ["1"], [], None, MISSING]),
        ({"$includes": True}, [[True]], [True, [1], ["true"], None, MISSING]),
        (
            {"$not": "x"},
            ["y", 1, True, [], ["y"], [["x"]], [None]],
            ["x", ["x"], ["y", "x"], None, MISSING, {}, {"x": 1}],
        ),
        ({"$not": 1}, [2, "1", True, [True]], [1, 1.0, [1.0], None, MISSING, {}]),
        ({"$not": False}, [0, True, "", [0]], [False, [False], None, MISSING, {}]),
    ],
    ids=str,
)
def test_operators(operator: Any, matching: list[Any], others: list[Any]) -> None:
    assert [value for value in matching if not holds([operator], value)] == []
    assert [value for value in others if holds([operator], value)] == []


def test_all_operators_of_an_array_must_hold() -> None:
    matchers = [{"$gt": 1}, {"$lt": 5}, {"$not": 3}]
    assert [value for value in range(7) if holds(matchers, value)] == [2, 4]


@pytest.mark.parametrize(
    ("operators", "matching", "others"),
    [
        ({"$lte": 5, "$gt": 1}, [2, 7], [1, 0]),
        ({"$startsWith": "a", "$endsWith": "b"}, ["b", "ab"], ["a", "abc"]),
        ({"$not": "x", "$exists": False}, [MISSING], ["y"]),
    ],
)
def test_of_several_operators_in_one_object_the_first_of_the_schema_counts(
    operators: Any, matching: list[Any], others: list[Any]
) -> None:
    """Their order as written does not decide: `jsonb` would have lost it."""
    backwards = dict(reversed(operators.items()))
    assert all(holds([operators], value) and holds([backwards], value) for value in matching)
    assert not any(holds([operators], value) or holds([backwards], value) for value in others)


@pytest.mark.parametrize(("first", "second"), list(combinations(OPERATORS_BY_RANK, 2)))
def test_each_operator_counts_before_those_after_it(first: str, second: str) -> None:
    assert first_operator({first: 1, second: 1}) == first_operator({second: 1, first: 1}) == first


@pytest.mark.parametrize("nothing", [None, MISSING, 1, "x", True])
@pytest.mark.parametrize("nested", [{"a": ["x"]}, {"a": []}, {"a": {}}, {"a": [{"$exists": False}]}])
def test_a_nested_filter_does_not_match_what_has_no_keys(nested: Any, nothing: Any) -> None:
    assert not holds(nested, nothing)


@pytest.mark.parametrize("value", [None, MISSING, 1, "x", True, {}, {"x": 1}, [1], [[], [1]]])
def test_an_empty_nested_filter_matches_even_what_is_missing(value: Any) -> None:
    assert holds({}, value)


@pytest.mark.parametrize(
    ("value", "matches"),
    [
        ({"a": "x", "b": 1}, True),
        ({"a": "y", "b": 1}, False),
        ({"a": "x"}, False),
        ({"a": "x", "b": 1, "c": None}, True),
        ({}, False),
    ],
)
def test_a_nested_filter_matches_an_object_that_meets_all_its_clauses(value: Any, matches: bool) -> None:
    assert holds({"a": ["x"], "b": [1]}, value) is matches


@pytest.mark.parametrize(
    ("value", "matches"),
    [
        ([{"a": "x"}], True),
        ([{"a": "y"}, None, 1, {"a": "x"}], True),
        ([{"a": "y"}, {"b": "x"}], False),
        (["x", None, 1], False),
        ([], False),
        ([[{"a": "y"}], [[{"a": "x"}]]], True),
        ([[{"a": "y"}], [[]]], False),
    ],
)
def test_a_nested_filter_matches_an_array_of_which_some_element_matches(value: Any, matches: bool) -> None:
    assert holds({"a": ["x"]}, value) is matches


def test_one_element_must_meet_all_clauses() -> None:
    assert not holds({"a": ["x"], "b": [1]}, [{"a": "x"}, {"b": 1}])
    assert holds({"a": ["x"], "b": [1]}, [{"a": "x"}, {"b": 1, "a": "x"}])


@pytest.mark.parametrize("value", [MISSING, None, {}, {"user": None}, {"user": {}}, {"user": "pro"}, [], 1])
def test_what_is_missing_is_no_match_and_no_error(value: Any) -> None:
    assert not compile_filter({"user": {"plan": ["pro"]}}).matches(value)


@pytest.mark.parametrize("value", [MISSING, None, {}, {"a": 1}, 1, "x", [1]])
def test_an_empty_filter_matches(value: Any) -> None:
    assert compile_filter({}).is_empty
    assert compile_filter({}).matches(value)


@pytest.mark.parametrize(
    "value", ["x", 1, None, True, ["x", 1], [None], [["x"]], [{}], [{"$regex": "(a+)+$"}], ["x", {"$gt": 1}]]
)
def test_what_the_schema_does_not_know_is_refused_with_its_place(value: Any) -> None:
    with pytest.raises(FilterError) as caught:
        compile_filter({"user": {"plan": value}})
    assert caught.value.path[:2] == ("user", "plan")
    assert str(caught.value).startswith("The filter['user']['plan']")


@pytest.mark.parametrize("value", [None, "x", 1, [], ["x"]])
def test_a_filter_is_an_object(value: Any) -> None:
    with pytest.raises(FilterError, match=r"^The filter must be an object\.$"):
        compile_filter(value)


def test_a_filter_has_at_most_64_levels() -> None:
    pattern: Any = ["x"]
    for _ in range(64):
        pattern = {"a": pattern}
    value: Any = "x"
    for _ in range(64):
        value = {"a": value}
    assert compile_filter(pattern).matches(value)
    with pytest.raises(FilterError, match="nested deeper than 64 levels"):
        compile_filter({"a": pattern})


@pytest.mark.parametrize("key", [None, "a"])
def test_values_of_any_depth_are_answered(key: str | None) -> None:
    value: Any = "x"
    for _ in range(100_000):
        value = [value] if key is None else {key: value}
    one = compile_filter({"a": {"a": ["x"]}})
    assert not one.matches(value)
    failure = one.first_failure(value)
    assert failure is not None
    assert len(failure.found) == 200


@pytest.mark.parametrize(
    ("pattern", "value", "path", "expected", "found"),
    [
        ({"a": ["x"]}, {"a": "y"}, "$.a", '"x"', '"y"'),
        ({"a": ["pro", "team"]}, {}, "$.a", 'one of "pro", "team"', "nothing"),
        ({"a": [1, 2.5]}, {"a": None}, "$.a", "one of 1, 2.5", "null"),
        ({"a": [True]}, {"a": [1, {"b": "é"}]}, "$.a", "true", '[1,{"b":"é"}]'),
        ({"a": {"b": [{"$lt": 9}, {"$gt": 5}]}}, {"a": {"b": 5}}, "$.a.b", "$gt 5", "5"),
        ({"a": [{"$between": [1, 2]}]}, {"a": 3}, "$.a", "$between [1,2]", "3"),
        ({"a": [{"$exists": True}]}, {}, "$.a", "$exists true", "nothing"),
        ({"a": [{"$anythingBut": "x"}]}, {"a": "x"}, "$.a", '$anythingBut "x"', '"x"'),
        ({"a": {"b": ["x"]}}, {"a": "text"}, "$.a", "an object", '"text"'),
        ({"a": {"b": ["x"]}}, {"a": None}, "$.a", "an object", "null"),
        ({"a": {"b": ["x"]}}, {}, "$.a", "an object", "nothing"),
        ({"a": ["x"]}, MISSING, "$", "an object", "nothing"),
        (
            {"a": {"b": ["x"]}},
            {"a": [{"b": "y"}, 1]},
            "$.a",
            'an element that matches {"b":["x"]}, and no element of the array does',
            '[{"b":"y"},1]',
        ),
        ({"first name": {"": {'"': ["x"]}}}, {"first name": {"": {}}}, '$["first name"][""]["\\""]', '"x"', "nothing"),
        ({"a.b": {"c-d": ["x"]}}, {"a.b": {"c-d": 1}}, '$["a.b"].c-d', '"x"', "1"),
    ],
)
def test_a_failure_names_the_place_what_was_asked_and_what_was_there(
    pattern: Any, value: Any, path: str, expected: str, found: str
) -> None:
    assert compile_filter(pattern).first_failure(value) == FilterFailure(path, expected, found)


def test_the_first_of_several_failures_is_named() -> None:
    failure = compile_filter({"a": ["x"], "b": ["y"], "c": ["z"]}).first_failure({"a": "x"}, root="payload")
    assert failure == FilterFailure("payload.b", '"y"', "nothing")


def test_a_failure_is_short_however_long_its_parts() -> None:
    key = "k" * 10_000
    value: Any = ["v" * 10_000] * 1_000
    pattern: Any = {key: [f"{number}" for number in range(1_000)]}
    failure = compile_filter(pattern).first_failure({key: value})
    assert failure is not None
    assert [len(failure.path), len(failure.expected), len(failure.found)] == [500, 200, 200]
    assert {failure.path[-1], failure.expected[-1], failure.found[-1]} == {"…"}


def test_a_number_too_long_to_write_is_an_ellipsis() -> None:
    failure = compile_filter({"a": ["x"]}).first_failure({"a": 10**5_000})
    assert failure == FilterFailure("$.a", '"x"', "…")


def test_filters_are_cached_by_their_text() -> None:
    assert compiled_filter('{"a":["x"]}') is compiled_filter('{"a":["x"]}')
    assert compiled_filter('{"a":["x"]}').matches({"a": "x"})


@pytest.mark.parametrize("text", ["", "{", "{'a':1}", '{"a":["x"]} {}', "\ufeff{}", '{"a":[NaN]}', "[" * 100_000])
def test_a_text_that_is_no_json_is_no_filter(text: str) -> None:
    with pytest.raises(FilterError, match=r"^The filter must be JSON \(.+\)\.$"):
        compiled_filter(text)


def test_a_text_that_is_json_but_no_filter_is_refused_each_time() -> None:
    for _ in range(2):
        with pytest.raises(FilterError, match=r"^The filter\['a'\] must be an object or an array\.$"):
            compiled_filter('{"a":1}')


def test_the_cache_lets_go_of_what_was_used_least_recently() -> None:
    cache = FilterCache(max_characters=650)
    first, second = cache.get('{"a":[]}'), cache.get('{"b":[]}')
    assert cache.get('{"a":[]}') is first
    third, fourth = cache.get('{"c":[]}'), cache.get('{"d":[]}')
    assert len(cache) == 3
    assert [cache.get('{"d":[]}'), cache.get('{"c":[]}'), cache.get('{"a":[]}')] == [fourth, third, first]
    assert cache.get('{"b":[]}') is not second


def test_the_cache_compiles_what_is_too_long_to_be_held() -> None:
    cache = FilterCache(max_characters=300)
    assert cache.get(f'{{"a":["{"x" * 200}"]}}').matches({"a": "x" * 200})
    assert len(cache) == 0


def test_an_event_is_seen_with_its_payload_and_its_context() -> None:
    assert event_subject([1], None, PayloadType.JSON) == {"payload": [1], "context": None}


REQUEST: dict[str, Any] = {
    "url": "https://example.com/x",
    "method": "POST",
    "headers": {"Content-Type": "application/json; charset=utf-8"},
}


def test_a_request_with_json_is_seen_with_its_body() -> None:
    subject = event_subject({**REQUEST, "rawBody": '{"a":1}'}, {"c": 1}, PayloadType.REQUEST)
    assert subject == {"payload": {**REQUEST, "body": {"a": 1}}, "context": {"c": 1}}
    assert rule_matches(compile_filter({"method": ["POST"], "body": {"a": [1]}}), None, subject)


@pytest.mark.parametrize("raw_body", ["", "{", "a=1", '{"a":NaN}', "[" * 10_000, None, 1, {"a": 1}])
def test_a_request_whose_json_is_none_matches_no_filter_and_every_rule_without(raw_body: Any) -> None:
    subject = event_subject({**REQUEST, "rawBody": raw_body}, {}, PayloadType.REQUEST)
    method, context = compile_filter({"method": ["POST"]}), compile_filter({"a": []})
    assert subject is None
    assert not rule_matches(method, None, subject)
    assert not rule_matches(None, context, subject)
    assert rule_matches(compile_filter({}), None, subject)
    assert find_rule_failure(method, None, subject) == FilterFailure("payload.body", "JSON", "a body that is no JSON")


@pytest.mark.parametrize(
    "payload",
    [
        {**REQUEST, "headers": {"content-type": "text/plain"}, "rawBody": "{}"},
        {**REQUEST, "headers": {"accept": "application/json"}, "rawBody": "{}"},
        {**REQUEST, "headers": {"content-type": ["application/json"]}, "rawBody": "{}"},
        {**REQUEST, "headers": None, "rawBody": "{}"},
        {"method": "POST"},
        {},
        [],
        "text",
        None,
    ],
)
def test_any_other_request_has_neither_payload_nor_context(payload: Any) -> None:
    subject = event_subject(payload, {"c": 1}, PayloadType.REQUEST)
    assert not rule_matches(compile_filter({"method": ["POST"]}), None, subject)
    assert not rule_matches(None, compile_filter({"c": [1]}), subject)
    assert rule_matches(None, None, subject)


@pytest.mark.parametrize(
    ("payload_filter", "context_filter", "failure"),
    [
        ({"a": ["x"]}, {"b": [1]}, None),
        ({"a": ["x"]}, {}, None),
        ({}, {"b": [1]}, None),
        ({"a": ["y"]}, {"b": [2]}, FilterFailure("payload.a", '"y"', '"x"')),
        ({"a": ["x"]}, {"b": [2]}, FilterFailure("context.b", "2", "1")),
    ],
)
def test_both_filters_of_a_rule_must_match(
    payload_filter: Any, context_filter: Any, failure: FilterFailure | None
) -> None:
    subject = event_subject({"a": "x"}, {"b": 1}, PayloadType.JSON)
    rule = compile_filter(payload_filter), compile_filter(context_filter)
    assert find_rule_failure(*rule, subject) == failure
    assert rule_matches(*rule, subject) is (failure is None)


@pytest.mark.parametrize("subject", [None, {}, {"payload": []}, {"payload": 1, "context": None}])
def test_a_rule_that_asks_nothing_matches_at_once(subject: Any) -> None:
    empty = compile_filter({})
    for payload_filter, context_filter in product((None, empty), repeat=2):
        assert rule_matches(payload_filter, context_filter, subject)
        assert find_rule_failure(payload_filter, context_filter, subject) is None
