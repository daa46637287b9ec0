"""A request that is repeated with its id answers what it answered first, not what it would say now."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from kongflow.v1.endpoint_service_pb2 import IndexEndpointRequest, UpsertEndpointRequest

from tests.support.stage import URL

if TYPE_CHECKING:
    from tests.support.stage import Stage


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


async def test_repeated_request_for_an_index_says_deduplicated_as_it_did_first(stage: Stage) -> None:
    endpoint = await stage.store_endpoint()
    for deduplicated in (False, True):
        request = IndexEndpointRequest(endpoint_id=endpoint.id, request_id=str(uuid4()))
        first = await stage.writer.endpoints.IndexEndpoint(request)
        again = await stage.writer.endpoints.IndexEndpoint(request)
        assert first.deduplicated is again.deduplicated is deduplicated
        assert (again.index.id, again.queue_job_id) == (first.index.id, first.queue_job_id)
