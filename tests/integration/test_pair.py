"""The main job, end to end: register an endpoint, and everything it offers is registered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from kongflow.v1 import catalog_service_pb2, endpoint_index_item_pb2, endpoint_index_pb2

from tests.support.fake_endpoint import FakeEndpoint, index_of
from tests.support.pair import running_pair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.pair import Pair


@pytest.fixture
async def pair(database_url: str, redis_url: str) -> AsyncIterator[Pair]:
    async with running_pair(database_url=database_url, redis_url=redis_url) as pair:
        yield pair


def state_of(item: Any) -> str:
    return str(endpoint_index_item_pb2.EndpointIndexItemState.Name(item.state)).removeprefix(
        "ENDPOINT_INDEX_ITEM_STATE_"
    )


async def test_everything_an_endpoint_offers_is_registered(pair: Pair) -> None:
    tenant = await pair.new_tenant()
    client = pair.client(tenant.api_key)
    async with FakeEndpoint(index=index_of(250), api_key=tenant.api_key) as endpoint:
        created = await client.create_endpoint(tenant, endpoint.url)
        states = await client.watch(created.index_id)

    assert created.created
    assert states[-1].state == endpoint_index_pb2.ENDPOINT_INDEX_STATE_SUCCEEDED
    assert states[-1].stats.jobs == 250
    items = await client.items(created.index_id)
    assert {state_of(item) for item in items.values()} == {"REGISTERED"}
    jobs = await client.call(
        client.catalog.ListJobs,
        catalog_service_pb2.ListJobsRequest(environment_id=tenant.environment_id, page_size=1000),
    )
    assert len(jobs.jobs) == 250
