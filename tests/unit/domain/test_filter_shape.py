from __future__ import annotations

import pytest

from services.endpoints.domain.filter_shape import find_dispatcher_filter_problem, find_filter_problem


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"a": []},
        {"a": ["x", "y"], "b": [1, 2.5], "c": [True, False]},
        {"a": {"b": {"c": ["x"]}}},
        {"a": [{"$gt": 1}, {"$lt": 5}]},
        {"a": [{"$gt": 1, "$lte": 5}]},
        {"a": [{"$startsWith": "x"}, {"$endsWith": "y"}, {"$ignoreCaseEquals": "z"}]},
        {"a": [{"$exists": True}], "b": [{"$isNull": False}]},
        {"a": [{"$anythingBut": "x"}], "b": [{"$anythingBut": ["x", 1, True]}]},
        {"a": [{"$between": [1, 2]}], "b": [{"$includes": 1}], "c": [{"$not": "x"}]},
    ],
)
def test_every_shape_of_the_protocol_is_accepted(value: object) -> None:
    assert find_filter_problem(value) is None


@pytest.mark.parametrize(
    ("value", "path", "problem"),
    [
        ("x", (), "must be an object"),
        (["x"], (), "must be an object"),
        ({"a": "x"}, ("a",), "must be an object or an array"),
        ({"a": None}, ("a",), "must be an object or an array"),
        ({"a": {"b": 1}}, ("a", "b"), "must be an object or an array"),
        ({"a": ["x", 1]}, ("a",), "must hold only"),
        ({"a": [1, True]}, ("a",), "must hold only"),
        ({"a": ["x", {"$gt": 1}]}, ("a",), "must hold only"),
        ({"a": [None]}, ("a",), "must hold only"),
        ({"a": [["x"]]}, ("a",), "must hold only"),
        ({"a": [{}]}, ("a", 0), "must hold an operator"),
        ({"a": [{"$gt": 1}, {"$gx": 1}]}, ("a", 1, "$gx"), "is no operator"),
        ({"a": [{"$gt": "1"}]}, ("a", 0, "$gt"), "must be a number"),
        ({"a": [{"$gt": True}]}, ("a", 0, "$gt"), "must be a number"),
        ({"a": [{"$startsWith": 1}]}, ("a", 0, "$startsWith"), "must be a string"),
        ({"a": [{"$exists": "yes"}]}, ("a", 0, "$exists"), "must be true or false"),
        ({"a": [{"$between": [1]}]}, ("a", 0, "$between"), "must be an array of two numbers"),
        ({"a": [{"$between": [1, "2"]}]}, ("a", 0, "$between"), "must be an array of two numbers"),
        ({"a": [{"$between": 1}]}, ("a", 0, "$between"), "must be an array of two numbers"),
        ({"a": [{"$anythingBut": [None]}]}, ("a", 0, "$anythingBut"), "or an array of these"),
        ({"a": [{"$includes": [1]}]}, ("a", 0, "$includes"), "must be a string, a number or true or false"),
        ({"a": [{"$not": None}]}, ("a", 0, "$not"), "must be a string, a number or true or false"),
    ],
)
def test_a_malformed_filter_is_located(value: object, path: tuple[str | int, ...], problem: str) -> None:
    found = find_filter_problem(value)
    assert found is not None
    assert found[0] == path
    assert problem in found[1]


def test_deep_filters_need_no_stack() -> None:
    value: object = ["x"]
    for _ in range(100_000):
        value = {"a": value}
    assert find_filter_problem(value) is None


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"a": {}},
        {"a": ["x"], "b": {"c": [{"$gt": 1}, {"$lte": 5}, {"$between": [1, 1]}]}},
        {"$between": ["b", "a"], "$gt": {"$between": [2, 1]}},
    ],
)
def test_a_caller_may_store_a_filter_without_mistakes(value: object) -> None:
    assert find_dispatcher_filter_problem(value) is None


@pytest.mark.parametrize(
    ("value", "path", "problem"),
    [
        (None, (), "must be an object"),
        ([], (), "must be an object"),
        ({"a": []}, ("a",), "must not be empty"),
        ({"a": {"b": ["x"]}, "c": {"d": []}}, ("c", "d"), "must not be empty"),
        ({"a": [{"$anythingBut": []}]}, ("a", 0, "$anythingBut"), "must not be empty"),
        ({"a": [{"$gt": 1, "$lte": 5}]}, ("a", 0), "must hold one operator"),
        ({"a": [{"$between": [2, 1]}]}, ("a", 0, "$between"), "lower number first"),
        ({"a": [{"$between": [1, "2"]}]}, ("a", 0, "$between"), "must be an array of two numbers"),
        ({"a": [{"$regex": "(a+)+$"}]}, ("a", 0, "$regex"), "is no operator"),
        ({"a": [{"$gt": "1"}]}, ("a", 0, "$gt"), "must be a number"),
        ({f"k{number}": ["x"] for number in range(1_000)}, (), "at most 1,000 values"),
        ({"a": ["x"] * 999}, (), "at most 1,000 values"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_surely_a_mistake_is_refused_to_callers(
    value: object, path: tuple[str | int, ...], problem: str
) -> None:
    found = find_dispatcher_filter_problem(value)
    assert found is not None
    assert found[0] == path
    assert problem in found[1]


def test_a_caller_may_store_a_thousand_values_in_64_levels() -> None:
    value: object = ["x"] * 936
    for _ in range(63):
        value = {"a": value}
    assert find_dispatcher_filter_problem(value) is None
    assert find_dispatcher_filter_problem({"a": ["x"] * 998}) is None
    deeper = find_dispatcher_filter_problem({"a": value})
    assert deeper == (("a",) * 64, "must not be nested deeper than 64 levels")
