"""How an index ends: what the endpoint lists decides, and what it no longer lists does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.fake_endpoint import EMPTY_INDEX, FakeEndpoint, event_job
from tests.support.pair import state_name

if TYPE_CHECKING:
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
