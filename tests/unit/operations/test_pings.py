"""How long an interactive ping may take, with what came before it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from services.endpoints.domain.callers import Callers
from services.endpoints.domain.endpoint_calls import EndpointAddress, PingResult
from services.endpoints.operations.pings import PingBudget, Pinger

ADDRESS = EndpointAddress(url="http://app.example.com/", api_key="tr_dev_x", slug="app")
SECOND = timedelta(seconds=1)


class Client:
    """An endpoint that never answers: notes how long it was given for each try."""

    def __init__(self) -> None:
        self.timeouts: list[timedelta] = []

    async def ping(self, _address: EndpointAddress, *, timeout: timedelta) -> PingResult:
        self.timeouts.append(timeout)
        return PingResult(ok=False, error="", http_status=None, duration=timedelta())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock, moved by hand."""
    now = [100.0]
    monkeypatch.setattr("services.endpoints.operations.pings.monotonic", lambda: now[0])
    return now


def pinger_of(client: Any) -> Pinger:
    return Pinger(client=client, callers=Callers(), total=30 * SECOND, each=20 * SECOND, pause=SECOND)


@pytest.mark.parametrize(
    ("deadline", "expected"), [(None, 30), (35, 30), (31, 30), (30, 29), (2, 1), (1, 0.05), (0, 0.05)]
)
def test_a_ping_ends_a_second_before_the_deadline_and_within_the_total(
    clock: list[float], deadline: float | None, expected: float
) -> None:
    budget = pinger_of(Client()).budget(None if deadline is None else deadline * SECOND)

    assert budget == PingBudget(clock[0] + expected)


@pytest.mark.parametrize(("before", "expected"), [(0, 20), (12, 18), (29.5, 0.5), (31, 0.05)])
async def test_what_came_before_a_ping_is_taken_from_its_time(
    clock: list[float], before: float, expected: float
) -> None:
    client = Client()
    pinger = pinger_of(client)
    budget = pinger.budget(None)
    clock[0] += before

    await pinger.ping(ADDRESS, budget=budget)

    assert client.timeouts[0] == expected * SECOND
