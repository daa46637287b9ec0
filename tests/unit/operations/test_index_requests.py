"""When a waiting index runs after another request joined it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from services.endpoints.domain.endpoint_index import IndexSource
from services.endpoints.domain.ports.ledger import WaitingQueueJob
from services.endpoints.domain.queue_job import QueueJobState
from services.endpoints.operations.index_requests import IndexWish, joined_run_at

NOW = datetime(2024, 1, 1, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def waiting_until(run_at: datetime, *, has_begun: bool = False) -> WaitingQueueJob:
    return WaitingQueueJob(
        UUID(int=1), QueueJobState.SCHEDULED, run_at, {}, NOW if has_begun else None, cancel_requested=False
    )


@pytest.mark.parametrize(("earliest", "expected"), [(0, 0), (50, 50), (200, 100)])
def test_joined_index_runs_when_the_more_urgent_of_both_asks_for_it(earliest: float, expected: float) -> None:
    run_at = joined_run_at(
        waiting_until(after(100)), IndexWish(IndexSource.API), earliest=after(earliest), now=NOW, quiet_since=None
    )

    assert run_at == after(expected)


@pytest.mark.parametrize(("force", "expected"), [(False, 100), (True, 0)])
def test_only_force_cuts_the_wait_after_a_failed_attempt_short(*, force: bool, expected: float) -> None:
    waiting = waiting_until(after(100), has_begun=True)

    run_at = joined_run_at(waiting, IndexWish(IndexSource.API, force=force), earliest=NOW, now=NOW, quiet_since=None)

    assert run_at == after(expected)


def test_wish_for_a_new_url_cuts_the_wait_after_a_failed_attempt_short_but_not_the_window() -> None:
    waiting, wish = waiting_until(after(3600), has_begun=True), IndexWish(IndexSource.INTERNAL, has_moved=True)

    run_at = joined_run_at(waiting, wish, earliest=after(900), now=NOW, quiet_since=None)

    assert run_at == after(900)


@pytest.mark.parametrize(
    ("since", "waiting", "expected"),
    [
        pytest.param(-2, 3, 5, id="moves back"),
        pytest.param(-58, 1, 2, id="within a minute"),
        pytest.param(-70, -5, -5, id="not past a minute"),
        pytest.param(-2, 700, 700, id="not before the window ends"),
    ],
)
def test_wish_for_quiet_moves_the_index_back_for_a_minute_at_most(
    since: float, waiting: float, expected: float
) -> None:
    wish = IndexWish(IndexSource.HOOK, quiet=timedelta(seconds=5))
    run_at = joined_run_at(waiting_until(after(waiting)), wish, earliest=after(900), now=NOW, quiet_since=after(since))

    assert run_at == after(expected)


def test_wish_for_quiet_does_not_wait_for_a_time_that_an_earlier_wish_named() -> None:
    wish, in_a_month = IndexWish(IndexSource.HOOK, quiet=timedelta(seconds=5)), after(30 * 86_400)

    run_at = joined_run_at(waiting_until(in_a_month), wish, earliest=after(5), now=NOW, quiet_since=NOW)

    assert run_at == after(5)


@pytest.mark.parametrize(("waiting", "expected"), [(1, 5), (100, 100)])
def test_wish_for_quiet_moves_a_failed_attempt_back_and_never_forward(waiting: float, expected: float) -> None:
    wish = IndexWish(IndexSource.HOOK, quiet=timedelta(seconds=5))

    run_at = joined_run_at(
        waiting_until(after(waiting), has_begun=True), wish, earliest=after(5), now=NOW, quiet_since=NOW
    )

    assert run_at == after(expected)
