"""How much one tenant may ask of one server: calls in a time, and calls at once."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from services.endpoints.domain.current_tenant import note_tenant
from services.endpoints.domain.errors import KongflowError, Reason
from services.endpoints.domain.tenancy import PrincipalKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

    from services.endpoints.domain.tenancy import Principal

_BUSY_RETRY_AFTER: Final = timedelta(seconds=1)
_FEWEST_TO_SWEEP: Final = 1024


@dataclass(frozen=True, slots=True)
class CallLimits:
    """What each tenant may ask of this server.

    `calls_per_second` come back steadily, at most `burst` of them unused; `at_once` may be open together, watches
    included.
    """

    calls_per_second: float = 2_000
    burst: int = 4_000
    at_once: int = 512


@dataclass(slots=True)
class _Tenant:
    """The calls that a tenant has left at a moment, and those that it has open."""

    left: float
    at: float
    open: int = 0


class TenantLimits:
    """Counts the calls of callers by tenant; `monotonic` is in seconds.

    A tenant is an organization; all administrators together are one. Only tenants with open calls or an allowance that
    is not whole again are remembered, so that the memory is bounded by what can happen while an allowance fills up.
    """

    def __init__(self, *, limits: CallLimits, monotonic: Callable[[], float]) -> None:
        """Begin with a whole allowance for everybody."""
        self._limits = limits
        self._monotonic = monotonic
        self._tenants: dict[str, _Tenant] = {}
        self._sweep_at = _FEWEST_TO_SWEEP

    @property
    def remembered(self) -> int:
        """Return how many tenants are remembered."""
        return len(self._tenants)

    @contextmanager
    def calling(self, principal: Principal) -> Iterator[None]:
        """Count a call of the principal's tenant, open for the time of the block.

        Raises:
            KongflowError: RATE_LIMITED, the tenant called too often; QUOTA_EXCEEDED, it has as many calls open as it
                may. Neither counts.
        """
        with self._calling(tenant_name(principal)):
            yield

    @contextmanager
    def calling_of(self, organization_id: UUID) -> Iterator[None]:
        """Count what comes without a principal as a call of an organization, as `calling` does.

        Raises:
            KongflowError: the same.
        """
        with self._calling(_organization_name(organization_id)):
            yield

    @contextmanager
    def _calling(self, name: str) -> Iterator[None]:
        tenant = self._refilled(name)
        if tenant.open >= self._limits.at_once:
            raise KongflowError(
                f"There are {self._limits.at_once} calls of this tenant open here already; wait for one of them.",
                reason=Reason.QUOTA_EXCEEDED,
                metadata={"limit": str(self._limits.at_once), "tenant": name},
                retry_after=_BUSY_RETRY_AFTER,
            )
        if tenant.left < 1:
            raise KongflowError(
                f"This tenant may make {self._limits.calls_per_second:g} calls in a second here and made more.",
                reason=Reason.RATE_LIMITED,
                metadata={"limit": f"{self._limits.calls_per_second:g}", "tenant": name},
                retry_after=timedelta(seconds=(1 - tenant.left) / self._limits.calls_per_second),
            )
        tenant.left -= 1
        tenant.open += 1
        note_tenant(name)
        try:
            yield
        finally:
            tenant.open -= 1

    def _refilled(self, name: str) -> _Tenant:
        """Return a tenant with what has come back to it since it was last looked at.

        At 10 a second with a burst of 20: whole at 20, after 20 calls at 0, half a second later at 5.
        """
        now = self._monotonic()
        tenant = self._tenants.get(name)
        if tenant is None:
            self._make_room(now)
            tenant = self._tenants[name] = _Tenant(self._limits.burst, now)
        tenant.left = self._left(tenant, now)
        tenant.at = now
        return tenant

    def _left(self, tenant: _Tenant, now: float) -> float:
        return min(self._limits.burst, tenant.left + (now - tenant.at) * self._limits.calls_per_second)

    def _make_room(self, now: float) -> None:
        """Forget who is as good as new, each time that there are twice as many as after the last time."""
        if len(self._tenants) < self._sweep_at:
            return
        self._tenants = {
            name: tenant
            for name, tenant in self._tenants.items()
            if tenant.open or self._left(tenant, now) < self._limits.burst
        }
        self._sweep_at = max(_FEWEST_TO_SWEEP, 2 * len(self._tenants))


def tenant_name(principal: Principal) -> str:
    """Return the name under which the principal's calls are counted: its organization, or its kind without one."""
    if principal.kind is PrincipalKind.ADMIN or principal.organization_id is None:
        return principal.kind.value.lower()
    return _organization_name(principal.organization_id)


def _organization_name(organization_id: UUID) -> str:
    return f"organization:{organization_id}"
