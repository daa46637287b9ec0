from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import grpc
import pytest
from kongflow.v1 import endpoint_index_pb2, endpoint_service_pb2, queue_service_pb2

from cli.connection import Target
from cli.failures import CommandError
from cli.watching import follow_index, follow_stats
from tests.unit.cli.test_failures import FailedCall

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cli.connection import Connection

AWAY = FailedCall(grpc.StatusCode.UNAVAILABLE, "away")
REFUSED = FailedCall(grpc.StatusCode.NOT_FOUND, "no such index")


class ScriptedConnection:
    """Answers each watch with the next script: revisions to send, then how the stream ends."""

    def __init__(self, *scripts: tuple[list[int], FailedCall | None]) -> None:
        self.target = Target(server="here:1", token="t", environment_id="")
        self.asked: list[int] = []
        self._scripts = list(scripts)

    def stream(self, _method: str, request: Any) -> Iterator[Any]:
        self.asked.append(request.resume_revision)
        revisions, end = self._scripts.pop(0)
        for revision in revisions:
            yield endpoint_service_pb2.WatchEndpointIndexResponse(
                index=endpoint_index_pb2.EndpointIndex(revision=revision)
            )
        if end is not None:
            raise end


def follow(connection: ScriptedConnection, **options: Any) -> tuple[int, list[int]]:
    shown: list[int] = []
    index = follow_index(
        cast("Connection", connection),
        "id",
        show=lambda state: shown.append(state.revision),
        **{"pause": lambda _: None, **options},
    )
    return index.revision, shown


def test_every_state_is_shown_and_the_last_is_returned() -> None:
    assert follow(ScriptedConnection(([1, 4], None))) == (4, [1, 4])


def test_server_that_went_away_is_asked_again_from_the_revision_seen_last() -> None:
    pauses: list[float] = []
    connection = ScriptedConnection(([1, 2], AWAY), ([], AWAY), ([5], None))
    assert follow(connection, pause=pauses.append) == (5, [1, 2, 5])
    assert connection.asked == [0, 2, 2]
    assert pauses == [1.0, 1.0]


def test_server_that_stays_away_ends_the_command() -> None:
    connection = ScriptedConnection(([1], AWAY), ([], AWAY), ([], AWAY))
    with pytest.raises(CommandError) as raised:
        follow(connection, resume_tries=2)
    assert raised.value.exit_code == 3
    assert connection.asked == [0, 1, 1]


@pytest.mark.parametrize("script", [([], AWAY), ([], REFUSED), ([1], REFUSED)])
def test_refusal_and_a_server_never_met_are_not_repeated(script: tuple[list[int], FailedCall]) -> None:
    connection = ScriptedConnection(script)
    with pytest.raises(CommandError):
        follow(connection)
    assert len(connection.asked) == 1


class StatsConnection:
    """Answers each watch with so many states, then as the script says."""

    def __init__(self, *scripts: tuple[int, FailedCall | None]) -> None:
        self.target = Target(server="here:1", token="t", environment_id="")
        self.asked: list[str] = []
        self._scripts = list(scripts)

    def stream(self, method: str, request: Any) -> Iterator[Any]:
        assert method == "QueueService.WatchQueueStats"
        self.asked.append(request.environment_id)
        states, end = self._scripts.pop(0)
        for _ in range(states):
            yield queue_service_pb2.WatchQueueStatsResponse()
        if end is not None:
            raise end


def follow_queues(connection: StatsConnection, **options: Any) -> int:
    shown: list[Any] = []
    follow_stats(cast("Connection", connection), "env", show=shown.append, **{"pause": lambda _: None, **options})
    return len(shown)


def test_queues_are_followed_for_so_many_states_across_servers() -> None:
    connection = StatsConnection((2, AWAY), (0, AWAY), (5, None))
    assert follow_queues(connection, count=4) == 4
    assert connection.asked == ["env"] * 3


@pytest.mark.parametrize("scripts", [[(0, AWAY)], [(3, REFUSED)], [(1, AWAY), (0, AWAY)]])
def test_queues_are_no_longer_followed_when_the_server_refuses_or_stays_away(
    scripts: list[tuple[int, FailedCall]],
) -> None:
    connection = StatsConnection(*scripts)
    with pytest.raises(CommandError):
        follow_queues(connection, resume_tries=1)
    assert len(connection.asked) == len(scripts)
