from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from kongflow.v1 import endpoint_service_pb2

from cli.index_waits import Asked, due_time

NOW = datetime(2026, 1, 31, 8, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("begins_in", "due"),
    [
        (timedelta(seconds=-1), ""),
        (timedelta(seconds=2), ""),
        (timedelta(minutes=15), "2026-01-31 08:15:00 UTC"),
    ],
)
def test_index_that_does_not_begin_now_is_due_at_a_time(begins_in: timedelta, due: str) -> None:
    response = endpoint_service_pb2.CreateEndpointResponse()
    response.run_time.FromDatetime(NOW + begins_in)
    assert due_time(response, now=NOW) == due


def test_server_that_does_not_say_when_an_index_begins_is_no_reason_to_wait() -> None:
    assert due_time(endpoint_service_pb2.CreateEndpointResponse(), now=NOW) == ""


def test_commands_that_are_offered_can_be_typed_as_they_are() -> None:
    asked = Asked("it's", "01", endpoint_service_pb2.CreateEndpointResponse())
    assert asked.command_to_force == """kongflow endpoints index 'it'"'"'s' --force"""
