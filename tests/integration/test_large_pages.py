"""Pages of what customers wrote: clients take each, which is 4 MiB by default, and together they leave out nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from kongflow.v1 import catalog_service_pb2, dispatcher_service_pb2

from tests.support.dispatchers import DispatcherStage
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.offers import answer, dynamic, job, source
from tests.support.operator import Operator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

    from tests.support.stage import Stage

LARGE = 100_000
HUGE = 3_000_000
MANY = 45


@pytest.fixture
def operator(stage: Stage, connection: asyncpg.Connection[asyncpg.Record]) -> Operator:
    return Operator(stage, connection)


@pytest.fixture
async def endpoint(stage: Stage) -> AsyncIterator[FakeEndpoint]:
    async with FakeEndpoint(api_key=stage.ours.development_key) as endpoint:
        yield endpoint


def large_job(slug: str, characters: int = LARGE) -> dict[str, Any]:
    offered = job(slug)
    example = {"id": "large", "name": "Large", "payload": {"text": "x" * characters}}
    return {**offered, "event": {**offered["event"], "examples": [example]}}


def large_dynamic_trigger(slug: str) -> dict[str, Any]:
    return dynamic(slug, [(f"{place:0200}", "1.0.0") for place in range(LARGE // 200)])


def numbered(place: int) -> str:
    return f"item-{place:03}"


async def pages(stage: Stage, method: str, items: str, **wanted: Any) -> list[list[Any]]:
    """Read all pages of a list with a client that takes what clients take."""
    if method == "ListDispatchers":
        call, request = stage.writer.dispatchers.ListDispatchers, dispatcher_service_pb2.ListDispatchersRequest
    else:
        call = getattr(stage.writer.catalog, method)
        request = getattr(catalog_service_pb2, f"{method}Request")
    token, found = "", list[list[Any]]()
    while token or not found:
        page = await call(request(environment_id=stage.ours.development.id, page_token=token, **wanted))
        found.append(list(getattr(page, items)))
        token = page.next_page_token
    return found


@pytest.mark.parametrize(
    ("method", "items", "offered"),
    [
        ("ListJobs", "jobs", {"jobs": [large_job(numbered(place)) for place in range(MANY)]}),
        (
            "ListSources",
            "sources",
            {"sources": [source(numbered(place), params="x" * LARGE) for place in range(MANY)]},
        ),
        (
            "ListDynamicTriggers",
            "dynamic_triggers",
            {"dynamicTriggers": [large_dynamic_trigger(numbered(place)) for place in range(MANY)]},
        ),
    ],
)
async def test_large_items_come_in_smaller_pages(
    operator: Operator, endpoint: FakeEndpoint, method: str, items: str, offered: dict[str, Any]
) -> None:
    endpoint.index = answer(**offered)
    await operator.create(endpoint)
    await operator.work_off()

    found = await pages(operator.stage, method, items)
    assert len(found) > 1
    names = [getattr(item, "slug", "") or item.key for page in found for item in page]
    assert sorted(names) == [numbered(place) for place in range(MANY)]


async def test_an_item_too_large_for_a_page_has_one_of_its_own(operator: Operator, endpoint: FakeEndpoint) -> None:
    endpoint.index = answer(jobs=[job("a"), large_job("b", HUGE), job("c"), job("d")])
    await operator.create(endpoint)
    await operator.work_off()

    found = await pages(operator.stage, "ListJobs", "jobs")
    assert [[each.slug for each in page] for page in found] == [["a"], ["b"], ["c", "d"]]


async def test_a_job_with_as_many_integrations_as_it_may_have_is_small(
    operator: Operator, endpoint: FakeEndpoint
) -> None:
    large = {"id": "s" * 200, "metadata": {"id": "d" * 200, "name": "n" * 500}, "authSource": "LOCAL"}
    several = [{str(place): large for place in range(count)} for count in (100, 101)]
    endpoint.index = answer(
        jobs=[job(slug, integrations=integrations) for slug, integrations in zip("ab", several, strict=True)]
    )
    created = await operator.create(endpoint)
    await operator.work_off()

    assert await operator.items(created.index_id) == {"a": "REGISTERED", "b": "REFUSED"}
    [[stored]] = await pages(operator.stage, "ListJobs", "jobs")
    assert len(stored.latest_version.integrations) == 100


async def test_small_items_fill_their_pages(operator: Operator, endpoint: FakeEndpoint) -> None:
    endpoint.index = answer(jobs=[job(slug) for slug in "abcde"])
    await operator.create(endpoint)
    await operator.work_off()

    found = await pages(operator.stage, "ListJobs", "jobs", page_size=2)
    assert [[each.slug for each in page] for page in found] == [["a", "b"], ["c", "d"], ["e"]]


@pytest.mark.parametrize("wanted", [{}, {"event_name": "order.paid"}])
async def test_dispatchers_with_large_filters_come_in_smaller_pages(
    stage: Stage, connection: asyncpg.Connection[asyncpg.Record], wanted: dict[str, str]
) -> None:
    dispatchers = await DispatcherStage(stage, connection).prepare()
    payload_filter = json.dumps({"text": ["x" * LARGE]})
    created = {(await dispatchers.created(payload_filter_json=payload_filter)).id for _ in range(MANY)}

    found = await pages(stage, "ListDispatchers", "dispatchers", **wanted)
    assert len(found) > 1
    listed = [each.id for page in found for each in page]
    assert listed == sorted(created | ({dispatchers.index_dispatcher_id} if not wanted else set()))
