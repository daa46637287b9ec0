"""Who may see what: ownership, decided from the principal and the resource alone.

Another tenant's resource reads as absent. Within one organization, an environment's API key is told that the resource
is not its own. Scopes are decided before, by method.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.endpoints.domain.errors import (
    FieldViolation,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
)
from services.endpoints.domain.tenancy import PrincipalKind, Scope

if TYPE_CHECKING:
    from uuid import UUID

    from services.endpoints.domain.ports.store import Transaction
    from services.endpoints.domain.tenancy import Environment, Principal


def require_environment(principal: Principal, environment: Environment | None, *, name: UUID) -> Environment:
    """Return `environment`, looked up as `name`, when the principal may act in it.

    Raises:
        NotFoundError: it is absent or of another organization.
        KongflowError: PERMISSION_DENIED, it is another environment of the principal's own organization.
    """
    if environment is None:
        raise NotFoundError("environment", str(name))
    require_owner(
        principal,
        organization_id=environment.organization_id,
        environment_id=environment.id,
        resource="environment",
        name=str(name),
    )
    return environment


def require_owner(
    principal: Principal, *, organization_id: UUID, environment_id: UUID, resource: str, name: str
) -> None:
    """Check that the principal may act on a resource of this organization and environment.

    `resource` and `name` are those that an absent resource is reported with.

    Raises:
        NotFoundError: it belongs to another organization.
        KongflowError: PERMISSION_DENIED, it belongs to another environment of the principal's own organization.
    """
    if principal.kind is PrincipalKind.ADMIN:
        return
    if principal.kind is PrincipalKind.WORKER or principal.organization_id != organization_id:
        raise NotFoundError(resource, name)
    if principal.kind is PrincipalKind.ENVIRONMENT and principal.environment_id != environment_id:
        raise PermissionDeniedError(f"This API key is of another environment than the {resource}.")


def environment_or_own(principal: Principal, environment_id: UUID | None) -> UUID:
    """Return the environment that a request names, or the principal's own when it names none.

    Whether the principal may act in a named one is decided where it is read.

    Raises:
        InvalidRequestError: none is named and the principal, which is no API key, has none of its own.
    """
    if environment_id is not None:
        return environment_id
    if principal.environment_id is None:
        raise InvalidRequestError([FieldViolation("environment_id", "must be given; only an API key has its own")])
    return principal.environment_id


async def acting_environment(tx: Transaction, principal: Principal, environment_id: UUID | None) -> Environment:
    """Return the environment that a request names, or the principal's own, when the principal may act in it.

    Raises:
        InvalidRequestError, NotFoundError, PermissionDeniedError: as `environment_or_own` and `require_environment`.
    """
    wanted = environment_or_own(principal, environment_id)
    return require_environment(principal, await tx.tenancy.known_environment(wanted), name=wanted)


def may_see_hook_identifier(principal: Principal) -> bool:
    """Tell whether the principal may see an endpoint's hook identifier, which is a credential."""
    return principal.kind is PrincipalKind.ADMIN or Scope.WRITE in principal.scopes
