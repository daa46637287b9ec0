"""An operator's retry: what runs again, what opens again with it, and what is refused."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import UUID

import grpc
import pytest
from kongflow.v1 import endpoint_service_pb2, queue_service_pb2
from kongflow.v1.queue_job_pb2 import (
    QUEUE_JOB_STATE_AVAILABLE,
    QUEUE_JOB_STATE_CANCELLED,
    QUEUE_JOB_STATE_COMPLETED,
    QUEUE_JOB_STATE_RUNNING,
    QUEUE_JOB_STATE_SCHEDULED,
    QueueJobState,
)

from services.endpoints.domain.ports.queue_control import QueueJobFilter
from services.endpoints.domain.queue_job import Queue
from services.endpoints.domain.queue_job import QueueJobState as State
from tests.support.fake_endpoint import FakeEndpoint, event_job, on, status
from tests.support.offers import answer, job
from tests.support.operator import Operator
from tests.support.pair import state_name
from tests.support.rpc import refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

    from services.endpoints.store.postgres import PostgresStore
    from tests.support.stage import Stage

JOBS = ["a", "b", "c"]
# Each with 720,000 bytes of args, and nothing to compress.
LARGE_QUEUE_JOBS = """
INSERT INTO queue_jobs
    (id, environment_id, kind, args, queue, lane, priority, state, max_attempts, attempt, finalized_at)
SELECT gen_random_uuid(), $1, 'unknown', jsonb_build_object('noise', noise.text), 'default', 'lane', 2, 'DISCARDED', 3,
    3, now()
