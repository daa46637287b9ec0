"""Watches: how many, what wakes them, and how they end."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager, ExitStack
from datetime import timedelta
from uuid import uuid4

import pytest

from services.endpoints.domain.errors import KongflowError, Reason, UnauthenticatedError
from services.endpoints.domain.tenancy import Principal, PrincipalKind
from services.endpoints.operations.watches import Watch, Watches
from tests.support.memory_queue import MemoryWakeUps

TENANT, OTHER = uuid4(), uuid4()


async def welcome() -> None:
    """Recognise the caller still."""


def principal(organization_id: object = None) -> Principal:
    kind = PrincipalKind.ADMIN if organization_id is None else PrincipalKind.SERVICE
    return Principal(kind, "someone", organization_id=organization_id)  # type: ignore[arg-type]


def test_tenant_has_so_many_watches_and_a_closed_one_makes_room() -> None:
    watches = Watches(most_per_tenant=2)

    def opened(organization_id: object = None) -> AbstractContextManager[Watch]:
        wake_up = MemoryWakeUps().subscribe()
        return watches.open(principal(organization_id), wake_up, advice="go on", readmit=welcome)

    with opened(TENANT), ExitStack() as second:
        second.enter_context(opened(TENANT))
        with pytest.raises(KongflowError) as refused, opened(TENANT):
            pass
        with opened(OTHER), opened():
            assert watches.count == 4
        second.close()
        with opened(TENANT):
            pass
    assert refused.value.reason is Reason.QUOTA_EXCEEDED
    assert refused.value.retry_after
    assert refused.value.metadata == {"limit": "2", "tenant": f"organization:{TENANT}"}
    assert not watches.count


async def test_wake_up_ends_the_wait_once_it_has_been_quiet() -> None:
    wake_up = MemoryWakeUps().subscribe()
    with Watches().open(principal(TENANT), wake_up, advice="go on", readmit=welcome) as watch:
        waiting = asyncio.create_task(watch.changed(quiet=timedelta(milliseconds=50)))
        began = asyncio.get_running_loop().time()
        wake_up.wake()
        assert await waiting
        assert asyncio.get_running_loop().time() - began >= 0.045


async def test_wait_without_a_wake_up_ends_after_a_second_and_says_so() -> None:
    with Watches().open(principal(TENANT), MemoryWakeUps().subscribe(), advice="go on", readmit=welcome) as watch:
        assert not await watch.changed(quiet=timedelta(seconds=0.9))


@pytest.mark.parametrize("quiet", [timedelta(), timedelta(seconds=30)])
async def test_drain_ends_every_watch_at_once_with_advice(quiet: timedelta) -> None:
    watches = Watches()
    wake_up = MemoryWakeUps().subscribe()
    with watches.open(principal(TENANT), wake_up, advice="watch on elsewhere", readmit=welcome) as watch:
        waiting = asyncio.create_task(watch.changed(quiet=quiet))
        asyncio.get_running_loop().call_soon(watches.end)
        with pytest.raises(KongflowError, match="watch on elsewhere") as ended:
            await waiting
    assert ended.value.reason is Reason.DRAINING


async def test_watch_ends_at_the_next_look_when_its_caller_is_known_no_longer() -> None:
    async def refuse() -> None:
        raise UnauthenticatedError

    wake_up = MemoryWakeUps().subscribe()
    with Watches().open(principal(TENANT), wake_up, advice="go on", readmit=refuse) as watch:
        wake_up.wake()
        with pytest.raises(UnauthenticatedError):
            await watch.changed()
