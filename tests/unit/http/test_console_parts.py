"""What the console is made of: sessions, charts, history, and failures that nobody planned."""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request
from structlog.testing import capture_logs

from services.endpoints.domain.errors import DatabaseUnavailableError, ServerOverloadedError
from services.endpoints.domain.queue_job import Queue, QueueJobState
from services.endpoints.domain.queue_stats import Latency, QueueStats
from services.endpoints.http.console.application import COOKIE, console
from services.endpoints.http.console.charts import pickup_chart, round_up, waiting_chart
from services.endpoints.http.console.history import QueueHistory
from services.endpoints.http.console.rendering import duration
from services.endpoints.http.console.sessions import SIGNED_IN_FOR, Sessions
from services.endpoints.rpc.memory import PLENTY
from services.endpoints.secrets.secret_box import AesGcmSecretBox
from tests.support.console import FORMS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aiohttp import web

    from services.endpoints.http.console.services import ConsoleServices

KEY, OLDER_KEY = b"k" * 32, b"o" * 32
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Clock:
    """A clock and a stopwatch that stand still until they are moved."""

    def __init__(self) -> None:
        self.now = NOW
        self.seconds = 1000.0


def sessions(clock: Clock, *keys: bytes) -> Sessions:
    return Sessions(box=AesGcmSecretBox(keys=keys or (KEY,)), clock=lambda: clock.now)


def test_session_is_read_by_every_server_with_one_of_its_keys() -> None:
    clock = Clock()
    session = sessions(clock, OLDER_KEY).begin("secret")
    cookie = sessions(clock, OLDER_KEY).seal(session)
    assert sessions(clock, KEY, OLDER_KEY).unseal(cookie) == session
    assert sessions(clock, KEY).unseal(cookie) is None


def test_session_ends_after_eight_hours() -> None:
    clock = Clock()
    cookie = sessions(clock).seal(sessions(clock).begin("secret"))
    clock.now = NOW + SIGNED_IN_FOR - timedelta(seconds=1)
    assert sessions(clock).unseal(cookie) is not None
    clock.now = NOW + SIGNED_IN_FOR
    assert sessions(clock).unseal(cookie) is None


@pytest.mark.parametrize("cookie", ["", "a", "====", "ä", "x" * 5000, urlsafe_b64encode(b"\x01" * 60).decode()])
def test_garbage_is_nobodys_session(cookie: str) -> None:
    assert sessions(Clock()).unseal(cookie) is None


def test_form_belongs_to_its_session_alone() -> None:
    made = sessions(Clock())
    session = made.begin("secret")
    assert session.is_of(session.csrf)
    assert not any(session.is_of(other) for other in ("", "ä\udc80", made.begin("secret").csrf))


def stats(waiting: int, p95: timedelta | None = None) -> list[QueueStats]:
    pickup = Latency(p95, p95, p95, 1) if p95 is not None else None
    counts = {QueueJobState.AVAILABLE: waiting, QueueJobState.COMPLETED: 99}
    return [QueueStats(Queue.EVENTS, counts, 0.0, open_lanes=0, unknown_kinds=0, pickup=pickup)]


def test_history_remembers_five_minutes_of_each_tenant() -> None:
    clock = Clock()
    history = QueueHistory(monotonic=lambda: clock.seconds)
    for second in range(400):
        clock.seconds = 1000.0 + second
        samples = history.add("ours", stats(second))
    assert [sample.waiting[Queue.EVENTS] for sample in samples] == list(range(99, 400))
    assert len(history.add("theirs", stats(0))) == 1


def test_history_grows_no_faster_however_many_look() -> None:
    clock = Clock()
    history = QueueHistory(monotonic=lambda: clock.seconds)
    for tenth in range(100):
        clock.seconds = 1000.0 + tenth / 10
        samples = history.add("ours", stats(tenth))
    assert len(samples) <= 21
    assert samples[-1].waiting[Queue.EVENTS] == 99


def test_history_forgets_who_looked_longest_ago() -> None:
    clock = Clock()
    history = QueueHistory(monotonic=lambda: clock.seconds)
    for tenant in range(257):
        history.add(tenant, stats(1))
        clock.seconds += 0.1
    clock.seconds += 1
    assert (len(history.add(256, stats(1))), len(history.add(0, stats(1)))) == (2, 1)