FROM generate_series(1, $2::integer)
CROSS JOIN (SELECT string_agg(gen_random_uuid()::text, '') AS text FROM generate_series(1, 20000)) AS noise
"""


@pytest.fixture
def operator(stage: Stage, connection: asyncpg.Connection[asyncpg.Record]) -> Operator:
    return Operator(stage, connection)


@pytest.fixture
async def endpoint(stage: Stage) -> AsyncIterator[FakeEndpoint]:
    index = answer(jobs=[event_job(slug) for slug in JOBS])
    async with FakeEndpoint(index=index, api_key=stage.ours.development_key) as endpoint:
        yield endpoint


async def fetched(operator: Operator, endpoint: FakeEndpoint) -> Any:
    """Register the endpoint and carry its index up to its registrations, which wait."""
    created = await operator.create(endpoint)
    relay, runner = operator.stage.service.operations.relay, operator.stage.service.operations.runner
    await relay.run_once()
    await runner.run_queue_jobs(Queue.EXECUTION, [f"endpoint-{created.endpoint.id}"])
    assert state_name(await operator.index(created.index_id)) == "REGISTERING"
    return created


async def test_discarded_index_is_fetched_again_with_fresh_attempts_and_its_errors_kept(
    operator: Operator, endpoint: FakeEndpoint
) -> None:
    endpoint.behaviour = on("INDEX_ENDPOINT", status(500))
    created = await operator.create(endpoint)
    await operator.work_off()
    failed = await operator.index(created.index_id)
    dead = await operator.job("indexEndpoint")
    assert (state_name(failed), state_name(dead), dead.attempt, len(dead.errors)) == ("FAILED", "DISCARDED", 1, 1)

    retried = await operator.retry(dead.id)
    waiting = await operator.index(created.index_id)
    assert not retried.repeats_effect
    assert (state_name(retried.queue_job), retried.queue_job.attempt, retried.queue_job.max_attempts) == (
        *("AVAILABLE", 0),
        dead.max_attempts,
    )
    assert list(retried.queue_job.errors) == list(dead.errors)
    assert not retried.queue_job.HasField("finalize_time")
    assert (state_name(waiting), waiting.error) == ("PENDING", "")
    assert waiting.revision > failed.revision

    endpoint.behaviour = None
    await operator.work_off()
    assert state_name(await operator.index(created.index_id)) == "SUCCEEDED"
    assert await operator.items(created.index_id) == dict.fromkeys(JOBS, "REGISTERED")


async def test_cancelled_registration_opens_its_index_and_its_item_again(
    operator: Operator, endpoint: FakeEndpoint
) -> None:
    created = await fetched(operator, endpoint)
    [first, *_] = await operator.jobs(kind="registerJob")
    cancelled = await operator.cancel(first.id)
    assert (state_name(cancelled.queue_job), cancelled.is_pending) == ("CANCELLED", False)
    await operator.work_off()
    ended = await operator.index(created.index_id)
    assert state_name(ended) == "PARTIALLY_SUCCEEDED"
    assert sorted((await operator.items(created.index_id)).values()) == ["FAILED", "REGISTERED", "REGISTERED"]

    await operator.retry(first.id)
    opened = await operator.index(created.index_id)
    assert (state_name(opened), opened.pending_items) == ("REGISTERING", 1)
    assert opened.revision > ended.revision
    await operator.work_off()
    assert await operator.items(created.index_id) == dict.fromkeys(JOBS, "REGISTERED")
    final = await operator.index(created.index_id)
    assert (state_name(final), final.stats.failed_items) == ("SUCCEEDED", 0)


async def test_retried_registration_older_than_the_newest_index_ends_superseded(
    operator: Operator, endpoint: FakeEndpoint
) -> None:
    created = await fetched(operator, endpoint)
    older = (await operator.jobs(kind="registerJob"))[0]
    await operator.cancel(older.id)
    await operator.work_off()
    endpoint.index = answer(jobs=[event_job(slug, version="2.0.0") for slug in JOBS])
    await operator.caller.endpoints.IndexEndpoint(
        endpoint_service_pb2.IndexEndpointRequest(endpoint_id=created.endpoint.id, force=True)
    )
    await operator.work_off()

    await operator.retry(older.id)
    await operator.work_off()
    assert sorted((await operator.items(created.index_id)).values()) == ["REGISTERED", "REGISTERED", "SUPERSEDED"]
    assert state_name(await operator.index(created.index_id)) == "SUCCEEDED"
    newest = await operator.connection.fetch("SELECT version FROM job_versions WHERE state = 'ACTIVE'")
    assert {row["version"] for row in newest} == {"2.0.0"}


async def test_retried_registration_brings_back_nothing_that_the_newest_index_lacks(
    operator: Operator, endpoint: FakeEndpoint
) -> None:
    created = await fetched(operator, endpoint)
    older = (await operator.jobs(kind="registerJob"))[0]
    await operator.cancel(older.id)
    await operator.work_off()
    (lost,) = [key for key, state in (await operator.items(created.index_id)).items() if state == "FAILED"]
    endpoint.index = answer(jobs=[event_job(slug) for slug in JOBS if slug != lost])
    await operator.caller.endpoints.IndexEndpoint(
        endpoint_service_pb2.IndexEndpointRequest(endpoint_id=created.endpoint.id, force=True)
    )
    await operator.work_off()

    await operator.retry(older.id)
    await operator.work_off()
    assert (await operator.items(created.index_id))[lost] == "SUPERSEDED"
    registered = await operator.connection.fetch("SELECT slug FROM jobs")
    assert lost not in {row["slug"] for row in registered}


async def test_retried_registration_brings_back_nothing_when_the_newest_index_is_fetched_again_and_fails(
    operator: Operator, endpoint: FakeEndpoint
) -> None:
    created = await fetched(operator, endpoint)
    older = (await operator.jobs(kind="registerJob"))[0]
    await operator.cancel(older.id)
    await operator.work_off()
    endpoint.index = answer(jobs=[])
    request = endpoint_service_pb2.IndexEndpointRequest(endpoint_id=created.endpoint.id, force=True)
    newest = await operator.caller.endpoints.IndexEndpoint(request)
    await operator.work_off()
    endpoint.behaviour = on("INDEX_ENDPOINT", status(404))
    await operator.retry(newest.queue_job_id, allow_repeat=True)
    await operator.work_off()
    assert state_name(await operator.index(newest.index.id)) == "FAILED"

    await operator.retry(older.id)
    await operator.work_off()
    assert "SUPERSEDED" in (await operator.items(created.index_id)).values()
    assert await operator.connection.fetch("SELECT FROM job_versions WHERE state = 'ACTIVE'") == []


async def test_registration_of_an_index_that_was_fetched_again_is_not_retried(
    operator: Operator, endpoint: FakeEndpoint
) -> None:
    created = await fetched(operator, endpoint)
    older = (await operator.jobs(kind="registerJob"))[0]
    await operator.cancel(older.id)
    await operator.work_off()
    await operator.retry((await operator.job("indexEndpoint")).id, allow_repeat=True)
    await operator.work_off()

    refusal = await refused(operator.retry(older.id))
    assert (refusal.reason, "was fetched again since" in refusal.message) == ("WRONG_STATE", True)
    assert state_name(await operator.index(created.index_id)) == "SUCCEEDED"
    assert set((await operator.items(created.index_id)).values()) == {"REGISTERED", "UNCHANGED"}


async def test_retried_registration_counts_while_no_newer_index_was_answered(
    operator: Operator, endpoint: FakeEndpoint
) -> None:
    created = await fetched(operator, endpoint)
    older = (await operator.jobs(kind="registerJob"))[0]
    await operator.cancel(older.id)
    await operator.work_off()
    endpoint.behaviour = on("INDEX_ENDPOINT", status(404))
    await operator.caller.endpoints.IndexEndpoint(
        endpoint_service_pb2.IndexEndpointRequest(endpoint_id=created.endpoint.id, force=True)
    )
    await operator.work_off()

    await operator.retry(older.id)
    await operator.work_off()
    assert await operator.items(created.index_id) == dict.fromkeys(JOBS, "REGISTERED")


async def test_completed_work_is_repeated_only_when_somebody_says_so(
    operator: Operator, endpoint: FakeEndpoint
) -> None:
    created = await operator.create(endpoint)
    await operator.work_off()
    done = await operator.job("indexEndpoint")

    refusal = await refused(operator.retry(done.id))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "WRONG_STATE")
    assert refusal.metadata["state"] == "COMPLETED"
    assert "repeats its effect" in refusal.message

    endpoint.index = answer(jobs=[event_job("d")])
    assert (await operator.retry(done.id, allow_repeat=True)).repeats_effect
    assert await operator.items(created.index_id) == {}
    await operator.work_off()
    items = await operator.items(created.index_id)
    assert items.pop("d") == "REGISTERED"
    assert items == dict.fromkeys(JOBS, "DISABLED")


async def test_completed_registration_that_is_repeated_ends_its_index_again(
    operator: Operator, endpoint: FakeEndpoint
) -> None:
    endpoint.index = answer(jobs=[event_job("a"), event_job("a"), job("other")])
    created = await operator.create(endpoint)
    await operator.work_off()
    before = await operator.index(created.index_id)
    registrations = await operator.jobs(kind="registerJob")
    for registration in registrations:
        await operator.retry(registration.id, allow_repeat=True)
    assert state_name(await operator.index(created.index_id)) == "REGISTERING"
    await operator.work_off()

    after = await operator.index(created.index_id)
    assert state_name(after) == state_name(before)
    assert after.stats == before.stats


async def test_index_that_would_be_the_second_to_wait_is_refused_and_names_the_first(
    operator: Operator, endpoint: FakeEndpoint
) -> None:
    created = await operator.create(endpoint)
    first = await operator.job("indexEndpoint")
    await operator.cancel(first.id)
    assert state_name(await operator.index(created.index_id)) == "FAILED"
    again = await operator.create(endpoint)
    second = await operator.job("indexEndpoint")
    assert again.index_id != created.index_id

    refusal = await refused(operator.retry(first.id))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "ALREADY_EXISTS")
    assert refusal.metadata["queue_job_id"] == second.id
    assert second.id in refusal.message
    assert state_name(await operator.index(created.index_id)) == "FAILED"

    await operator.cancel(second.id)
    await operator.retry(first.id)
    joined = await operator.create(endpoint)
    assert joined.index_id == created.index_id


async def test_retry_and_request_at_once_leave_one_index_waiting(operator: Operator, endpoint: FakeEndpoint) -> None:
    await operator.create(endpoint)
    for _ in range(10):
        given_up = await operator.job("indexEndpoint")
        await operator.cancel(given_up.id)
        await asyncio.gather(operator.retry(given_up.id), operator.create(endpoint), return_exceptions=True)
        assert len(await operator.jobs(kind="indexEndpoint", state=QUEUE_JOB_STATE_AVAILABLE)) == 1
        [waiting] = await operator.jobs(state=QUEUE_JOB_STATE_AVAILABLE)
        assert state_name(await operator.index((await operator.create(endpoint)).index_id)) == "PENDING"
        assert [each.id for each in await operator.jobs(state=QUEUE_JOB_STATE_AVAILABLE)] == [waiting.id]


async def test_waiting_for_a_backoff_is_cut_short_and_keeps_its_attempts(
    operator: Operator, stage: Stage, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    async with FakeEndpoint(index=answer(jobs=[event_job("a")]), api_key=stage.ours.production_key) as endpoint:
        endpoint.behaviour = on("INDEX_ENDPOINT", status(503, headers={"retry-after": "300"}))
        created = await operator.create(endpoint, production=True)
        await operator.work_off()
        waiting = await operator.job("indexEndpoint")
        assert (state_name(waiting), waiting.attempt) == ("SCHEDULED", 1)
        why = (await operator.index(created.index_id)).error

        retried = (await operator.retry(waiting.id)).queue_job
        assert (state_name(retried), retried.attempt) == ("AVAILABLE", 1)
        assert (await operator.index(created.index_id)).error == why
        endpoint.behaviour = None
        await operator.work_off()
        done = await operator.job("indexEndpoint")
        assert (state_name(done), done.attempt, len(done.errors)) == ("COMPLETED", 2, 1)


@pytest.mark.parametrize("state", ["AVAILABLE", "RUNNING"])
async def test_what_has_not_ended_is_not_retried(
    operator: Operator, stage: Stage, connection: asyncpg.Connection[asyncpg.Record], state: str
) -> None:
    endpoint = await stage.store_endpoint()
    asked = await stage.writer.endpoints.IndexEndpoint(
        endpoint_service_pb2.IndexEndpointRequest(endpoint_id=endpoint.id)
    )
    await connection.execute("UPDATE queue_jobs SET state = $1, attempt = 1, started_at = now()", state)

    refusal = await refused(operator.retry(asked.queue_job_id))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "WRONG_STATE")
    assert refusal.metadata["state"] == state


async def test_work_of_a_deleted_endpoint_is_not_retried(operator: Operator, endpoint: FakeEndpoint) -> None:
    created = await fetched(operator, endpoint)
    delete = endpoint_service_pb2.DeleteEndpointRequest(endpoint_id=created.endpoint.id)
    await operator.caller.endpoints.DeleteEndpoint(delete)

    for kind in ("registerJob", "indexEndpoint"):
        refusal = await refused(operator.retry((await operator.job(kind)).id, allow_repeat=True))
        assert refusal.reason == "WRONG_STATE"
    result = await operator.retry_all(state=QUEUE_JOB_STATE_CANCELLED)
    assert (result.matched_count, result.retried_count, result.refused_count) == (3, 0, 3)
    assert {refusal.reason for refusal in result.refusals} == {"WRONG_STATE"}


async def test_work_whose_args_cannot_be_read_is_refused_and_holds_up_no_other(
    operator: Operator, endpoint: FakeEndpoint
) -> None:
    created = await fetched(operator, endpoint)
    for waiting in await operator.jobs(kind="registerJob"):
        await operator.cancel(waiting.id)
    broken, *_ = await operator.jobs(kind="registerJob")
    await operator.connection.execute(
        """UPDATE queue_jobs SET args = '{"job": 1}' WHERE id = $1 OR kind = 'indexEndpoint'""", broken.id
    )

    result = await operator.retry_all(state=QUEUE_JOB_STATE_CANCELLED)
    assert (result.matched_count, result.retried_count, result.refused_count) == (3, 2, 1)
    [refusal] = result.refusals
    assert (refusal.queue_job_id, refusal.reason) == (broken.id, "WRONG_STATE")
    assert "cannot be read" in refusal.message
    index = await operator.job("indexEndpoint")
    assert "cannot be read" in (await refused(operator.retry(index.id, allow_repeat=True))).message
    assert (await operator.index(created.index_id)).pending_items == 2


async def test_retry_by_filter_takes_the_oldest_so_many_and_says_whether_there_are_more(
    operator: Operator, endpoint: FakeEndpoint
) -> None:
    created = await fetched(operator, endpoint)
    for waiting in await operator.jobs(kind="registerJob"):
        await operator.cancel(waiting.id)
    wanted = {"state": QUEUE_JOB_STATE_CANCELLED, "kind": "registerJob"}

    looked = await operator.retry_all(**wanted, max_count=2, validate_only=True)
    assert (looked.matched_count, looked.retried_count, looked.has_more) == (2, 0, True)
    assert len(await operator.jobs(state=QUEUE_JOB_STATE_CANCELLED)) == 3
    first = await operator.retry_all(**wanted, max_count=2)
    assert (first.matched_count, first.retried_count, first.refused_count, first.has_more) == (2, 2, 0, True)
    left = await operator.jobs(state=QUEUE_JOB_STATE_CANCELLED)
    assert [each.id for each in left] == [max(each.id for each in await operator.jobs(kind="registerJob"))]
    rest = await operator.retry_all(**wanted)
    assert (rest.matched_count, rest.retried_count, rest.has_more) == (1, 1, False)
    await operator.work_off()
    assert state_name(await operator.index(created.index_id)) == "SUCCEEDED"


async def test_retry_by_filter_takes_large_ones_in_several_transactions(operator: Operator) -> None:
    await operator.connection.execute(LARGE_QUEUE_JOBS, UUID(operator.stage.ours.development.id), 7)
    result = await operator.retry_all()
    assert (result.matched_count, result.retried_count, result.has_more) == (7, 7, False)
    together = await operator.connection.fetch(
        "SELECT count(*) FROM queue_jobs WHERE state = 'AVAILABLE' GROUP BY xmin::text ORDER BY 1"
    )
    # With the sixth they come to 4 MiB.
    assert [row["count"] for row in together] == [1, 6]


async def test_lists_read_no_args_and_neither_does_what_locks(
    operator: Operator, endpoint: FakeEndpoint, store: PostgresStore
) -> None:
    await operator.create(endpoint)
    async with store.reading() as tx:
        of_all = await tx.queue_control.list_queue_jobs(QueueJobFilter(), limit=9, before=None)
        available = QueueJobFilter(state=State.AVAILABLE)
        by_state = await tx.queue_control.list_queue_jobs(available, limit=9, before=None)
        one = await tx.queue_control.get(of_all[0].id)
    async with store.transaction() as tx:
        assert await tx.queue_control.lock([of_all[0].id, UUID(int=1)]) == {of_all[0].id: State.AVAILABLE}

    assert [each.args_json for each in (*of_all, *by_state)] == [None, None]
    assert one is not None
    assert "indexId" in (one.args_json or "")


async def test_retry_by_filter_leaves_out_whom_it_does_not_name(operator: Operator, endpoint: FakeEndpoint) -> None:
    await fetched(operator, endpoint)
    for waiting in await operator.jobs(kind="registerJob"):
        await operator.cancel(waiting.id)
    cancelled = (await operator.jobs(kind="registerJob"))[0]
    state = QUEUE_JOB_STATE_CANCELLED

    async def matched(**wanted: Any) -> int:
        return int((await operator.retry_all(**{"state": state, "validate_only": True, **wanted})).matched_count)

    assert await matched() == await matched(lane=cancelled.lane, queue=cancelled.queue, kind="registerJob") == 3
    assert await matched(lane="another") == await matched(kind="another") == await matched(queue=2) == 0
    assert await matched(state=0) == 0
    assert await matched(environment_id=operator.stage.ours.production.id) == 0
    times = sorted(each.create_time.ToNanoseconds() for each in await operator.jobs(kind="registerJob"))
    at = cancelled.create_time
    assert await matched(created_from=at) == sum(time >= at.ToNanoseconds() for time in times)
    assert await matched(created_before=at) == sum(time < at.ToNanoseconds() for time in times)


async def test_retry_by_filter_retries_one_index_of_several_for_one_endpoint_and_source(
    operator: Operator, endpoint: FakeEndpoint
) -> None:
    for _ in range(3):
        await operator.create(endpoint)
        await operator.cancel((await operator.job("indexEndpoint")).id)
    newest = await operator.job("indexEndpoint")

    result = await operator.retry_all(state=QUEUE_JOB_STATE_CANCELLED)
    assert (result.matched_count, result.retried_count, result.refused_count) == (3, 1, 2)
    assert {refusal.reason for refusal in result.refusals} == {"ALREADY_EXISTS"}
    [waiting] = await operator.jobs(state=QUEUE_JOB_STATE_AVAILABLE)
    assert waiting.id == newest.id


async def test_retries_at_once_retry_each_queue_job_once(operator: Operator, endpoint: FakeEndpoint) -> None:
    created = await fetched(operator, endpoint)
    for waiting in await operator.jobs(kind="registerJob"):
        await operator.cancel(waiting.id)
    results = await asyncio.gather(*(operator.retry_all(state=QUEUE_JOB_STATE_CANCELLED) for _ in range(4)))
    assert sum(result.retried_count for result in results) == 3
    await operator.work_off()
    assert state_name(await operator.index(created.index_id)) == "SUCCEEDED"


@pytest.mark.parametrize(
    ("fields", "refused_fields"),
    [
        ({"state": QUEUE_JOB_STATE_RUNNING}, ["state"]),
        ({"state": QUEUE_JOB_STATE_AVAILABLE, "max_count": -1}, ["state", "max_count"]),
        ({"state": QUEUE_JOB_STATE_COMPLETED, "max_count": 10_001}, ["allow_repeat", "max_count"]),
        ({"state": 99, "queue": 99, "environment_id": "x"}, ["environment_id", "state", "queue"]),
        ({"created_from": {"seconds": 5}, "created_before": {"seconds": 5}}, ["created_before"]),
        ({"created_from": {"nanos": -1}, "kind": "\x00"}, ["created_from", "kind"]),
    ],
)
async def test_every_field_that_makes_no_sense_is_named(
    operator: Operator, fields: dict[str, Any], refused_fields: list[str]
) -> None:
    refusal = await refused(operator.retry_all(**fields))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert sorted(refusal.fields) == sorted(refused_fields)


async def test_nobody_retries_or_cancels_what_is_not_theirs(operator: Operator, stage: Stage) -> None:
    endpoint = await stage.store_endpoint()
    request = endpoint_service_pb2.IndexEndpointRequest(endpoint_id=endpoint.id)
    asked = (await stage.writer.endpoints.IndexEndpoint(request)).queue_job_id
    retry = queue_service_pb2.RetryQueueJobRequest(queue_job_id=asked)
    cancel = queue_service_pb2.CancelQueueJobRequest(queue_job_id=asked)
    theirs = stage.service.caller(stage.theirs.service_token)
    for call in (theirs.queue.RetryQueueJob(retry), theirs.queue.CancelQueueJob(cancel)):
        assert (await refused(call)).reason == "NOT_FOUND"
    for caller in (stage.reader, stage.developer):
        for call in (caller.queue.RetryQueueJob(retry), caller.queue.CancelQueueJob(cancel)):
            refusal = await refused(call)
            assert (refusal.reason, refusal.message) == ("PERMISSION_DENIED", "This call needs the scope operate.")
    by_filter = queue_service_pb2.RetryQueueJobsRequest(state=QUEUE_JOB_STATE_SCHEDULED)
    assert (await theirs.queue.RetryQueueJobs(by_filter)).matched_count == 0
    by_filter.environment_id = stage.ours.development.id
    assert (await refused(theirs.queue.RetryQueueJobs(by_filter))).reason == "NOT_FOUND"
    assert [QueueJobState.Name(each.state) for each in await operator.jobs()] == ["QUEUE_JOB_STATE_AVAILABLE"]
