from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from services.endpoints.domain.tenancy import Environment, EnvironmentType
from services.endpoints.store.known_environments import LIFETIME, MOST, KnownEnvironments

_NOW = datetime(2030, 1, 1, tzinfo=UTC)
_ENVIRONMENT = Environment(
    id=UUID(int=1),
    slug="production",
    type=EnvironmentType.PRODUCTION,
    organization_id=UUID(int=2),
    project_id=UUID(int=3),
    created_at=_NOW,
    updated_at=_NOW,
)


def test_environment_is_known_for_its_lifetime_and_no_longer() -> None:
    now = 100.0
    known = KnownEnvironments(monotonic=lambda: now)
    assert known.get(_ENVIRONMENT.id) is None
    known.put(_ENVIRONMENT)
    now += LIFETIME.total_seconds() - 0.001
    assert known.get(_ENVIRONMENT.id) == _ENVIRONMENT
    now += 0.002
    assert known.get(_ENVIRONMENT.id) is None


def test_as_many_are_known_as_fit_and_the_newest_always() -> None:
    known = KnownEnvironments(monotonic=lambda: 0.0)
    environments = [replace(_ENVIRONMENT, id=UUID(int=each)) for each in range(MOST + 1)]
    for environment in environments:
        known.put(environment)
    assert known.get(environments[-1].id) == environments[-1]
    assert sum(known.get(each.id) is not None for each in environments) <= MOST
