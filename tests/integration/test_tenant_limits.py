"""What a tenant may ask of one server, and what others feel when it asks for more."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from kongflow.v1.queue_service_pb2 import GetQueueStatsRequest, WatchQueueStatsRequest
from kongflow.v1.tenancy_service_pb2 import ListEnvironmentsRequest, ListTokensRequest
from kongflow.v1.worker_service_pb2 import RunQueueJobsRequest

from services.endpoints.operations.limits import CallLimits
from tests.support.eventually import eventually
from tests.support.rpc import ADMIN_TOKEN, new_tenant, refusal_of, refused, running_service
from tests.support.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Awaitable

LIST = ListEnvironmentsRequest()
WATCH = WatchQueueStatsRequest()
# Slow enough that nothing comes back while a test runs, and enough for making two tenants.
FEW = CallLimits(calls_per_second=0.01, burst=20, at_once=3)


def detail(error: grpc.aio.AioRpcError, kind: Any) -> Any:
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    found = kind()
    [packed] = [each for each in status.details if each.Is(kind.DESCRIPTOR)]
    packed.Unpack(found)
    return found


async def failure(call: Awaitable[Any]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_a_tenant_over_its_rate_is_told_its_quota_and_when_to_come_back(database_url: str) -> None:
    async with running_service(database_url, limits=FEW) as service:
        ours = await new_tenant(service, "ours")
        caller, key = service.caller(ours.service_token), service.caller(ours.development_key)
        for _ in range(10):
            await caller.tenancy.ListEnvironments(LIST)
            await key.tenancy.ListEnvironments(LIST)
        error = await failure(caller.tenancy.ListEnvironments(LIST))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refusal_of(error).reason == "RATE_LIMITED"
        assert 90 < detail(error, error_details_pb2.RetryInfo).retry_delay.ToSeconds() <= 100
        [violation] = detail(error, error_details_pb2.QuotaFailure).violations
        assert violation.subject == f"organization:{ours.organization_id}"
        assert violation.description == error.details()
        assert (await refused(anext(aiter(key.queue.WatchQueueStats(WATCH))))).reason == "RATE_LIMITED"


async def test_calls_that_a_tenant_may_not_make_count_too(database_url: str) -> None:
    async with running_service(database_url, limits=FEW) as service:
        ours = await new_tenant(service, "ours")
        reader = service.caller(ours.reader_token)
        for _ in range(20):
            assert (await refused(reader.tenancy.ListTokens(ListTokensRequest()))).reason == "PERMISSION_DENIED"
        assert (await refused(reader.tenancy.ListTokens(ListTokensRequest()))).reason == "RATE_LIMITED"


async def test_calls_at_once_are_limited_and_one_that_ends_makes_room(database_url: str) -> None:
    async with running_service(database_url, limits=FEW) as service:
        ours, theirs = await new_tenant(service, "ours"), await new_tenant(service, "theirs")
        caller = service.caller(ours.service_token)
        watches = [caller.queue.WatchQueueStats(WATCH) for _ in range(3)]
        for watch in watches:
            await anext(aiter(watch))
        error = await failure(caller.tenancy.ListEnvironments(LIST))
        assert (error.code(), refusal_of(error).reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")
        assert detail(error, error_details_pb2.RetryInfo).retry_delay.ToSeconds() == 1
        assert detail(error, error_details_pb2.QuotaFailure).violations
        await service.caller(theirs.service_token).tenancy.ListEnvironments(LIST)
        watches.pop().cancel()

        async def there_is_room() -> bool:
            with suppress(grpc.aio.AioRpcError):
                await caller.queue.GetQueueStats(GetQueueStatsRequest())
                return True
            return False

        await eventually(there_is_room)


async def test_workers_health_and_who_has_no_credential_are_not_counted(database_url: str) -> None:
    async with running_service(database_url, limits=FEW) as service:
        ours = await new_tenant(service, "ours")
        worker = service.caller(ours.worker_token)
        nobody = service.caller(None)
        for _ in range(30):
            assert (await refused(worker.worker.RunQueueJobs(RunQueueJobsRequest()))).reason == "INVALID_REQUEST"
            assert (await refused(nobody.tenancy.ListEnvironments(LIST))).reason == "UNAUTHENTICATED"


async def test_administrators_are_one_tenant(database_url: str) -> None:
    async with running_service(database_url, limits=CallLimits(calls_per_second=0.01, burst=2)) as service:
        admin = service.caller(ADMIN_TOKEN)
        for _ in range(2):
            await admin.tenancy.ListEnvironments(LIST)
        error = await failure(admin.tenancy.ListEnvironments(LIST))
        assert [each.subject for each in detail(error, error_details_pb2.QuotaFailure).violations] == ["admin"]


async def test_a_flood_of_one_tenant_is_refused_and_another_served(database_url: str) -> None:
    async with running_service(database_url, limits=CallLimits(calls_per_second=50, burst=50, at_once=8)) as service:
        stage = Stage(service, await new_tenant(service, "ours"), await new_tenant(service, "theirs"))
        flooding = service.caller(stage.theirs.service_token)
        codes: list[grpc.StatusCode] = []
        stop = asyncio.Event()

        async def flood() -> None:
            while not stop.is_set():
                try:
                    await flooding.tenancy.ListEnvironments(LIST)
                except grpc.aio.AioRpcError as error:
                    codes.append(error.code())

        floods = [asyncio.create_task(flood()) for _ in range(32)]
        for _ in range(40):
            await stage.writer.tenancy.ListEnvironments(LIST)
        stop.set()
        await asyncio.gather(*floods)
    assert set(codes) == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert len(codes) > 100
