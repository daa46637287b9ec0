"""Whose lanes are rung next."""

from __future__ import annotations

from uuid import UUID

import pytest

from services.endpoints.domain.identifiers import NIL_UUID
from services.endpoints.domain.ledger_settings import LedgerSettings
from services.endpoints.domain.ports.ledger import RungInTurn
from services.endpoints.domain.queue_job import Queue
from services.endpoints.domain.turns import (
    MOST_IN_A_ROUND,
    START,
    Place,
    Round,
    Turn,
    WaitingEnvironment,
    has_more_to_ring,
    lanes_per_message,
    most_lanes_held,
    places_to_go_on,
    plan_round,
)

SETTINGS = LedgerSettings()
WINDOW = SETTINGS.max_waiting_messages


def waiting(*held: int) -> list[WaitingEnvironment]:
    return [WaitingEnvironment(UUID(int=number), lanes) for number, lanes in enumerate(held, start=1)]


def plan(queue: Queue, *held: int, room: int = WINDOW) -> Round | None:
    return plan_round(queue, waiting(*held), room=room, last=NIL_UUID, after={}, looked_at={}, settings=SETTINGS)


def chosen(turns: Round | None) -> list[int]:
    return [] if turns is None else [turn.environment_id.int for turn in turns.turns]


def test_nobody_waits_or_nothing_fits_is_nobodys_turn() -> None:
    assert plan(Queue.DEFAULT) is None
    assert plan(Queue.DEFAULT, 0, room=0) is None


@pytest.mark.parametrize(("room", "turns"), [(WINDOW, [1, 2]), (WINDOW // 2, [1, 2]), (WINDOW // 2 - 1, [2])])
def test_who_holds_something_waits_until_half_of_the_window_is_free(room: int, turns: list[int]) -> None:
    assert chosen(plan(Queue.DEFAULT, 7, 0, room=room)) == turns


def test_who_holds_something_leaves_a_quarter_of_the_window() -> None:
    round_ = plan(Queue.EXECUTION, 7)
    assert round_ is not None
    assert round_.limit == WINDOW - WINDOW // 4


def test_one_round_leaves_lanes_to_the_next_so_that_workers_begin_meanwhile() -> None:
    round_ = plan(Queue.DEFAULT, 0)
    assert round_ is not None
    assert round_.limit == MOST_IN_A_ROUND < WINDOW * SETTINGS.max_lanes_per_message
    rung_ = rung(*((1, f"lane-{number}") for number in range(MOST_IN_A_ROUND)))
    left = places_to_go_on(round_, rung_)
    assert has_more_to_ring(round_, rung_, left, most=most_lanes_held(Queue.DEFAULT, SETTINGS))


@pytest.mark.parametrize("queue", list(Queue))
def test_nobody_gets_more_than_an_environment_may_hold(queue: Queue) -> None:
    most = most_lanes_held(queue, SETTINGS)
    round_ = plan(queue, 0, most - 1, most)
    assert round_ is not None
    assert [turn.held + turn.most for turn in round_.turns] == [min(most, round_.turns[0].most), most]


def test_one_customers_calls_leave_most_of_a_worker_to_others() -> None:
    assert most_lanes_held(Queue.EXECUTION, SETTINGS) == SETTINGS.max_calls_per_environment
    assert most_lanes_held(Queue.DEFAULT, SETTINGS) == WINDOW * SETTINGS.max_lanes_per_message * 3 // 4


def test_smallest_settings_still_ring_a_lane() -> None:
    assert most_lanes_held(Queue.DEFAULT, LedgerSettings(max_waiting_messages=1, max_lanes_per_message=1)) == 1


def test_message_names_no_more_lanes_than_a_call_back_has_queue_jobs_for() -> None:
    assert lanes_per_message(Queue.DEFAULT, LedgerSettings(max_queue_jobs_per_call=10)) == 10


@pytest.mark.parametrize(
    ("held", "before", "turns"), [(400, 400, []), (301, 400, []), (300, 400, [1]), (100, 100, [1]), (400, None, [1])]
)
def test_environment_with_many_open_lanes_is_looked_at_again_when_a_quarter_has_closed(
    held: int, before: int | None, turns: list[int]
) -> None:
    round_ = plan_round(
        Queue.DEFAULT,
        waiting(held),
        room=WINDOW,
        last=NIL_UUID,
        after={},
        looked_at={} if before is None else {UUID(int=1): before},
        settings=SETTINGS,
    )
    assert chosen(round_) == turns


def rung(*lanes: tuple[int, str]) -> list[RungInTurn]:
    return [RungInTurn(UUID(int=number), Place(2, lane), held=1) for number, lane in lanes]


def test_environment_that_had_all_of_its_turn_goes_on_after_its_last_lane() -> None:
    round_ = Round([Turn(UUID(int=1), 0, 2, START), Turn(UUID(int=2), 0, 2, START)], limit=9)
    assert places_to_go_on(round_, rung((1, "a"), (2, "a"), (1, "b"))) == {UUID(int=1): Place(2, "b")}
    assert places_to_go_on(round_, rung((1, "a"))) == {}


def test_round_that_was_full_left_everybody_behind() -> None:
    round_ = Round([Turn(UUID(int=1), 0, 9, START), Turn(UUID(int=2), 0, 9, START)], limit=2)
    assert places_to_go_on(round_, rung((1, "a"), (2, "b"))) == {UUID(int=1): Place(2, "a"), UUID(int=2): Place(2, "b")}


def test_another_round_follows_only_where_somebody_may_hold_more() -> None:
    at_its_most = Round([Turn(UUID(int=1), 3, 2, START), Turn(UUID(int=2), 0, 2, START)], limit=9)
    lanes = rung((1, "a"), (1, "b"), (2, "a"))
    assert not has_more_to_ring(at_its_most, lanes, {UUID(int=1)}, most=5)
    assert has_more_to_ring(at_its_most, lanes, {UUID(int=1)}, most=6)
    assert not has_more_to_ring(at_its_most, lanes, set(), most=6)


def test_another_round_follows_one_that_was_full() -> None:
    full = Round([Turn(UUID(int=1), 3, 2, START)], limit=2)
    assert has_more_to_ring(full, rung((1, "a"), (1, "b")), {UUID(int=1)}, most=5)


def test_turn_goes_on_where_the_last_one_ended() -> None:
    place = Place(2, "lane-7")
    round_ = plan_round(
        Queue.DEFAULT,
        waiting(0, 0),
        room=WINDOW,
        last=NIL_UUID,
        after={UUID(int=2): place},
        looked_at={},
        settings=SETTINGS,
    )
    assert round_ is not None
    assert [turn.after for turn in round_.turns] == [START, place]
