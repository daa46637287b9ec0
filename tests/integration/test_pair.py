"""The main job, end to end: register an endpoint, and everything it offers is registered."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import aiohttp
import grpc
import pytest
from arq.constants import job_key_prefix
from kongflow.v1 import catalog_service_pb2, endpoint_index_pb2, endpoint_pb2, endpoint_service_pb2, queue_job_pb2

from services.endpoints.queue.connection import open_redis
from services.worker.app import run as run_worker
from services.worker.message import queue_key, set_aside_key
from services.worker.settings import load_settings as load_worker_settings
from tests.support.eventually import eventually
from tests.support.fake_endpoint import EMPTY_INDEX, FakeEndpoint, event_job, held_until, index_of, on, status
from tests.support.pair import running_pair, running_workers, state_name
from tests.support.ports import free_ports

if TYPE_CHECKING:
    from tests.support.pair import Pair


async def test_everything_an_endpoint_offers_is_registered(pair: Pair) -> None:
    tenant = await pair.new_tenant()
    client = pair.client(tenant.api_key)
    async with FakeEndpoint(index=index_of(250), api_key=tenant.api_key) as endpoint:
        created = await client.create_endpoint(tenant, endpoint.url)
        states = await client.watch(created.index_id)

    assert created.created
    assert [state_name(index) for index in states][-1] == "SUCCEEDED"
    assert states[-1].stats.jobs == 250
    assert [index.revision for index in states] == sorted({index.revision for index in states})
    assert set((await client.item_states(created.index_id)).values()) == {"REGISTERED"}
    request = catalog_service_pb2.ListJobsRequest(environment_id=tenant.environment_id, page_size=1000)
    assert len((await client.call(client.catalog.ListJobs, request)).jobs) == 250


async def test_forced_second_index_costs_unchanged_items_nothing(pair: Pair) -> None:
    tenant = await pair.new_tenant()
    client = pair.client(tenant.api_key)
    disabled = {**event_job("switched-off"), "enabled": False}
    index = {**EMPTY_INDEX, "jobs": [event_job("first"), event_job("second"), disabled]}
    async with FakeEndpoint(index=index, api_key=tenant.api_key) as endpoint:
        created = await client.create_endpoint(tenant, endpoint.url)
        await client.watch(created.index_id)
        endpoint.index = {**index, "jobs": [event_job("first"), event_job("second", version="1.1.0"), disabled]}
        again = await client.index(created.endpoint.id, force=True)
        final = (await client.watch(again.index.id))[-1]

    assert await client.item_states(again.index.id) == {
        "first": "UNCHANGED",
        "second": "REGISTERED",
        "switched-off": "DISABLED",
    }
    assert (final.stats.unchanged_items, final.stats.disabled_jobs, final.stats.jobs) == (1, 1, 2)
    registrations = await client.queue_jobs(kind="registerJob")
    assert len(registrations) == 3


async def test_absent_items_are_disabled_for_their_own_endpoint_only(pair: Pair) -> None:
    tenant = await pair.new_tenant()
    client = pair.client(tenant.api_key)
    index_a = {**EMPTY_INDEX, "jobs": [event_job("a-1"), event_job("a-2")]}
    index_b = {**EMPTY_INDEX, "jobs": [event_job("b-1")]}
    async with (
        FakeEndpoint(index=index_a, api_key=tenant.api_key, slug="a") as a,
        FakeEndpoint(index=index_b, api_key=tenant.api_key, slug="b") as b,
    ):
        created_a = await client.create_endpoint(tenant, a.url, slug="a")
        await client.watch(created_a.index_id)
        created_b = await client.create_endpoint(tenant, b.url, slug="b")
        await client.watch(created_b.index_id)
        assert await client.active_jobs(tenant) == {"a-1": True, "a-2": True, "b-1": True}
        a.index = {**EMPTY_INDEX, "jobs": [event_job("a-2")]}
        again = await client.index(created_a.endpoint.id, force=True)
        await client.watch(again.index.id)

    assert await client.active_jobs(tenant) == {"a-1": False, "a-2": True, "b-1": True}
    assert await client.item_states(again.index.id) == {"a-2": "UNCHANGED", "a-1": "DISABLED"}


async def test_one_bad_item_never_spoils_the_others_and_its_reason_is_returned(pair: Pair) -> None:
    tenant = await pair.new_tenant()
    client = pair.client(tenant.api_key)
    index = {**EMPTY_INDEX, "jobs": [event_job("good"), {**event_job("bad"), "version": "one"}, 7]}
    async with FakeEndpoint(index=index, api_key=tenant.api_key) as endpoint:
        created = await client.create_endpoint(tenant, endpoint.url)
        final = (await client.watch(created.index_id))[-1]

    items = await client.items(created.index_id)
    assert state_name(final) == "PARTIALLY_SUCCEEDED"
    assert final.stats.failed_items == 2
    assert await client.item_states(created.index_id) == {"good": "REGISTERED", "bad": "REFUSED", "jobs[2]": "REFUSED"}
    assert "version" in items["bad"].reason


async def test_index_of_nothing_but_bad_items_fails_with_a_reason(pair: Pair) -> None:
    tenant = await pair.new_tenant()
    client = pair.client(tenant.api_key)
    index = {**EMPTY_INDEX, "jobs": [{**event_job("bad"), "version": "one"}]}
    async with FakeEndpoint(index=index, api_key=tenant.api_key) as endpoint:
        created = await client.create_endpoint(tenant, endpoint.url)
        final = (await client.watch(created.index_id))[-1]

    assert state_name(final) == "FAILED"
    assert final.error == "None of the 1 items the endpoint offers was accepted."


async def test_create_endpoint_again_updates_it_and_keeps_id_and_hook(pair: Pair) -> None:
    tenant = await pair.new_tenant()
    client = pair.client(tenant.api_key)
    async with FakeEndpoint(api_key=tenant.api_key) as first, FakeEndpoint(api_key=tenant.api_key) as second:
        created = await client.create_endpoint(tenant, first.url)
        updated = await client.create_endpoint(tenant, second.url)

    assert (created.created, updated.created) == (True, False)
    assert updated.endpoint.id == created.endpoint.id
    assert updated.endpoint.indexing_hook_identifier == created.endpoint.indexing_hook_identifier
    assert updated.endpoint.url == second.url


async def test_production_window_keeps_its_trailing_edge(pair: Pair) -> None:
    tenant = await pair.new_tenant(environment_type="PRODUCTION")
    client = pair.client(tenant.api_key)
    async with FakeEndpoint(index=index_of(1), api_key=tenant.api_key) as endpoint:
        created = await client.create_endpoint(tenant, endpoint.url)
        first = await client.index(created.endpoint.id, reason="first")
        await client.watch(first.index.id)
        waiting = await client.index(created.endpoint.id, reason="second")
        joined = await client.index(created.endpoint.id, reason="third")
        seconds_ahead = waiting.run_time.ToSeconds() - first.index.create_time.ToSeconds()
        forced = await client.index(created.endpoint.id, reason="fourth", force=True)
        final = (await client.watch(forced.index.id))[-1]

    assert (first.deduplicated, waiting.deduplicated, joined.deduplicated) == (False, True, True)
    assert waiting.queue_job_id == joined.queue_job_id
    assert joined.index.reason == "third"
    assert 890 <= seconds_ahead <= 910
    assert forced.queue_job_id == waiting.queue_job_id
    assert (state_name(final), final.reason) == ("SUCCEEDED", "fourth")


async def test_new_url_is_indexed_at_once_though_the_old_one_was_asked_just_now(pair: Pair) -> None:
    tenant = await pair.new_tenant(environment_type="PRODUCTION")
    client = pair.client(tenant.api_key)
    release = asyncio.Event()
    old_index, new_index = ({**EMPTY_INDEX, "jobs": [event_job(name)]} for name in ("old", "new"))
    async with (
        FakeEndpoint(
            index=old_index, api_key=tenant.api_key, behaviour=on("INDEX_ENDPOINT", held_until(release))
        ) as old,
        FakeEndpoint(index=new_index, api_key=tenant.api_key) as new,
    ):
        created = await client.create_endpoint(tenant, old.url)
        await eventually(lambda: old.calls("INDEX_ENDPOINT"))
        moved = endpoint_pb2.Endpoint(id=created.endpoint.id, url=new.url)
        request = endpoint_service_pb2.UpdateEndpointRequest(endpoint=moved)
        updated = await client.call(client.endpoints.UpdateEndpoint, request)
        release.set()
        finals = [(await client.watch(index_id))[-1] for index_id in (created.index_id, updated.index_id)]

    assert [state_name(final) for final in finals] == ["SUCCEEDED", "SUCCEEDED"]
    assert await client.active_jobs(tenant) == {"new": True}
    (snoozed,) = [each for each in await client.queue_jobs(kind="indexEndpoint") if each.id == finals[0].queue_job_id]
    assert ([error.reason for error in snoozed.errors], snoozed.attempt) == (["ENDPOINT_MOVED"], 1)
    assert snoozed.run_time.ToDatetime() - snoozed.errors[0].time.ToDatetime() >= timedelta(seconds=0.9)


async def test_index_that_failed_opens_the_window(pair: Pair) -> None:
    tenant = await pair.new_tenant(environment_type="PRODUCTION")
    client = pair.client(tenant.api_key)
    async with FakeEndpoint(index=index_of(1), api_key=tenant.api_key) as endpoint:
        created = await client.create_endpoint(tenant, endpoint.url)
        endpoint.behaviour = on("INDEX_ENDPOINT", status(404))
        failing = await client.index(created.endpoint.id)
        failed = (await client.watch(failing.index.id))[-1]
        endpoint.behaviour = None
        again = await client.index(created.endpoint.id)
        final = (await client.watch(again.index.id))[-1]

    assert state_name(failed) == "FAILED"
    assert failed.error == f"Could not connect to endpoint {endpoint.url}. Status code: 404"
    assert not again.deduplicated
    assert state_name(final) == "SUCCEEDED"


@pytest.mark.parametrize("answers", [(404,), (500, 404)], ids=["first-attempt", "second-attempt"])
async def test_index_that_waits_for_the_window_of_one_that_failed_runs_at_once(
    pair: Pair, answers: tuple[int, ...]
) -> None:
    tenant = await pair.new_tenant(environment_type="PRODUCTION")
    client = pair.client(tenant.api_key)
    release, left = asyncio.Event(), list(answers)

    async def fail_when_released(_request: Any, endpoint: FakeEndpoint) -> Any:
        await release.wait()
        answer = left.pop(0)
        if not left:
            endpoint.behaviour = None
        return aiohttp.web.Response(status=answer)

    async with FakeEndpoint(index=index_of(1), api_key=tenant.api_key) as endpoint:
        created = await client.create_endpoint(tenant, endpoint.url)
        await client.watch(created.index_id)
        endpoint.behaviour = on("INDEX_ENDPOINT", fail_when_released)
        failing = await client.index(created.endpoint.id)
        await eventually(lambda: len(endpoint.calls("INDEX_ENDPOINT")) == 2)
        waiting = await client.index(created.endpoint.id)
        release.set()
        failed = (await client.watch(failing.index.id))[-1]
        final = (await client.watch(waiting.index.id))[-1]

    assert (waiting.deduplicated, state_name(failed), state_name(final)) == (True, "FAILED", "SUCCEEDED")


async def test_request_does_not_cut_short_the_wait_that_an_endpoint_asked_for_but_force_does(pair: Pair) -> None:
    tenant = await pair.new_tenant(environment_type="PRODUCTION")
    client = pair.client(tenant.api_key)
    async with FakeEndpoint(index=index_of(1), api_key=tenant.api_key) as endpoint:
        created = await client.create_endpoint(tenant, endpoint.url)
        await client.watch(created.index_id)
        endpoint.behaviour = on("INDEX_ENDPOINT", status(503, headers={"Retry-After": "100"}))
        first = await client.index(created.endpoint.id)

        async def after_the_first_attempt() -> Any:
            queue_jobs = await client.queue_jobs(kind="indexEndpoint")
            return next((each for each in queue_jobs if each.id == first.queue_job_id and each.errors), None)

        waiting = await eventually(after_the_first_attempt)
        endpoint.behaviour = None
        joined = await client.index(created.endpoint.id)
        after_joining = await after_the_first_attempt()
        forced = await client.index(created.endpoint.id, force=True)
        final = (await client.watch(first.index.id))[-1]

    assert waiting.run_time.ToSeconds() - first.index.create_time.ToSeconds() >= 90
    assert (joined.queue_job_id, joined.run_time) == (first.queue_job_id, waiting.run_time)
    assert (waiting.attempt, waiting.max_attempts, after_joining.max_attempts) == (1, 5, 6)
    assert (forced.queue_job_id, forced.run_time.ToSeconds() < waiting.run_time.ToSeconds()) == (
        first.queue_job_id,
        True,
    )
    assert state_name(final) == "SUCCEEDED"


async def test_development_has_no_window_but_requests_still_join(pair: Pair) -> None:
    tenant = await pair.new_tenant()
    client = pair.client(tenant.api_key)
    release = asyncio.Event()
    async with FakeEndpoint(index=index_of(1), api_key=tenant.api_key) as endpoint:
        endpoint.behaviour = on("INDEX_ENDPOINT", held_until(release))
        created = await client.create_endpoint(tenant, endpoint.url)
        await eventually(lambda: endpoint.calls("INDEX_ENDPOINT"))
        first = await client.index(created.endpoint.id, reason="first")
        second = await client.index(created.endpoint.id, reason="second")
        release.set()
        await client.watch(created.index_id)
        final = (await client.watch(second.index.id))[-1]

    assert first.queue_job_id == second.queue_job_id
    assert (first.deduplicated, second.deduplicated) == (False, True)
    assert final.reason == "second"
    assert len(endpoint.calls("INDEX_ENDPOINT")) == 2


async def test_deployment_hook_indexes_a_few_seconds_later_and_keeps_its_body(pair: Pair) -> None:
    tenant = await pair.new_tenant()
    client = pair.client(tenant.api_key)
    body = {
        "type": "deployment.succeeded",
        "payload": {
            "deployment": {
                "id": "d1",
                "name": "shop",
                "url": "shop.example",
                "meta": {
                    "githubCommitMessage": "Fix it",
                    "githubCommitRef": "main",
                    "githubCommitSha": "0123456789abcdef",
                },
            }
        },
    }
    async with FakeEndpoint(index=index_of(1), api_key=tenant.api_key) as endpoint, aiohttp.ClientSession() as http:
        created = await client.create_endpoint(tenant, endpoint.url)
        await client.watch(created.index_id)
        hook = f"{pair.http_url}/api/v1/endpoints/{tenant.environment_id}/fake-endpoint/index"
        right = f"{hook}/{created.endpoint.indexing_hook_identifier}"
        async with http.post(right, json=body) as response:
            assert (response.status, await response.json()) == (200, {"ok": True})
        async with http.post(f"{hook}/0123456789", json=body) as response:
            wrong = (response.status, await response.text())
        async with http.get(right.replace("fake-endpoint", "absent")) as response:
            absent = (response.status, await response.text())
        indexes = await client.indexes(created.endpoint.id)

    assert wrong == absent
    assert wrong[0] == 404
    hooked = indexes[0]
    assert hooked.source == endpoint_index_pb2.ENDPOINT_INDEX_SOURCE_HOOK
    assert hooked.reason == '"Fix it" was deployed from main (0123456) to shop'
    assert json.loads((await client.get_index(hooked.id)).source_data_json) == body
    (queue_job,) = [each for each in await client.queue_jobs(kind="indexEndpoint") if each.id == hooked.queue_job_id]
    assert 4 <= queue_job.run_time.ToSeconds() - queue_job.create_time.ToSeconds() <= 6


async def test_second_deployment_hook_restarts_the_wait_of_the_first(pair: Pair) -> None:
    tenant = await pair.new_tenant()
    client = pair.client(tenant.api_key)
    async with FakeEndpoint(index=index_of(1), api_key=tenant.api_key) as endpoint, aiohttp.ClientSession() as http:
        created = await client.create_endpoint(tenant, endpoint.url)
        await client.watch(created.index_id)
        hook = f"{pair.http_url}/api/v1/endpoints/{tenant.environment_id}/fake-endpoint/index"
        run_times = []
        for _ in range(2):
            async with http.post(f"{hook}/{created.endpoint.indexing_hook_identifier}") as response:
                assert response.status == 200
            run_times.append((await client.queue_jobs(kind="indexEndpoint"))[0].run_time)
        indexes = await client.indexes(created.endpoint.id)

    assert len(indexes) == 2
    assert run_times[0].ToNanoseconds() < run_times[1].ToNanoseconds()


async def test_deployment_hook_has_its_wait_after_a_failed_attempt_too(pair: Pair) -> None:
    tenant = await pair.new_tenant(environment_type="PRODUCTION")
    client = pair.client(tenant.api_key)
    async with FakeEndpoint(index=index_of(1), api_key=tenant.api_key) as endpoint, aiohttp.ClientSession() as http:
        created = await client.create_endpoint(tenant, endpoint.url)
        await client.watch(created.index_id)
        endpoint.behaviour = on("INDEX_ENDPOINT", status(503, headers={"Retry-After": "3"}))
        hook = f"{pair.http_url}/api/v1/endpoints/{tenant.environment_id}/fake-endpoint/index"
        hook = f"{hook}/{created.endpoint.indexing_hook_identifier}"

        async def after_the_first_attempt() -> Any:
            return next((each for each in await client.queue_jobs(kind="indexEndpoint") if each.errors), None)

        async with http.post(hook, json={"deployment": 1}) as response:
            assert response.status == 200
        failed = await eventually(after_the_first_attempt, within=timedelta(seconds=20))
        async with http.post(hook, json={"deployment": 2}) as response:
            assert response.status == 200
        waiting = await after_the_first_attempt()

    assert waiting.run_time.ToNanoseconds() - failed.run_time.ToNanoseconds() > 1_000_000_000
    assert waiting.max_attempts == 6


async def test_only_get_endpoint_index_carries_what_the_asker_sent_along(pair: Pair) -> None:
    tenant = await pair.new_tenant()
    client = pair.client(tenant.api_key)
    async with FakeEndpoint(api_key=tenant.api_key) as endpoint:
        created = await client.create_endpoint(tenant, endpoint.url)
        await client.watch(created.index_id)
        requested = await client.index(created.endpoint.id, source_data_json='{"build":7}')
        states = await client.watch(requested.index.id)

    assert (await client.get_index(requested.index.id)).source_data_json == '{"build": 7}'
    assert {index.source_data_json for index in states} == {""}
    assert {index.source_data_json for index in await client.indexes(created.endpoint.id)} == {""}


async def test_deleted_endpoint_takes_its_waiting_work_with_it(pair: Pair) -> None:
    tenant = await pair.new_tenant()
    client = pair.client(tenant.api_key)
    release = asyncio.Event()
    async with FakeEndpoint(index=index_of(5), api_key=tenant.api_key) as endpoint:
        endpoint.behaviour = on("INDEX_ENDPOINT", held_until(release))
        created = await client.create_endpoint(tenant, endpoint.url)
        await eventually(lambda: endpoint.calls("INDEX_ENDPOINT"))
        await client.index(created.endpoint.id)
        await client.call(
            client.endpoints.DeleteEndpoint,
            endpoint_service_pb2.DeleteEndpointRequest(endpoint_id=created.endpoint.id),
        )
        release.set()

        async def all_cancelled() -> bool:
            queue_jobs = await client.queue_jobs(kind="indexEndpoint")
            return {each.state for each in queue_jobs} == {queue_job_pb2.QUEUE_JOB_STATE_CANCELLED}

        await eventually(all_cancelled)

    assert await client.active_jobs(tenant) == {}


async def test_lane_that_a_message_nobody_could_read_has_named_is_rung_again(database_url: str, redis_url: str) -> None:
    async with AsyncExitStack() as stack:
        pair = await stack.enter_async_context(
            running_pair(database_url=database_url, redis_url=redis_url, workers=0, ring_answered_within_seconds=0.5)
        )
        redis: Any = await stack.enter_async_context(open_redis(redis_url))
        tenant = await pair.new_tenant()
        client = pair.client(tenant.api_key)
        endpoint = await stack.enter_async_context(FakeEndpoint(index=index_of(1), api_key=tenant.api_key))
        created = await client.create_endpoint(tenant, endpoint.url)
        # On a slow machine it has been rung again already.
        for message in await eventually(lambda: redis.zrange(queue_key("execution"), 0, -1)):
            await redis.zrem(queue_key("execution"), message)
            await redis.set(job_key_prefix + message.hex(), b"of another world")
            await redis.zadd(queue_key("execution"), {message.hex(): 1})
        await stack.enter_async_context(running_workers(pair))
        states = await client.watch(created.index_id)
        aside = await redis.lrange(set_aside_key("execution"), 0, -1)

    assert set(aside) == {b"of another world"}
    assert state_name(states[-1]) == "SUCCEEDED"


async def test_watch_of_a_stopping_server_ends_at_once_and_says_why(database_url: str, redis_url: str) -> None:
    release = asyncio.Event()
    async with AsyncExitStack() as stack:
        pair = await stack.enter_async_context(running_pair(database_url=database_url, redis_url=redis_url))
        tenant = await pair.new_tenant()
        client = pair.client(tenant.api_key)
        endpoint = await stack.enter_async_context(FakeEndpoint(api_key=tenant.api_key))
        endpoint.behaviour = on("INDEX_ENDPOINT", held_until(release))
        created = await client.create_endpoint(tenant, endpoint.url)
        await eventually(lambda: endpoint.calls("INDEX_ENDPOINT"))
        watching = asyncio.create_task(client.watch(created.index_id))
        await eventually(lambda: client.watched)
        pair.stop.set()
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await watching
        release.set()

    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
    assert ended.value.details() == "This server is stopping; watch on from the last revision."


async def test_ping_is_a_result_and_stores_nothing(pair: Pair) -> None:
    tenant = await pair.new_tenant()
    client = pair.client(tenant.api_key)
    async with FakeEndpoint(api_key=tenant.api_key) as endpoint:
        created = await client.create_endpoint(tenant, endpoint.url)
        request = endpoint_service_pb2.PingEndpointRequest(endpoint_id=created.endpoint.id)
        good = await client.call(client.endpoints.PingEndpoint, request)
        endpoint.behaviour = on("PING", status(500))
        bad = await client.call(client.endpoints.PingEndpoint, request)

    assert (good.ok, good.error, good.http_status) == (True, "", 200)
    assert (bad.ok, bad.http_status) == (False, 500)
    assert bad.error == f"Could not connect to endpoint {endpoint.url}. Status code: 500"
    assert len(endpoint.calls("PING")) == 5


async def test_request_id_makes_create_endpoint_safe_to_repeat(pair: Pair) -> None:
    tenant = await pair.new_tenant()
    client = pair.client(tenant.api_key)
    request_id = str(uuid4())
    async with FakeEndpoint(api_key=tenant.api_key) as endpoint:
        first = await client.create_endpoint(tenant, endpoint.url, request_id=request_id)
        repeated = await client.create_endpoint(tenant, endpoint.url, request_id=request_id)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.create_endpoint(tenant, endpoint.url, slug="other", request_id=request_id)

    assert repeated == first
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert len(endpoint.calls("PING")) == 1


async def test_worker_with_a_wrong_token_is_not_ready_and_says_why(database_url: str, redis_url: str) -> None:
    (health_port,) = free_ports(1)
    async with running_pair(database_url=database_url, redis_url=redis_url, workers=0) as pair:
        settings = load_worker_settings(
            redis_url=redis_url,
            grpc_target=pair.grpc_target,
            worker_token="kf_worker_of_nobody",
            worker_health_address=f"127.0.0.1:{health_port}",
        )
        stop = asyncio.Event()
        running = asyncio.create_task(run_worker(settings, stop))

        async def is_refused() -> bool:
            async with aiohttp.ClientSession() as http:
                try:
                    async with http.get(f"http://127.0.0.1:{health_port}/readyz") as answer:
                        return answer.status == 503 and "UNAUTHENTICATED" in await answer.text()
                except aiohttp.ClientConnectionError:
                    return False

        try:
            await eventually(is_refused)
            tenant = await pair.new_tenant()
            async with FakeEndpoint(index=index_of(1), api_key=tenant.api_key) as endpoint:
                created = await pair.client(tenant.api_key).create_endpoint(tenant, endpoint.url)
                assert await is_refused()
                # A worker that is taken does the work beside it, which stays refused.
                async with running_workers(pair):
                    assert state_name((await pair.client(tenant.api_key).watch(created.index_id))[-1]) == "SUCCEEDED"
            assert await is_refused()
        finally:
            stop.set()
            await running
