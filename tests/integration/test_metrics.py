"""What `/metrics` shows of the queues."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import aiohttp

from services.endpoints.domain.queue_job import Queue, QueueJobState
from services.endpoints.domain.queue_stats import Latency, QueuePause, QueueStats
from services.endpoints.telemetry.metrics import Metrics
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.pair import running_pair

if TYPE_CHECKING:
    from collections.abc import Mapping


def stats_of(counts: Mapping[QueueJobState, int]) -> QueueStats:
    return QueueStats(queue=Queue.DEFAULT, counts=counts, oldest_available_seconds=0.0, open_lanes=0, unknown_kinds=0)


def test_state_that_no_queue_job_is_in_any_more_shows_zero() -> None:
    metrics = Metrics()
    metrics.show_queues([stats_of({QueueJobState.AVAILABLE: 7})])
    metrics.show_queues([stats_of({QueueJobState.COMPLETED: 7})])

    labels = {"queue": Queue.DEFAULT.value}
    shown = {
        state.value: metrics.registry.get_sample_value("kongflow_queue_jobs", {**labels, "state": state.value})
        for state in QueueJobState
    }
    assert shown == {state.value: 7 if state is QueueJobState.COMPLETED else 0 for state in QueueJobState}


def test_pauses_lanes_and_waits_are_shown_and_a_wait_that_is_over_is_not() -> None:
    metrics = Metrics()
    busy = replace(
        stats_of({}),
        open_lanes=3,
        pauses=(QueuePause(Queue.DEFAULT, None, datetime(2026, 1, 1, tzinfo=UTC)),),
        pickup=Latency(timedelta(), timedelta(milliseconds=5), timedelta(milliseconds=9), measured=7),
    )
    metrics.show_queues([busy])
    default = {"queue": "default"}
    assert metrics.registry.get_sample_value("kongflow_open_lanes", default) == 3
    assert metrics.registry.get_sample_value("kongflow_pauses", default) == 1
    assert metrics.registry.get_sample_value("kongflow_pickup_seconds", {**default, "quantile": "0.95"}) == 0.005
    metrics.show_queues([stats_of({})])
    assert metrics.registry.get_sample_value("kongflow_pauses", default) == 0
    assert metrics.registry.get_sample_value("kongflow_pickup_seconds", {**default, "quantile": "0.95"}) is None


async def test_waiting_queue_jobs_of_known_kinds_are_not_counted_as_unknown(database_url: str, redis_url: str) -> None:
    async with running_pair(
        database_url=database_url, redis_url=redis_url, workers=0, metrics_address="127.0.0.1:0"
    ) as pair:
        tenant = await pair.new_tenant()
        async with FakeEndpoint(api_key=tenant.api_key) as endpoint:
            await pair.client(tenant.api_key).create_endpoint(tenant, endpoint.url)
        url = f"http://127.0.0.1:{pair.listening.metrics_port}/metrics"
        async with aiohttp.ClientSession() as http, http.get(url) as response:
            lines = (await response.text()).splitlines()

    waiting = [
        line for line in lines if line.startswith('kongflow_queue_jobs{queue="execution"') and line.endswith(" 1.0")
    ]
    unknown = [line for line in lines if line.startswith("kongflow_unknown_kinds{")]
    assert len(waiting) == 1
    assert unknown
    assert all(line.endswith(" 0.0") for line in unknown)
