"""Filters against an independent slow matcher, and against more random pairs than one can think of."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.endpoints.domain.event import PayloadType
from services.endpoints.domain.filter import (
    MISSING,
    FilterError,
    compile_filter,
    event_subject,
    find_rule_failure,
    rule_matches,
)
from services.endpoints.domain.filter_shape import find_filter_problem
from tests.support.filter_pairs import NUMBERS, SCALARS, TEXTS, FilterPairs
from tests.support.slow_filter import slow_failures, slowly_matches

if TYPE_CHECKING:
    from services.endpoints.domain.filter import FilterValue

PAIRS = int(os.environ.get("KONGFLOW_FILTER_PAIRS", "20000"))
SEED = 20_231_019

keys = st.sampled_from(["a", "b", "c"])
texts = st.sampled_from(TEXTS) | st.text(max_size=3)
numbers = st.sampled_from(NUMBERS) | st.integers(-3, 3) | st.floats(-3, 3)
scalars = st.sampled_from(SCALARS) | texts | numbers
values = st.recursive(
    st.none() | scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=12,
)
operators = st.one_of(
    *(st.fixed_dictionaries({name: texts}) for name in ("$startsWith", "$endsWith", "$ignoreCaseEquals")),
    *(st.fixed_dictionaries({name: st.booleans()}) for name in ("$exists", "$isNull")),
    *(st.fixed_dictionaries({name: numbers}) for name in ("$gt", "$gte", "$lt", "$lte")),
    *(st.fixed_dictionaries({name: scalars}) for name in ("$includes", "$not", "$anythingBut")),
    st.fixed_dictionaries({"$anythingBut": st.lists(scalars, max_size=3)}),
    st.fixed_dictionaries({"$between": st.lists(numbers, min_size=2, max_size=2)}),
    st.fixed_dictionaries({"$gt": numbers}, optional={"$lte": numbers, "$exists": st.booleans()}),
)
matchers = st.one_of(
    *(st.lists(kind, max_size=3) for kind in (texts, numbers, st.booleans())),
    st.lists(operators, min_size=1, max_size=2),
)
filters = st.dictionaries(
    keys, st.recursive(matchers, lambda inner: st.dictionaries(keys, inner, max_size=2), max_leaves=6), max_size=3
)


@given(pattern=filters, value=values | st.just(MISSING))
def test_matching_agrees_with_the_slow_matcher(pattern: Any, value: FilterValue) -> None:
    compiled = compile_filter(pattern)
    place = () if value is MISSING else (value,)
    assert compiled.matches(value) is slowly_matches(pattern, place)


@given(pattern=filters, value=values | st.just(MISSING))
def test_the_first_failure_is_where_the_slow_matcher_fails_first(pattern: Any, value: FilterValue) -> None:
    compiled = compile_filter(pattern)
    place = () if value is MISSING else (value,)
    failure = compiled.first_failure(value)
    expected = next(slow_failures(pattern, place), None)
    assert (failure is None) is compiled.matches(value)
    assert (failure is None) is (expected is None)
    if failure is not None and expected is not None:
        assert failure.path == ".".join(("$", *expected[0]))
        assert (failure.found == "nothing") is (expected[1] == ())


@given(payload_filter=filters, context_filter=filters, payload=values, context=values)
def test_a_rule_matches_as_one_pattern_of_two_filters(
    payload_filter: Any, context_filter: Any, payload: Any, context: Any
) -> None:
    rule = compile_filter(payload_filter), compile_filter(context_filter)
    subject = event_subject(payload, context, PayloadType.JSON)
    pattern = {"payload": payload_filter, "context": context_filter}
    expected = not (payload_filter or context_filter) or slowly_matches(
        pattern, ({"payload": payload, "context": context},)
    )
    assert rule_matches(*rule, subject) is expected
    assert (find_rule_failure(*rule, subject) is None) is expected


@pytest.mark.timeout(1_800)
def test_no_random_pair_of_filter_and_payload_raises() -> None:
    pairs = FilterPairs(SEED)
    matched = 0
    for number in range(PAIRS):
        pattern = pairs.filter()
        value = MISSING if number % 50 == 0 else pairs.payload()
        compiled = compile_filter(pattern)
        matches = compiled.matches(value)
        failure = compiled.first_failure(value)
        assert matches is (failure is None), (pattern, value)
        assert matches is slowly_matches(pattern, () if value is MISSING else (value,)), (pattern, value)
        matched += matches
    assert 0.2 * PAIRS < matched < 0.8 * PAIRS


def test_no_random_filter_that_is_malformed_raises_anything_else() -> None:
    pairs = FilterPairs(SEED)
    refused = 0
    for _ in range(PAIRS // 10):
        pattern = pairs.malformed()
        problem = find_filter_problem(pattern)
        if problem is None:
            compile_filter(pattern).matches(pairs.payload())
            continue
        refused += 1
        with pytest.raises(FilterError) as caught:
            compile_filter(pattern)
        assert (caught.value.path, caught.value.problem) == problem
    assert refused > PAIRS // 20
