from __future__ import annotations

from datetime import timedelta

import pytest

from services.endpoints.rpc.deadlines import Deadlines, deadline_error, time_to_work

ENDPOINTS = "/kongflow.v1.EndpointService"


@pytest.mark.parametrize(
    ("method", "remaining", "expected"),
    [
        (f"{ENDPOINTS}/GetEndpoint", None, 10),
        (f"{ENDPOINTS}/CreateEndpoint", None, 35),
        (f"{ENDPOINTS}/UpdateEndpoint", None, 35),
        (f"{ENDPOINTS}/PingEndpoint", None, 35),
        ("/kongflow.v1.WorkerService/RunQueueJobs", None, 45),
        (f"{ENDPOINTS}/GetEndpoint", 60, 60),
        (f"{ENDPOINTS}/PingEndpoint", 2, 2),
        (f"{ENDPOINTS}/PingEndpoint", 3600, 300),
        (f"{ENDPOINTS}/PingEndpoint", -1, 0),
    ],
)
def test_the_deadline_is_the_callers_or_the_methods_default(
    method: str, remaining: float | None, expected: float
) -> None:
    given = None if remaining is None else timedelta(seconds=remaining)
    assert Deadlines().of(method, given) == timedelta(seconds=expected)


@pytest.mark.parametrize(("deadline", "expected"), [(35, 34.75), (10, 9.75), (2, 1.8), (0.1, 0.09), (0, 0)])
def test_work_ends_early_enough_for_the_status_to_arrive(deadline: float, expected: float) -> None:
    assert time_to_work(timedelta(seconds=deadline)) == timedelta(seconds=expected)


def test_the_error_says_how_long_the_deadline_was() -> None:
    assert deadline_error(timedelta(seconds=2.5)).metadata == {"deadline_seconds": "2.5"}
