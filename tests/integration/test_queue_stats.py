"""The queues in numbers: what is counted, for whom, how far, and as a stream."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from kongflow.v1.endpoint_service_pb2 import IndexEndpointRequest, WatchEndpointIndexRequest
from kongflow.v1.queue_job_pb2 import QueueJobState
from kongflow.v1.queue_pb2 import QUEUE_DEFAULT, QUEUE_EXECUTION
from kongflow.v1.queue_service_pb2 import (
    GetQueueStatsRequest,
    ListQueueJobsRequest,
    PauseQueueRequest,
    WatchQueueStatsRequest,
)
from kongflow.v1.tenancy_service_pb2 import CreateTokenRequest, RevokeTokenRequest
from kongflow.v1.token_pb2 import TOKEN_KIND_SERVICE, TOKEN_SCOPE_READ

from services.endpoints.store.queue_control import PostgresQueueControl
from tests.support.eventually import eventually
from tests.support.operator import Operator
from tests.support.passing import lasting
from tests.support.rpc import refusal_of, refused

if TYPE_CHECKING:
    import asyncpg

    from tests.support.rpc import Caller
    from tests.support.stage import Stage

# $6 of them, written and due $7 ago; those that began, and those that ended, did so $8 later, one after the other.
_INSERT = """
INSERT INTO queue_jobs (
    id, environment_id, kind, args, queue, lane, priority, max_attempts, attempt, state, created_at, run_at, started_at,
    finalized_at
)
SELECT
    (
        lpad(
            to_hex((1000 * extract(epoch FROM clock_timestamp() - $7::interval + number * $8::interval))::bigint),
            12, '0'
        )
        || '70008' || substr(md5(random()::text), 1, 15)
    )::uuid,
    $1, $2, '{}', $3, $4, 2, 3, CASE WHEN $5 IN ('AVAILABLE', 'SCHEDULED') THEN 0 ELSE 1 END, $5,
    clock_timestamp() - $7::interval, clock_timestamp() - $7::interval,
    CASE WHEN $5 NOT IN ('AVAILABLE', 'SCHEDULED') THEN clock_timestamp() - $7::interval + number * $8::interval END,
    CASE WHEN $5 IN ('COMPLETED', 'DISCARDED', 'CANCELLED') THEN clock_timestamp() - $7::interval + number * $8 END
