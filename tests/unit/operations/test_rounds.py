"""What fails in the background is repeated, told once and counted; a defect of the program ends its loop."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest
from structlog.testing import capture_logs

from services.endpoints.domain.endpoint_health import HealthPolicy
from services.endpoints.domain.errors import ConflictError, DatabaseDefectError, DatabaseUnavailableError
from services.endpoints.domain.identifiers import new_uuid7
from services.endpoints.domain.ledger_settings import LedgerSettings, Retention
from services.endpoints.domain.ports.publisher import QueueUnavailableError
from services.endpoints.operations.credential_uses import CredentialUses
from services.endpoints.operations.endpoint_upkeep import EndpointUpkeep
from services.endpoints.operations.index_revisions import IndexRevisions
from services.endpoints.operations.leases import LeaseKeeper
from services.endpoints.operations.prune import Upkeep
from services.endpoints.operations.readiness import Readiness
from services.endpoints.operations.relay import Relay
from services.endpoints.operations.rescue import Rescue
from services.endpoints.operations.rounds import Rounds
from tests.support.memory_queue import MemoryPublisher, MemoryWakeUps

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.endpoints.operations.rounds import Loop

NOBODY: Any = None
SETTINGS = LedgerSettings()
DEFECT = DatabaseDefectError("XX000", "InternalServerError")
AWAY = DatabaseUnavailableError("It is away.", retry_after=timedelta(seconds=1))
ERRORS = [
    DEFECT,
    DatabaseDefectError("42P01", "UndefinedTableError"),
    AWAY,
    ConflictError("It gave way.", retry_after=timedelta(seconds=1)),
    QueueUnavailableError("Redis is away."),
    TimeoutError(),
]
LOOPS: dict[str, Callable[[], Any]] = {
    "readiness": lambda: Readiness(database=NOBODY, health=NOBODY, finding=lambda: None),
    "relay": lambda: Relay(store=NOBODY, publisher=MemoryPublisher(), wake_ups=MemoryWakeUps(), settings=SETTINGS),
    "rescue": lambda: Rescue(
        store=NOBODY, publisher=MemoryPublisher(), finality=NOBODY, observer=NOBODY, settings=SETTINGS
    ),
    "leases": lambda: LeaseKeeper(store=NOBODY, settings=SETTINGS),
    "index_revisions": lambda: IndexRevisions(store=NOBODY, wake_ups=MemoryWakeUps()),
    "upkeep": lambda: Upkeep(store=NOBODY, new_id=new_uuid7, retention=Retention()),
    "credential_uses": lambda: CredentialUses(store=NOBODY),
    "endpoint_upkeep": lambda: EndpointUpkeep(
        store=NOBODY, requests=NOBODY, policy=HealthPolicy(), new_id=new_uuid7, jitter=lambda: 0
    ),
}


class Failures:
    """Counts them by loop."""

    def __init__(self) -> None:
        self.loops: list[str] = []

    def count_failed_round(self, loop: str) -> None:
        self.loops.append(loop)


class Script:
    """A round that raises what it is told to, one after the other, and then answers and says so."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.done = asyncio.Event()

    async def __call__(self) -> timedelta:
        if self.errors:
            raise self.errors.pop(0)
        self.done.set()
        return timedelta(hours=1)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Have nobody wait; return for how long they would."""
    paused: list[float] = []
    turn = asyncio.sleep

    async def pass_by(seconds: float) -> None:
        paused.append(seconds)
        await turn(0)

    monkeypatch.setattr(asyncio, "sleep", pass_by)
    return paused


@pytest.mark.usefixtures("pauses")
@pytest.mark.parametrize("error", ERRORS, ids=str)
@pytest.mark.parametrize("name", LOOPS)
async def test_every_loop_goes_on_after_an_error_and_tells_of_it_once(
    monkeypatch: pytest.MonkeyPatch, name: str, error: Exception
) -> None:
    loop, script, failures = LOOPS[name](), Script(error, error, error), Failures()
    monkeypatch.setattr(loop, "run_once", script)
    with capture_logs() as logs:
        running = asyncio.create_task(cast("Loop", loop).run(Rounds(name, observer=failures)))
        await script.done.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    assert failures.loops == [name] * 3
    (told,) = (line for line in logs if line["event"] == "loop_waits")
    assert (told["loop"], told["message"]) == (name, str(error))


@pytest.mark.usefixtures("pauses")
@pytest.mark.parametrize("name", LOOPS)
async def test_every_loop_ends_with_a_defect_of_the_program(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    loop = LOOPS[name]()
    monkeypatch.setattr(loop, "run_once", Script(TypeError("a defect")))

    with pytest.raises(TypeError):
        await loop.run(Rounds(name, observer=Failures()))


async def test_pauses_double_to_two_seconds_and_an_outage_that_becomes_another_is_told_anew(
    pauses: list[float],
) -> None:
    rounds = Rounds("relay", observer=Failures(), jitter=lambda: 1.0)
    with capture_logs() as logs:
        await rounds.complete(Script(AWAY, AWAY, DEFECT, DEFECT, DEFECT, DEFECT))

    assert pauses == [0.2, 0.4, 0.8, 1.6, 2, 2]
    assert [(line["event"], line["log_level"]) for line in logs] == [
        ("loop_waits", "warning"),
        ("loop_waits", "error"),
        ("loop_goes_on", "info"),
    ]
