"""A request that is repeated with its id answers what it answered first, not what it would say now."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from kongflow.v1.endpoint_pb2 import Endpoint
from kongflow.v1.endpoint_service_pb2 import (
    IndexEndpointRequest,
    UpdateEndpointRequest,
    UpdateEndpointResponse,
    UpsertEndpointRequest,
)

from services.endpoints.delivery.guard import EgressGuard
from services.endpoints.domain.errors import AddressNotAllowedError
from tests.support.fake_endpoint import FakeEndpoint, status
from tests.support.giving_way import give_way
from tests.support.rpc import refused
from tests.support.stage import URL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

    from tests.support.stage import Stage


@pytest.fixture
async def fake(stage: Stage) -> AsyncIterator[FakeEndpoint]:
    async with FakeEndpoint(api_key=stage.ours.development_key) as endpoint:
        yield endpoint


async def update(stage: Stage, endpoint: Endpoint, url: str, request_id: str) -> UpdateEndpointResponse:
    request = UpdateEndpointRequest(endpoint=Endpoint(id=endpoint.id, url=url), request_id=request_id)
    response: UpdateEndpointResponse = await stage.writer.endpoints.UpdateEndpoint(request)
    return response


@pytest.mark.parametrize("is_known", [False, True])
async def test_repeated_upsert_says_created_as_it_did_first(stage: Stage, is_known: bool) -> None:
    if is_known:
        await stage.store_endpoint()
    request = UpsertEndpointRequest(
        environment_id=stage.ours.development.id, slug="app", url=URL, request_id=str(uuid4())
    )
    first = await stage.writer.endpoints.UpsertEndpoint(request)
    assert first.created is not is_known
    assert await stage.writer.endpoints.UpsertEndpoint(request) == first


async def test_repeat_of_an_upsert_is_answered_wherever_its_address_leads_by_now(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = UpsertEndpointRequest(
        environment_id=stage.ours.development.id, slug="app", url=URL, request_id=str(uuid4())
    )
    first = await stage.writer.endpoints.UpsertEndpoint(request)

    async def refuse(_guard: EgressGuard, _url: str) -> None:
        raise AddressNotAllowedError("app.example.com", "a private address")

    monkeypatch.setattr(EgressGuard, "check", refuse)
    assert await stage.writer.endpoints.UpsertEndpoint(request) == first
    request.request_id = str(uuid4())
    assert (await refused(stage.writer.endpoints.UpsertEndpoint(request))).reason == "ADDRESS_NOT_ALLOWED"


async def test_repeated_request_for_an_index_says_deduplicated_as_it_did_first(stage: Stage) -> None:
    endpoint = await stage.store_endpoint()
    for deduplicated in (False, True):
        request = IndexEndpointRequest(endpoint_id=endpoint.id, request_id=str(uuid4()))
        first = await stage.writer.endpoints.IndexEndpoint(request)
        again = await stage.writer.endpoints.IndexEndpoint(request)
        assert first.deduplicated is again.deduplicated is deduplicated
        assert (again.index.id, again.queue_job_id) == (first.index.id, first.queue_job_id)


async def test_repeated_request_for_an_index_is_answered_when_its_queue_job_was_deleted_by_age(
    stage: Stage, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    endpoint = await stage.store_endpoint()
    request = IndexEndpointRequest(endpoint_id=endpoint.id, request_id=str(uuid4()))
    first = await stage.writer.endpoints.IndexEndpoint(request)
    await connection.execute("DELETE FROM queue_jobs")

    assert await stage.writer.endpoints.IndexEndpoint(request) == first


async def test_repeated_update_names_the_index_that_the_first_asked_for(stage: Stage, fake: FakeEndpoint) -> None:
    endpoint, request_id = await stage.store_endpoint(slug=fake.slug), str(uuid4())

    first = await update(stage, endpoint, fake.url, request_id)

    assert first.index_id
    assert await update(stage, endpoint, fake.url, request_id) == first
    assert len(fake.journal) == 1


async def test_late_repeat_of_an_update_calls_nobody_and_moves_nothing(stage: Stage, fake: FakeEndpoint) -> None:
    endpoint, first_id, other = await stage.store_endpoint(slug=fake.slug), str(uuid4()), f"{fake.url}?v=2"
    first = await update(stage, endpoint, fake.url, first_id)
    await update(stage, endpoint, other, str(uuid4()))
    fake.behaviour = status(503)

    late = await update(stage, endpoint, fake.url, first_id)

    assert (late.index_id, late.endpoint.url) == (first.index_id, other)
    assert len(fake.journal) == 2


async def test_repeat_of_an_update_that_changed_nothing_changes_nothing(stage: Stage, fake: FakeEndpoint) -> None:
    endpoint, request_id = await stage.store_endpoint(slug=fake.slug), str(uuid4())
    unchanged = await update(stage, endpoint, URL, request_id)
    await update(stage, endpoint, fake.url, str(uuid4()))

    late = await update(stage, endpoint, URL, request_id)

    assert (unchanged.index_id, late.index_id, late.endpoint.url) == ("", "", fake.url)


@pytest.mark.parametrize("is_moved_first", [False, True])
async def test_request_id_of_another_update_is_refused_even_for_the_same_url(
    stage: Stage, fake: FakeEndpoint, is_moved_first: bool
) -> None:
    endpoint, request_id = await stage.store_endpoint(slug=fake.slug), str(uuid4())
    first, second = (fake.url, URL) if is_moved_first else (URL, fake.url)
    await update(stage, endpoint, first, request_id)
    if is_moved_first:
        await stage.store_endpoint(slug=fake.slug)

    refusal = await refused(update(stage, endpoint, second, request_id))

    assert (refusal.reason, refusal.fields) == ("REQUEST_ID_REUSED", ["request_id"])


async def test_create_that_joins_an_index_says_when_that_begins_and_so_does_its_repeat(
    stage: Stage, fake: FakeEndpoint, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    first = await stage.create(slug=fake.slug, url=fake.url, request_id=str(uuid4()))
    due = first.run_time.ToDatetime(tzinfo=UTC) + timedelta(minutes=15)
    await connection.execute(
        "UPDATE queue_jobs SET state = 'SCHEDULED', run_at = $1, attempt = 1, started_at = now()", due
    )
    request_id = str(uuid4())
    for _ in range(2):
        created = await stage.create(slug=fake.slug, url=fake.url, request_id=request_id)
        assert (created.index_id, created.run_time.ToDatetime(tzinfo=UTC)) == (first.index_id, due)


async def test_repeated_create_says_created_as_it_did_first(stage: Stage, fake: FakeEndpoint) -> None:
    for created in (True, False):
        fields = {"slug": fake.slug, "url": fake.url, "request_id": str(uuid4())}
        first = await stage.create(**fields)
        again = await stage.create(**fields)
        assert first.created is again.created is created
        # When it begins is told as it stands.
        again.run_time.CopyFrom(first.run_time)
        assert again == first


async def test_update_that_changes_nothing_is_remembered_though_the_database_gives_way(
    stage: Stage, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    endpoint = await stage.store_endpoint()
    await give_way(connection, "request_ids", sqlstate="40P01")

    response = await update(stage, endpoint, endpoint.url, str(uuid4()))

    assert response.endpoint == endpoint
    assert await connection.fetchval("SELECT count(*) FROM request_ids") == 1
