"""A real SDK app through the whole pair: everything it declares is found, and the second time nothing is done again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from kongflow.v1 import catalog_service_pb2

from tests.support.pair import running_pair, state_name
from tests.support.sdk_app import CLIENT_ID, running_sdk_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.pair import Client, Pair, Tenant

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(900)]

JOBS = {
    "book-sold",
    "reading-room",
    "nightly-count",
    "till-check",
    "unpack",
    "forward-parcel",
    "send-digest",
    "new-reader",
}


@pytest.fixture
async def pair(database_url: str, redis_url: str) -> AsyncIterator[Pair]:
    async with running_pair(database_url=database_url, redis_url=redis_url) as pair:
        yield pair


async def test_index_finds_everything_the_app_declares_and_a_second_one_changes_nothing(pair: Pair) -> None:
    tenant = await pair.new_tenant()
    client = pair.client(tenant.api_key)
    with running_sdk_app(api_key=tenant.api_key) as app:
        created = await client.create_endpoint(tenant, app.url, slug=CLIENT_ID)
        first = (await client.watch(created.index_id))[-1]
        first_items = await client.item_states(created.index_id)
        again = await client.index(created.endpoint.id, force=True)
        second = (await client.watch(again.index.id))[-1]
        second_items = await client.item_states(again.index.id)

    assert (state_name(first), state_name(second)) == ("SUCCEEDED", "SUCCEEDED")
    declared = {*JOBS, "closed-department", "DYNAMIC_TRIGGER any-depot", "DYNAMIC_SCHEDULE reader-digest"}
    assert declared <= set(first_items)
    assert len([name for name in first_items if name.startswith("SOURCE ")]) == 1
    assert {key for key, state in first_items.items() if state == "DISABLED"} == {"closed-department"}
    assert {state for key, state in first_items.items() if key != "closed-department"} == {"REGISTERED"}
    assert second_items == dict.fromkeys(first_items, "UNCHANGED") | {"closed-department": "DISABLED"}
    stats = first.stats
    assert (stats.jobs, stats.sources, stats.dynamic_triggers, stats.dynamic_schedules) == (len(JOBS), 1, 1, 1)
    assert second.stats.unchanged_items == len(first_items) - 1
    await _catalog_holds(client, tenant)


async def test_wrong_key_and_wrong_id_are_refused_with_the_protocols_texts(pair: Pair) -> None:
    tenant = await pair.new_tenant()
    client = pair.client(tenant.api_key)
    with running_sdk_app(api_key="tr_dev_SomeOtherKey0000000") as app:
        wrong_key = await _refusal(client, tenant, app.url, CLIENT_ID)
    with running_sdk_app(api_key=tenant.api_key) as app:
        wrong_id = await _refusal(client, tenant, app.url, "another-app")

    assert wrong_key == (
        "Forbidden: client apiKey mismatch: Make sure you are using the correct API Key for your environment",
        "401",
    )
    assert wrong_id == (f"Endpoint ID mismatch error. Expected {CLIENT_ID}, got another-app", "200")


async def _refusal(client: Client, tenant: Tenant, url: str, slug: str) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await client.create_endpoint(tenant, url, slug=slug)
    error = refused.value
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    info = _error_info(error)
    assert info.reason == "FAILED_PING"
    return str(error.details()), info.metadata["http_status"]


def _error_info(error: grpc.aio.AioRpcError) -> Any:
    (raw,) = [value for key, value in error.trailing_metadata() or () if key == "grpc-status-details-bin"]
    info = error_details_pb2.ErrorInfo()
    for detail in status_pb2.Status.FromString(raw).details:
        if detail.Unpack(info):
            return info
    raise AssertionError("no ErrorInfo")


async def _catalog_holds(client: Client, tenant: Tenant) -> None:
    environment_id = tenant.environment_id
    assert set(await client.active_jobs(tenant)) >= JOBS
    sources = await client.call(
        client.catalog.ListSources, catalog_service_pb2.ListSourcesRequest(environment_id=environment_id)
    )
    triggers = await client.call(
        client.catalog.ListDynamicTriggers,
        catalog_service_pb2.ListDynamicTriggersRequest(environment_id=environment_id),
    )
    schedules = await client.call(
        client.catalog.ListSchedules, catalog_service_pb2.ListSchedulesRequest(environment_id=environment_id)
    )
    assert len(sources.sources) == 1
    assert {trigger.slug for trigger in triggers.dynamic_triggers} == {"any-depot", "reader-digest"}
    assert {schedule.key for schedule in schedules.schedules} == {"nightly-count", "till-check"}
