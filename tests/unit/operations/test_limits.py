from __future__ import annotations

from contextlib import ExitStack
from datetime import timedelta
from uuid import UUID

import pytest

from services.endpoints.domain.errors import KongflowError, Reason
from services.endpoints.domain.tenancy import Principal, PrincipalKind
from services.endpoints.operations.limits import CallLimits, TenantLimits


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def member(organization: int, name: str = "token:1") -> Principal:
    return Principal(PrincipalKind.SERVICE, name, organization_id=UUID(int=organization))


OURS, THEIRS = member(1), member(2)
LIMITS = CallLimits(calls_per_second=10, burst=20, at_once=3)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limits(clock: Clock) -> TenantLimits:
    return TenantLimits(limits=LIMITS, monotonic=clock)


def call(limits: TenantLimits, principal: Principal, times: int = 1) -> None:
    for _ in range(times):
        with limits.calling(principal):
            pass


def refusal(limits: TenantLimits, principal: Principal) -> KongflowError:
    with pytest.raises(KongflowError) as refused:
        call(limits, principal)
    return refused.value


def test_a_burst_is_served_and_the_next_call_is_told_when_to_come_back(limits: TenantLimits) -> None:
    call(limits, OURS, 20)
    refused = refusal(limits, OURS)
    assert refused.reason is Reason.RATE_LIMITED
    assert refused.retry_after == timedelta(milliseconds=100)
    assert refused.metadata == {"limit": "10", "tenant": f"organization:{OURS.organization_id}"}


def test_who_comes_back_when_told_is_served(limits: TenantLimits, clock: Clock) -> None:
    call(limits, OURS, 20)
    after = refusal(limits, OURS).retry_after
    assert after is not None
    clock.seconds += after.total_seconds() + 1e-6
    call(limits, OURS)
    assert refusal(limits, OURS).reason is Reason.RATE_LIMITED


def test_an_allowance_comes_back_steadily_and_never_beyond_the_burst(limits: TenantLimits, clock: Clock) -> None:
    call(limits, OURS, 20)
    clock.seconds += 0.5
    call(limits, OURS, 5)
    refusal(limits, OURS)
    clock.seconds += 3600
    call(limits, OURS, 20)
    refusal(limits, OURS)


def test_refused_calls_use_up_nothing(limits: TenantLimits, clock: Clock) -> None:
    call(limits, OURS, 20)
    for _ in range(1000):
        refusal(limits, OURS)
    clock.seconds += 0.5
    call(limits, OURS, 5)


def test_calls_at_once_are_limited_and_one_that_ends_makes_room(limits: TenantLimits) -> None:
    with ExitStack() as others:
        for _ in range(2):
            others.enter_context(limits.calling(OURS))
        with limits.calling(OURS):
            refused = refusal(limits, OURS)
            assert (refused.reason, refused.metadata["limit"]) == (Reason.QUOTA_EXCEEDED, "3")
            assert refused.retry_after is not None
        call(limits, OURS)


def test_a_call_that_fails_is_open_no_longer(limits: TenantLimits) -> None:
    for _ in range(4):
        with pytest.raises(ZeroDivisionError), limits.calling(OURS):
            raise ZeroDivisionError


def test_one_tenant_takes_nothing_from_another(limits: TenantLimits) -> None:
    call(limits, OURS, 20)
    refusal(limits, OURS)
    call(limits, THEIRS, 20)


def test_all_credentials_of_an_organization_share_and_all_administrators_do(limits: TenantLimits) -> None:
    call(limits, OURS, 20)
    key = Principal(
        PrincipalKind.ENVIRONMENT, "environment:1", organization_id=OURS.organization_id, environment_id=UUID(int=7)
    )
    refusal(limits, key)
    call(limits, Principal(PrincipalKind.ADMIN, "admin"), 20)
    assert refusal(limits, Principal(PrincipalKind.ADMIN, "token:9")).metadata["tenant"] == "admin"


def test_tenants_whose_allowance_is_whole_again_are_forgotten(limits: TenantLimits, clock: Clock) -> None:
    with limits.calling(OURS):
        for number in range(10, 50_010):
            call(limits, member(number))
            clock.seconds += 0.001
        # Each is whole again a tenth of a second, and so a hundred tenants, after its call.
        assert limits.remembered < 1_100
        call(limits, OURS, 20)
        assert refusal(limits, OURS).reason is Reason.RATE_LIMITED
