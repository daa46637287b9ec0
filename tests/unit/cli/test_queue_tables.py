"""The tables of the ledger."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from kongflow.v1 import queue_job_pb2, queue_pb2, queue_service_pb2, queue_stats_pb2

from cli.output import console
from cli.queue_tables import error_table, fact_table, stats_table

if TYPE_CHECKING:
    import pytest


def printed(shown: object, captured: pytest.CaptureFixture[str]) -> list[list[str]]:
    console().print(shown)
    lines = captured.readouterr().out.splitlines()
    return [[cell.strip() for cell in line.strip("\u2502").split("\u2502")] for line in lines if "\u2502" in line]


def test_queues_show_caps_rates_latencies_and_pauses(capsys: pytest.CaptureFixture[str]) -> None:
    response = queue_service_pb2.GetQueueStatsResponse()
    busy = response.queues.add(
        queue=queue_pb2.QUEUE_DEFAULT, open_lanes=3, completed_per_second=1234.56, discarded_per_second=0.04
    )
    busy.counts.add(state=queue_job_pb2.QUEUE_JOB_STATE_COMPLETED, count=2000, is_capped=True)
    busy.counts.add(state=queue_job_pb2.QUEUE_JOB_STATE_DISCARDED, count=7)
    busy.pickup.p50.FromTimedelta(timedelta(microseconds=400))
    busy.pickup.p95.FromTimedelta(timedelta(milliseconds=17))
    busy.pickup.p99.FromTimedelta(timedelta(seconds=12))
    for lane in ("", "endpoint-1", "endpoint-2"):
        busy.pauses.add(lane=lane)
    response.queues.add(queue=queue_pb2.QUEUE_EVENTS).pauses.add(lane="endpoint-1")
    response.queues.add(queue=queue_pb2.QUEUE_MAINTENANCE)

    [default, events, idle] = printed(stats_table("Queues", response), capsys)
    nothing = "\u2013"
    assert default == [
        *("default", "0", "0", "0", "2000+", "7", "0", "3", nothing, "1234.6", "0.0"),
        *("0.4/17/12000 ms", "all, 2 lanes"),
    ]
    assert events[-2:] == [nothing, "1 lane"]
    assert idle[1:] == [*("0",) * 7, nothing, "0.0", "0.0", nothing, nothing]


def test_queue_job_shows_its_facts_and_its_errors(capsys: pytest.CaptureFixture[str]) -> None:
    job = queue_job_pb2.QueueJob(id="an-id", kind="registerJob", attempt=2, max_attempts=3, args_json='{"a": "[b]"}')
    job.errors.add(attempt=1, reason="BROKEN", message="it broke")
    facts = dict(printed(fact_table(job), capsys))
    assert (facts["id"], facts["attempt"], facts["args"]) == ("an-id", "2/3", '{"a": "[b]"}')
    assert printed(error_table(job), capsys) == [["\u2013", "1", "BROKEN", "it broke"]]


def test_empty_answer_is_an_empty_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(stats_table("Queues", queue_service_pb2.WatchQueueStatsResponse()), capsys) == []
    assert queue_stats_pb2.QueueStats().counts == []
