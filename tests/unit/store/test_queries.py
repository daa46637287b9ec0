"""How a statement with optional filters is sent."""

from __future__ import annotations

from services.endpoints.store.queries import decided

_STATEMENT = "SELECT 1 FROM t WHERE ($1::text IS NULL OR a = $1) AND ($10::uuid IS NULL OR b = $10) AND c IS NULL"


def test_filter_that_is_not_asked_for_holds_for_all_and_one_that_is_for_what_it_says() -> None:
    assert decided(_STATEMENT, [None, *range(2, 11)]) == (
        "SELECT 1 FROM t WHERE ((TRUE OR $1::text IS NULL) OR a = $1)"
        " AND ((FALSE AND $10::uuid IS NULL) OR b = $10) AND c IS NULL"
    )


def test_arguments_that_filter_by_the_same_columns_make_the_same_statement() -> None:
    others = [0] * 8
    assert decided(_STATEMENT, ["x", *others, None]) is decided(_STATEMENT, ["y", *others, None])
    assert decided(_STATEMENT, ["x", *others, None]) != decided(_STATEMENT, [None, *others, "x"])


def test_statement_without_optional_filters_stays_as_it_is() -> None:
    assert decided("SELECT a FROM t WHERE id = $1", [None]) == "SELECT a FROM t WHERE id = $1"