def test_chart_runs_from_five_minutes_ago_to_now_and_up_to_a_round_number() -> None:
    clock = Clock()
    history = QueueHistory(monotonic=lambda: clock.seconds)
    history.add("ours", stats(0))
    clock.seconds += 150
    history.add("ours", stats(20, timedelta(milliseconds=50)))
    clock.seconds += 150
    samples = history.add("ours", stats(30, timedelta(milliseconds=80)))

    depth, pickup = waiting_chart(samples), pickup_chart(samples)
    assert (depth.top, depth.lines[0].now) == (50, 30)
    assert depth.lines[0].points == "0.0,140.0 300.0,84.0 600.0,56.0"
    assert (pickup.top, pickup.lines[0].now, pickup.lines[0].points) == (100, 80, "300.0,70.0 600.0,28.0")


def test_chart_of_nothing_has_no_lines() -> None:
    samples = QueueHistory(monotonic=lambda: 0.0).add("ours", stats(0))
    assert (pickup_chart(samples).lines, pickup_chart(samples).top) == ((), 1)


@pytest.mark.parametrize(("value", "top"), [(0, 1), (1, 1), (3, 5), (51, 100), (100, 100), (101, 200)])
def test_edges_of_charts_are_round(value: float, top: float) -> None:
    assert round_up(value) == top


def test_durations_are_shown_in_what_people_read() -> None:
    assert [duration(timedelta(seconds=each)) for each in (0.0124, 9.9, 34)] == ["12 ms", "9900 ms", "34 s"]


class Failing:
    """Operations of which none can answer."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __getattr__(self, _operations: str) -> Failing:
        return self

    async def authenticate(self, _credential: str) -> None:
        raise self.error


def failing_console(
    error: Exception,
    clock: Clock,
    admit: Callable[[], None] = PLENTY.admit,
    body_within: timedelta = timedelta(seconds=10),
) -> web.Application:
    services = cast("ConsoleServices", cast("Any", Failing(error)))
    history = QueueHistory(monotonic=lambda: clock.seconds)
    return console(services=services, sessions=sessions(clock), history=history, admit=admit, body_within=body_within)


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (DatabaseUnavailableError("PostgreSQL is away.", retry_after=timedelta(seconds=1)), 503, "PostgreSQL is away."),
        (ServerOverloadedError("connections"), 503, "no connections left"),
        (RuntimeError("a secret of the inside"), 500, "the log of the service says what"),
    ],
)
async def test_failures_are_pages_that_tell_nothing_of_the_inside(error: Exception, status: int, words: str) -> None:
    clock = Clock()
    sealed = sessions(clock).seal(sessions(clock).begin("secret"))
    application = failing_console(error, clock)
    application.freeze()
    with capture_logs() as logs:
        request = make_mocked_request("GET", "/environments", headers={"Cookie": f"{COOKIE}={sealed}"}, app=application)
        response = cast("Any", await application._handle(request))
    assert (response.status, words in response.text, "inside" in response.text) == (status, True, False)
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert [line["event"] for line in logs] == (["console_page_failed"] if status == 500 else [])
    assert [line["reference"] for line in logs if line["reference"] not in response.text] == []
    assert "Load the page again" in response.text


async def test_page_is_not_begun_without_room_for_it() -> None:
    application = failing_console(AssertionError("it was begun"), Clock(), admit=no_memory)
    application.freeze()
    response = cast("Any", await application._handle(make_mocked_request("GET", "/sign-in", app=application)))
    assert (response.status, response.headers["Retry-After"]) == (503, "1")
    assert "no memory left" in response.text


def no_memory() -> None:
    raise ServerOverloadedError("memory")


def test_every_form_is_known_to_the_test_that_sends_forms_of_other_sites() -> None:
    application = failing_console(RuntimeError(), Clock())
    posts = [route.resource for route in application.router.routes() if route.method == "POST"]
    assert sorted(resource.canonical for resource in posts if resource is not None) == sorted(FORMS)


async def test_form_that_does_not_come_is_waited_for_no_longer_than_its_time() -> None:
    application = failing_console(AssertionError("it was begun"), Clock(), body_within=timedelta(milliseconds=50))
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": "10"}
    async with TestClient(TestServer(application)) as client, asyncio.timeout(5):
        answer = await client.post("/sign-in", data=never_complete(), headers=headers)
        assert (answer.status, "did not come within 0.05 s." in await answer.text()) == (408, True)


async def never_complete() -> AsyncIterator[bytes]:
    yield b"c"
    await asyncio.Event().wait()
