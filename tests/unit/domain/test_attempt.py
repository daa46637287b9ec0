"""What follows a failed attempt."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.endpoints.domain.attempt import MAX_MESSAGE_LENGTH, AttemptFailedError, RetryPolicy, unknown_kind
from services.endpoints.domain.errors import DatabaseDefectError
from services.endpoints.domain.queue_job import Priority, Queue, QueueJob
from services.endpoints.domain.retry import Backoff

POLICY = RetryPolicy(Backoff())


def attempt_of(number: int, *, of: int) -> QueueJob:
    return QueueJob(
        id=UUID(int=1),
        environment_id=UUID(int=2),
        kind="registerJob",
        args={},
        queue=Queue.DEFAULT,
        lane="endpoint-1",
        priority=Priority.NORMAL,
        attempt=number,
        max_attempts=of,
        unended=0,
    )


@pytest.mark.parametrize(
    ("attempt", "seconds"), [(1, 1), (2, 2), (3, 4), (4, 8), (9, 256), (10, 512), (11, 600), (12, 600), (4_000, 600)]
)
def test_delay_doubles_up_to_ten_minutes(attempt: int, seconds: int) -> None:
    longest = Backoff().delay(attempt=attempt, jitter=1.0)

    assert longest == timedelta(seconds=seconds)
    assert Backoff().delay(attempt=attempt, jitter=0.0) == longest / 2


@given(attempt=st.integers(1, 10_000), jitter=st.floats(0, 1, exclude_max=True))
def test_delay_stays_in_the_upper_half(attempt: int, jitter: float) -> None:
    longest = Backoff().delay(attempt=attempt, jitter=1.0)

    assert longest / 2 <= Backoff().delay(attempt=attempt, jitter=jitter) <= longest


def test_last_attempt_is_discarded() -> None:
    error = AttemptFailedError("it broke", reason="BROKEN")

    assert POLICY.after(attempt_of(2, of=3), error, jitter=0).retry_in is not None
    assert POLICY.after(attempt_of(3, of=3), error, jitter=0).retry_in is None


def test_what_cannot_succeed_by_repeating_is_discarded_at_once() -> None:
    error = AttemptFailedError("never", reason="NEVER", is_retryable=False)

    assert POLICY.after(attempt_of(1, of=5), error, jitter=0).retry_in is None


def test_customers_wish_only_ever_lengthens_the_delay() -> None:
    long = AttemptFailedError("busy", reason="BUSY", retry_after=timedelta(minutes=3))
    short = AttemptFailedError("busy", reason="BUSY", retry_after=timedelta(milliseconds=1))

    assert POLICY.after(attempt_of(1, of=5), long, jitter=0).retry_in == timedelta(minutes=3)
    assert POLICY.after(attempt_of(1, of=5), short, jitter=0).retry_in == timedelta(milliseconds=500)


def test_unnamed_error_is_repeated_and_its_text_withheld() -> None:
    failure = POLICY.after(attempt_of(1, of=5), ValueError("a payload"), jitter=0)

    assert (failure.reason, failure.message) == ("INTERNAL", "The handler failed with ValueError.")
    assert failure.retry_in is not None


def test_error_of_the_database_is_stored_by_the_databases_name_of_it() -> None:
    failure = POLICY.after(attempt_of(1, of=5), DatabaseDefectError("23514", "CheckViolationError"), jitter=0)

    assert failure.message == "The handler failed with CheckViolationError."


def test_long_message_is_cut() -> None:
    failure = POLICY.after(attempt_of(1, of=5), AttemptFailedError("x" * 10_000, reason="LONG"), jitter=0)

    assert len(failure.message) == MAX_MESSAGE_LENGTH


def test_unknown_kind_waits_as_long_as_is_set_and_counts_nothing() -> None:
    failure = unknown_kind(attempt_of(1, of=1), delay=timedelta(seconds=60))

    assert (failure.reason, failure.retry_in, failure.counts_attempt) == ("UNKNOWN_KIND", timedelta(seconds=60), False)
