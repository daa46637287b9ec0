from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from services.endpoints.domain.errors import InvalidRequestError, KongflowError, NotFoundError, PermissionDeniedError
from services.endpoints.domain.tenancy import Environment, EnvironmentType, Principal, PrincipalKind, Scope
from services.endpoints.operations.authorization import (
    environment_or_own,
    may_see_hook_identifier,
    require_environment,
)

OURS, THEIRS = UUID(int=1), UUID(int=2)
DEVELOPMENT, PRODUCTION = UUID(int=11), UUID(int=12)
NOW = datetime(2026, 1, 1, tzinfo=UTC)

ADMIN = Principal(PrincipalKind.ADMIN, "admin", scopes=frozenset(Scope))
SERVICE = Principal(PrincipalKind.SERVICE, "token:1", organization_id=OURS, scopes=frozenset({Scope.READ}))
API_KEY = Principal(
    PrincipalKind.ENVIRONMENT,
    "environment:11",
    organization_id=OURS,
    environment_id=DEVELOPMENT,
    scopes=frozenset({Scope.READ, Scope.WRITE}),
)
WORKER = Principal(PrincipalKind.WORKER, "token:2")


def environment(environment_id: UUID, organization_id: UUID) -> Environment:
    return Environment(environment_id, "slug", EnvironmentType.DEVELOPMENT, organization_id, UUID(int=3), NOW, NOW)


@pytest.mark.parametrize(
    ("principal", "environment_id", "organization_id", "refusal"),
    [
        (ADMIN, DEVELOPMENT, THEIRS, None),
        (SERVICE, DEVELOPMENT, OURS, None),
        (SERVICE, PRODUCTION, OURS, None),
        (SERVICE, DEVELOPMENT, THEIRS, NotFoundError),
        (API_KEY, DEVELOPMENT, OURS, None),
        (API_KEY, PRODUCTION, OURS, PermissionDeniedError),
        (API_KEY, PRODUCTION, THEIRS, NotFoundError),
        (WORKER, DEVELOPMENT, OURS, NotFoundError),
    ],
)
def test_who_may_act_in_which_environment(
    principal: Principal, environment_id: UUID, organization_id: UUID, refusal: type[KongflowError] | None
) -> None:
    wanted = environment(environment_id, organization_id)
    if refusal is None:
        assert require_environment(principal, wanted, name=environment_id) is wanted
    else:
        with pytest.raises(refusal):
            require_environment(principal, wanted, name=environment_id)


def test_an_absent_environment_reads_as_another_tenants() -> None:
    with pytest.raises(NotFoundError) as absent:
        require_environment(SERVICE, None, name=DEVELOPMENT)
    with pytest.raises(NotFoundError) as foreign:
        require_environment(SERVICE, environment(DEVELOPMENT, THEIRS), name=DEVELOPMENT)
    assert absent.value.message == foreign.value.message
    assert absent.value.metadata == foreign.value.metadata


def test_only_an_api_key_has_an_environment_of_its_own() -> None:
    assert environment_or_own(API_KEY, None) == DEVELOPMENT
    assert environment_or_own(API_KEY, PRODUCTION) == PRODUCTION
    with pytest.raises(InvalidRequestError, match="environment_id"):
        environment_or_own(SERVICE, None)


def test_the_hook_identifier_is_for_those_who_may_write() -> None:
    assert [may_see_hook_identifier(principal) for principal in (ADMIN, API_KEY, SERVICE, WORKER)] == [
        True,
        True,
        False,
        False,
    ]