FROM generate_series(1, $6) AS number
"""


@pytest.fixture
def operator(stage: Stage, connection: asyncpg.Connection[asyncpg.Record]) -> Operator:
    return Operator(stage, connection)


async def insert(
    operator: Operator,
    state: str,
    *,
    count: int = 1,
    environment: Any = None,
    ago: timedelta = timedelta(seconds=30),
    step: timedelta = timedelta(),
    kind: str = "registerJob",
    queue: str = "default",
    lane: str = "lane-a",
) -> None:
    environment_id = (environment or operator.stage.ours.development).id
    await operator.connection.execute(_INSERT, environment_id, kind, queue, lane, state, count, ago, step)


def counts(stats: Any) -> dict[str, int]:
    return {QueueJobState.Name(each.state).removeprefix("QUEUE_JOB_STATE_"): each.count for each in stats.counts}


async def everybody(operator: Operator) -> list[Caller]:
    return [operator.stage.admin, operator.stage.writer, operator.stage.developer]


async def test_each_queue_shows_depth_age_rates_latency_lanes_and_unknown_kinds(operator: Operator) -> None:
    await insert(operator, "AVAILABLE", count=3, ago=timedelta(seconds=90))
    await insert(operator, "SCHEDULED", count=2, kind="fromTheFuture")
    await insert(operator, "COMPLETED", count=100, step=timedelta(milliseconds=10))
    await insert(operator, "COMPLETED", count=50, ago=timedelta(hours=1))
    await insert(operator, "DISCARDED", count=6, queue="execution")
    await insert(operator, "CANCELLED", queue="execution")
    await insert(operator, "RUNNING", queue="execution")
    await operator.connection.execute(
        "INSERT INTO queue_lanes (queue, lane, environment_id, state, lease_until)"
        " VALUES ('default', 'a', $1, 'RUNG', now())",
        operator.stage.ours.development.id,
    )

    for caller in await everybody(operator):
        stats = await operator.stats(caller)
        default, execution = stats["default"], stats["execution"]
        assert counts(default) == {"AVAILABLE": 3, "SCHEDULED": 2, "COMPLETED": 150}
        assert counts(execution) == {"DISCARDED": 6, "CANCELLED": 1, "RUNNING": 1}
        assert not any(count.is_capped for each in stats.values() for count in each.counts)
        assert 90 <= default.oldest_available_age.ToTimedelta().total_seconds() < 120
        assert (default.open_lanes, default.unknown_kinds, execution.open_lanes) == (1, 2, 0)
        assert default.completed_per_second == pytest.approx(100 / 60)
        assert (default.discarded_per_second, execution.discarded_per_second) == (0, pytest.approx(0.1))
        assert default.pickup.measured == 100
        seconds = [getattr(default.pickup, name).ToTimedelta().total_seconds() for name in ("p50", "p95", "p99")]
        assert seconds == pytest.approx([0.5, 0.95, 0.99], abs=0.02)
        assert not stats["events"].counts
        assert not stats["events"].HasField("pickup")


async def test_nobody_counts_what_is_not_theirs(operator: Operator) -> None:
    stage = operator.stage
    await insert(operator, "AVAILABLE", count=2)
    await insert(operator, "DISCARDED", count=3, environment=stage.ours.production)
    theirs = stage.service.caller(stage.theirs.service_token)
    assert counts((await operator.stats())["default"]) == {"AVAILABLE": 2, "DISCARDED": 3}
    assert counts((await operator.stats(stage.developer))["default"]) == {"AVAILABLE": 2}
    assert counts((await operator.stats(theirs))["default"]) == {}
    request = GetQueueStatsRequest(environment_id=stage.ours.production.id)
    assert counts((await stage.reader.queue.GetQueueStats(request)).queues[0]) == {"DISCARDED": 3}
    assert (await refused(theirs.queue.GetQueueStats(request))).code is grpc.StatusCode.NOT_FOUND
    watch = theirs.queue.WatchQueueStats(WatchQueueStatsRequest(environment_id=request.environment_id))
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await anext(aiter(watch))
    assert refusal_of(ended.value).reason == "NOT_FOUND"


async def test_long_ledger_is_counted_up_to_the_cap_and_says_so(operator: Operator) -> None:
    await insert(operator, "COMPLETED", count=2_500, ago=timedelta(seconds=10), step=timedelta(milliseconds=1))
    await insert(operator, "COMPLETED", count=400, ago=timedelta(hours=2))
    await insert(operator, "SCHEDULED", count=10_001)
    [admin, service, _] = await everybody(operator)
    for caller, completed, scheduled in ((admin, 2_000, 10_000), (service, 1_000, 5_000)):
        default = (await operator.stats(caller))["default"]
        shown = {QueueJobState.Name(count.state)[16:]: (count.count, count.is_capped) for count in default.counts}
        assert shown == {"COMPLETED": (completed, True), "SCHEDULED": (scheduled, True)}
        # The 2,000 that ended last took 2 seconds, and the last of them ended 7.5 seconds ago.
        assert default.completed_per_second > 100


async def test_rate_is_that_of_each_environment_over_as_much_of_the_minute_as_is_counted_of_it(
    operator: Operator,
) -> None:
    await insert(operator, "COMPLETED", count=2_500, ago=timedelta(seconds=10), step=timedelta(milliseconds=1))
    await insert(operator, "COMPLETED", count=60, environment=operator.stage.ours.production)
    await insert(operator, "COMPLETED", count=5, ago=timedelta(hours=2), environment=operator.stage.ours.production)

    default = (await operator.stats(operator.stage.reader))["default"]

    # The first of the 1,000 of one environment ended 8.5 seconds ago; the 60 of the other are those of a whole minute.
    assert 1_000 / 30 + 1 < default.completed_per_second <= 1_000 / 8.4 + 1


async def test_what_fell_due_while_it_was_counted_is_not_of_a_negative_age(operator: Operator) -> None:
    await insert(operator, "AVAILABLE", ago=timedelta(seconds=-60))

    for caller in await everybody(operator):
        assert (await operator.stats(caller))["default"].oldest_available_age.ToTimedelta() == timedelta()


async def test_many_callers_at_once_share_their_reads(operator: Operator) -> None:
    await insert(operator, "COMPLETED", count=2_000)
    answers = await asyncio.gather(*(operator.stats(operator.stage.developer) for _ in range(32)))
    assert all(counts(answer["default"]) == {"COMPLETED": 2_000} for answer in answers)


async def test_watch_tells_a_change_soon_and_ends_when_the_server_drains(operator: Operator) -> None:
    stage = operator.stage
    watch = stage.reader.queue.WatchQueueStats(WatchQueueStatsRequest())
    states = aiter(watch)
    assert not (await anext(states)).queues[0].pauses
    lane = f"environment-{stage.ours.development.id}-0"
    await stage.writer.queue.PauseQueue(PauseQueueRequest(queue=QUEUE_DEFAULT, lane=lane))
    async with asyncio.timeout(5):
        async for state in states:
            if state.queues[0].pauses:
                break
    assert [pause.lane for pause in state.queues[0].pauses] == [lane]
    stage.service.operations.watches.end()
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        async for _ in states:
            pass
    assert refusal_of(ended.value).reason == "DRAINING"
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_watches_of_many_environments_are_counted_for_one_after_the_other_and_with_rests(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    takes, counting, counts = timedelta(milliseconds=30), 0, 0
    usual = PostgresQueueControl.stats

    async def slow(self: PostgresQueueControl, *arguments: Any, **more: Any) -> Any:
        nonlocal counting, counts
        counts += 1
        counting += 1
        assert counting == 1
        try:
            await lasting(takes)
            return await usual(self, *arguments, **more)
        finally:
            counting -= 1

    stage = operator.stage
    environments = ["", stage.ours.development.id, stage.theirs.development.id]
    monkeypatch.setattr(PostgresQueueControl, "stats", slow)
    watches = [
        aiter(stage.admin.queue.WatchQueueStats(WatchQueueStatsRequest(environment_id=each))) for each in environments
    ]
    began = asyncio.get_running_loop().time()
    for _ in range(3):
        for watch in watches:
            await anext(watch)
    took = asyncio.get_running_loop().time() - began

    assert counts >= 3 * len(environments)
    assert took >= (counts - 1) * takes.total_seconds() * 4 * 0.9


async def test_watches_end_soon_after_their_token_was_revoked(operator: Operator) -> None:
    stage = operator.stage
    created = await stage.admin.tenancy.CreateToken(
        CreateTokenRequest(
            kind=TOKEN_KIND_SERVICE,
            name="watcher",
            organization_id=stage.ours.organization_id,
            scopes=[TOKEN_SCOPE_READ],
        )
    )
    watcher = stage.service.caller(created.secret)
    endpoint = await stage.store_endpoint()
    asked = await stage.writer.endpoints.IndexEndpoint(IndexEndpointRequest(endpoint_id=endpoint.id))
    watches = [
        aiter(watcher.queue.WatchQueueStats(WatchQueueStatsRequest())),
        aiter(watcher.endpoints.WatchEndpointIndex(WatchEndpointIndexRequest(index_id=asked.index.id))),
    ]
    for watch in watches:
        await anext(watch)
    await stage.admin.tenancy.RevokeToken(RevokeTokenRequest(token_id=created.token.id))
    for watch in watches:
        async with asyncio.timeout(5):
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                async for _ in watch:
                    pass
        assert ended.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_nothing_is_counted_for_who_may_not_see_it(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[Any] = []
    monkeypatch.setattr(PostgresQueueControl, "stats", lambda *arguments, **_: counted.append(arguments))
    theirs = operator.stage.service.caller(operator.stage.theirs.service_token)
    request = GetQueueStatsRequest(environment_id=operator.stage.ours.development.id)
    assert (await refused(theirs.queue.GetQueueStats(request))).reason == "NOT_FOUND"
    assert not counted


async def test_watches_of_a_tenant_are_limited_and_one_that_was_left_makes_room(operator: Operator) -> None:
    stage = operator.stage

    def watch() -> Any:
        return stage.reader.queue.WatchQueueStats(WatchQueueStatsRequest())

    watches = [watch() for _ in range(100)]
    for each in watches:
        await anext(aiter(each))
    with pytest.raises(grpc.aio.AioRpcError) as one_too_many:
        await anext(aiter(watch()))
    refusal = refusal_of(one_too_many.value)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")
    assert "google.rpc.RetryInfo" in refusal.details
    endpoint = await stage.store_endpoint()
    asked = await stage.writer.endpoints.IndexEndpoint(IndexEndpointRequest(endpoint_id=endpoint.id))
    of_an_index = stage.reader.endpoints.WatchEndpointIndex(WatchEndpointIndexRequest(index_id=asked.index.id))
    with pytest.raises(grpc.aio.AioRpcError) as one_of_another_kind:
        await anext(aiter(of_an_index))
    assert refusal_of(one_of_another_kind.value).reason == "QUOTA_EXCEEDED"
    theirs = stage.service.caller(stage.theirs.service_token)
    other = theirs.queue.WatchQueueStats(WatchQueueStatsRequest())
    await anext(aiter(other))
    watches.pop().cancel()

    async def has_room() -> bool:
        try:
            return bool((await anext(aiter(watch()))).queues)
        except grpc.aio.AioRpcError:
            return False

    assert await eventually(has_room)
    for each in (*watches, other):
        each.cancel()


async def test_list_takes_half_open_times_and_every_filter(operator: Operator) -> None:
    for hours in (1, 2, 3):
        await insert(operator, "DISCARDED", ago=timedelta(hours=hours))
    await insert(operator, "AVAILABLE", queue="execution", kind="indexEndpoint", lane="lane-b")
    times = [each.create_time for each in await operator.jobs(state=QueueJobState.QUEUE_JOB_STATE_DISCARDED)]
    newest, middle, _ = sorted(times, key=lambda time: time.ToNanoseconds(), reverse=True)

    async def listed(caller: Caller, **wanted: Any) -> int:
        return len((await caller.queue.ListQueueJobs(ListQueueJobsRequest(**wanted))).queue_jobs)

    for caller in await everybody(operator):
        assert await listed(caller) == 4
        assert await listed(caller, created_from=middle, created_before=newest) == 1
        assert await listed(caller, created_from=middle) == 3
        assert await listed(caller, created_before=newest) == 2
        assert await listed(caller, queue=QUEUE_EXECUTION, kind="indexEndpoint", lane="lane-b") == 1
        assert await listed(caller, queue=QUEUE_EXECUTION, state=QueueJobState.QUEUE_JOB_STATE_DISCARDED) == 0
    theirs = operator.stage.service.caller(operator.stage.theirs.service_token)
    assert await listed(theirs) == 0
    refusal = await refused(
        operator.caller.queue.ListQueueJobs(
            ListQueueJobsRequest(created_from=newest, created_before=newest, page_size=-1)
        )
    )
    assert sorted(refusal.fields) == ["created_before", "page_size"]


async def test_pages_of_the_ledger_neither_skip_nor_repeat(operator: Operator) -> None:
    for state in ("DISCARDED", "CANCELLED", "AVAILABLE"):
        await insert(operator, state, count=5)
        await insert(operator, state, count=5, environment=operator.stage.ours.production)
    for caller in (operator.stage.admin, operator.stage.reader):
        seen: list[str] = []
        request = ListQueueJobsRequest(page_size=7)
        while True:
            page = await caller.queue.ListQueueJobs(request)
            seen += [each.id for each in page.queue_jobs]
            request.page_token = page.next_page_token
            if not page.next_page_token:
                break
        assert seen == sorted(set(seen), reverse=True)
        assert len(seen) == 30
