"""How an index ends: what the endpoint lists decides, and what it no longer lists does not."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest
from kongflow.v1 import catalog_service_pb2, dispatcher_service_pb2, endpoint_service_pb2

from tests.support.fake_endpoint import EMPTY_INDEX, FakeEndpoint, event_job
from tests.support.offers import answer, job, source
from tests.support.pair import state_name

if TYPE_CHECKING:
    import asyncpg

    from tests.support.pair import Pair


async def test_items_that_became_absent_do_not_save_an_index_of_refused_items(pair: Pair) -> None:
    tenant = await pair.new_tenant()
    client = pair.client(tenant.api_key)
    refused = {**event_job("bad"), "version": "one"}
    async with FakeEndpoint(index={**EMPTY_INDEX, "jobs": [event_job("gone")]}, api_key=tenant.api_key) as endpoint:
        created = await client.create_endpoint(tenant, endpoint.url)
        await client.watch(created.index_id)
        endpoint.index = {**EMPTY_INDEX, "jobs": [refused]}
        again = await client.index(created.endpoint.id, force=True)
        final = (await client.watch(again.index.id))[-1]

    assert await client.item_states(again.index.id) == {"bad": "REFUSED", "gone": "DISABLED"}
    assert state_name(final) == "FAILED"
    assert final.error == "None of the 1 items the endpoint offers was accepted."


@pytest.mark.parametrize("is_deleted", [False, True])
async def test_what_another_endpoint_offers_as_well_goes_back_to_it(pair: Pair, is_deleted: bool) -> None:
    tenant = await pair.new_tenant()
    client = pair.client(tenant.api_key)
    offered = answer(jobs=[job("shared"), job("other", "2.0.0")], sources=[source("shared")])
    async with (
        FakeEndpoint(index=offered, api_key=tenant.api_key, slug="blue") as blue,
        FakeEndpoint(
            index=answer(**{**offered, "jobs": [job("shared"), job("other")]}), api_key=tenant.api_key, slug="green"
        ) as green,
    ):
        for endpoint in (blue, green):
            created = await client.create_endpoint(tenant, endpoint.url, slug=endpoint.slug)
            await client.watch(created.index_id)
        if is_deleted:
            request = endpoint_service_pb2.DeleteEndpointRequest(endpoint_id=created.endpoint.id)
            await client.call(client.endpoints.DeleteEndpoint, request)
        else:
            green.index = EMPTY_INDEX
            again = await client.index(created.endpoint.id, force=True)
            await client.watch(again.index.id)
            assert set((await client.item_states(again.index.id)).values()) == {"DISABLED"}

    jobs = await client.call(client.catalog.ListJobs, catalog_service_pb2.ListJobsRequest())
    assert [(each.slug, each.latest_version.endpoint_slug, state_name(each.latest_version)) for each in jobs.jobs] == [
        ("other", "blue", "ACTIVE"),
        ("shared", "blue", "ACTIVE"),
    ]
    sources = await client.call(client.catalog.ListSources, catalog_service_pb2.ListSourcesRequest())
    assert [(each.key, each.enabled) for each in sources.sources] == [("shared", True)]
    dispatchers = await client.call(client.dispatchers.ListDispatchers, dispatcher_service_pb2.ListDispatchersRequest())
    assert [each.enabled for each in dispatchers.dispatchers] == [True, True]


_FAILS = "UPDATE endpoints SET state = 'FAILING', next_probe_at = now() + interval '1 hour' WHERE slug = 'gone'"
_IS_BEING_DELETED = "SELECT FROM endpoints WHERE slug = 'gone' FOR UPDATE"


@pytest.mark.parametrize("state", [_FAILS, _IS_BEING_DELETED], ids=["fails", "is being deleted"])
async def test_what_only_an_endpoint_offers_as_well_that_fails_or_goes_is_disabled(
    pair: Pair, connection: asyncpg.Connection[asyncpg.Record], state: str
) -> None:
    tenant = await pair.new_tenant()
    client = pair.client(tenant.api_key)
    async with (
        FakeEndpoint(index=answer(jobs=[job("shared")]), api_key=tenant.api_key, slug="gone") as gone,
        FakeEndpoint(index=answer(jobs=[job("shared")]), api_key=tenant.api_key, slug="new") as new,
    ):
        for endpoint in (gone, new):
            created = await client.create_endpoint(tenant, endpoint.url, slug=endpoint.slug)
            await client.watch(created.index_id)
        new.index = EMPTY_INDEX
        async with connection.transaction() if state == _IS_BEING_DELETED else nullcontext():
            await connection.execute(state)
            again = await client.index(created.endpoint.id, force=True)
            await client.watch(again.index.id)

    assert await client.active_jobs(tenant) == {"shared": False}


async def test_listed_item_that_is_switched_off_counts_as_good(pair: Pair) -> None:
    tenant = await pair.new_tenant()
    client = pair.client(tenant.api_key)
    jobs = [{**event_job("off"), "enabled": False}, {**event_job("bad"), "version": "one"}]
    async with FakeEndpoint(index={**EMPTY_INDEX, "jobs": jobs}, api_key=tenant.api_key) as endpoint:
        created = await client.create_endpoint(tenant, endpoint.url)
        final = (await client.watch(created.index_id))[-1]

    assert await client.item_states(created.index_id) == {"off": "DISABLED", "bad": "REFUSED"}
    assert state_name(final) == "PARTIALLY_SUCCEEDED"


async def test_index_of_nothing_succeeds_when_everything_became_absent(pair: Pair) -> None:
    tenant = await pair.new_tenant()
    client = pair.client(tenant.api_key)
    async with FakeEndpoint(index={**EMPTY_INDEX, "jobs": [event_job("gone")]}, api_key=tenant.api_key) as endpoint:
        created = await client.create_endpoint(tenant, endpoint.url)
        await client.watch(created.index_id)
        endpoint.index = EMPTY_INDEX
        again = await client.index(created.endpoint.id, force=True)
        final = (await client.watch(again.index.id))[-1]

    assert await client.item_states(again.index.id) == {"gone": "DISABLED"}
    assert state_name(final) == "SUCCEEDED"
