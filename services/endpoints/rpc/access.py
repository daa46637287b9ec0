"""Which method needs what of its caller: one table, and everything that is not in it is denied."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from services.endpoints.domain.errors import PermissionDeniedError
from services.endpoints.domain.tenancy import PrincipalKind, Scope

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.endpoints.domain.tenancy import Principal


class Access(Enum):
    """What a method needs."""

    ANYONE = "no credential"
    ANY_CREDENTIAL = "any valid credential"
    READ = "the scope read"
    WRITE = "the scope write"
    OPERATE = "the scope operate"
    ADMIN = "an admin token"
    WORKER = "a worker token"


_SCOPES: Final = {Access.READ: Scope.READ, Access.WRITE: Scope.WRITE, Access.OPERATE: Scope.OPERATE}

_TENANCY: Final = "/kongflow.v1.TenancyService/"
_ENDPOINTS: Final = "/kongflow.v1.EndpointService/"
_CATALOG: Final = "/kongflow.v1.CatalogService/"
_EVENTS: Final = "/kongflow.v1.EventService/"
_DISPATCHERS: Final = "/kongflow.v1.DispatcherService/"
_RUNS: Final = "/kongflow.v1.RunService/"
_QUEUE: Final = "/kongflow.v1.QueueService/"
_WORKER: Final = "/kongflow.v1.WorkerService/"
_HEALTH: Final = "/grpc.health.v1.Health/"

ACCESS: Final[Mapping[str, Access]] = {
    f"{_TENANCY}CreateOrganization": Access.ADMIN,
    f"{_TENANCY}CreateProject": Access.ADMIN,
    f"{_TENANCY}CreateEnvironment": Access.ADMIN,
    f"{_TENANCY}GetEnvironment": Access.READ,
    f"{_TENANCY}ListEnvironments": Access.READ,
    f"{_TENANCY}RotateApiKey": Access.ADMIN,
    f"{_TENANCY}RotateSigningSecret": Access.ADMIN,
    f"{_TENANCY}CreateToken": Access.ADMIN,
    f"{_TENANCY}ListTokens": Access.ADMIN,
    f"{_TENANCY}RotateToken": Access.ADMIN,
    f"{_TENANCY}RevokeToken": Access.ADMIN,
    f"{_ENDPOINTS}CreateEndpoint": Access.WRITE,
    f"{_ENDPOINTS}UpsertEndpoint": Access.WRITE,
    f"{_ENDPOINTS}GetEndpoint": Access.READ,
    f"{_ENDPOINTS}ListEndpoints": Access.READ,
    f"{_ENDPOINTS}UpdateEndpoint": Access.WRITE,
    f"{_ENDPOINTS}DeleteEndpoint": Access.WRITE,
    f"{_ENDPOINTS}PingEndpoint": Access.WRITE,
    f"{_ENDPOINTS}ResumeEndpoint": Access.OPERATE,
    f"{_ENDPOINTS}IndexEndpoint": Access.WRITE,
    f"{_ENDPOINTS}GetEndpointIndex": Access.READ,
    f"{_ENDPOINTS}ListEndpointIndexes": Access.READ,
    f"{_ENDPOINTS}ListEndpointIndexItems": Access.READ,
    f"{_ENDPOINTS}WatchEndpointIndex": Access.READ,
    f"{_CATALOG}ListJobs": Access.READ,
    f"{_CATALOG}GetJob": Access.READ,
    f"{_CATALOG}ListSources": Access.READ,
    f"{_CATALOG}ListDynamicTriggers": Access.READ,
    f"{_CATALOG}ListSchedules": Access.READ,
    f"{_EVENTS}SendEvent": Access.WRITE,
    f"{_EVENTS}SendEvents": Access.WRITE,
    f"{_EVENTS}GetEvent": Access.READ,
    f"{_EVENTS}ListEvents": Access.READ,
    f"{_EVENTS}CancelEvent": Access.WRITE,
    f"{_EVENTS}ReplayEvents": Access.WRITE,
    f"{_EVENTS}ExplainEvent": Access.READ,
    f"{_DISPATCHERS}CreateDispatcher": Access.WRITE,
    f"{_DISPATCHERS}GetDispatcher": Access.READ,
    f"{_DISPATCHERS}ListDispatchers": Access.READ,
    f"{_DISPATCHERS}UpdateDispatcher": Access.WRITE,
    f"{_DISPATCHERS}DeleteDispatcher": Access.WRITE,
    f"{_RUNS}GetRun": Access.READ,
    f"{_RUNS}ListRuns": Access.READ,
    f"{_QUEUE}ListQueueJobs": Access.READ,
    f"{_QUEUE}GetQueueJob": Access.READ,
    f"{_QUEUE}RetryQueueJob": Access.OPERATE,
    f"{_QUEUE}RetryQueueJobs": Access.OPERATE,
    f"{_QUEUE}CancelQueueJob": Access.OPERATE,
    f"{_QUEUE}PauseQueue": Access.OPERATE,
    f"{_QUEUE}ResumeQueue": Access.OPERATE,
    f"{_QUEUE}GetQueueStats": Access.READ,
    f"{_QUEUE}WatchQueueStats": Access.READ,
    f"{_WORKER}RunQueueJobs": Access.WORKER,
    f"{_HEALTH}Check": Access.ANYONE,
    f"{_HEALTH}List": Access.ANYONE,
    f"{_HEALTH}Watch": Access.ANYONE,
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": Access.ANY_CREDENTIAL,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Access.ANY_CREDENTIAL,
}


def require_access(principal: Principal, access: Access | None) -> None:
    """Check that the principal may call a method that needs `access`; None is a method without a row.

    A worker token opens WorkerService and nothing else; an admin token everything else.

    Raises:
        PermissionDeniedError: it may not.
    """
    if access is None:
        raise PermissionDeniedError("Nobody may call this method.")
    if not _is_allowed(principal, access):
        raise PermissionDeniedError(f"This call needs {access.value}.")


def _is_allowed(principal: Principal, access: Access) -> bool:
    if access in {Access.ANYONE, Access.ANY_CREDENTIAL}:
        return True
    if access is Access.WORKER or principal.kind is PrincipalKind.WORKER:
        return access is Access.WORKER and principal.kind is PrincipalKind.WORKER
    if access is Access.ADMIN or principal.kind is PrincipalKind.ADMIN:
        return principal.kind is PrincipalKind.ADMIN
    return _SCOPES[access] in principal.scopes
