from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from kongflow.v1 import (
    catalog_service_pb2,
    dispatcher_service_pb2,
    endpoint_service_pb2,
    event_service_pb2,
    queue_service_pb2,
    run_service_pb2,
    tenancy_service_pb2,
    worker_service_pb2,
)

from services.endpoints.domain.errors import PermissionDeniedError
from services.endpoints.domain.tenancy import Principal, PrincipalKind, Scope
from services.endpoints.rpc.access import ACCESS, Access, require_access

if TYPE_CHECKING:
    from google.protobuf.descriptor import FileDescriptor

CONTRACT: list[FileDescriptor] = [
    module.DESCRIPTOR
    for module in (
        catalog_service_pb2,
        dispatcher_service_pb2,
        endpoint_service_pb2,
        event_service_pb2,
        queue_service_pb2,
        run_service_pb2,
        tenancy_service_pb2,
        worker_service_pb2,
    )
]
ADMIN = Principal(PrincipalKind.ADMIN, "admin", scopes=frozenset(Scope))
WORKER = Principal(PrincipalKind.WORKER, "token:worker")
READER = Principal(PrincipalKind.SERVICE, "token:reader", scopes=frozenset({Scope.READ}))
WRITER = Principal(PrincipalKind.SERVICE, "token:writer", scopes=frozenset({Scope.WRITE}))
OPERATOR = Principal(PrincipalKind.SERVICE, "token:operator", scopes=frozenset({Scope.OPERATE}))
API_KEY = Principal(PrincipalKind.ENVIRONMENT, "environment:1", scopes=frozenset({Scope.READ, Scope.WRITE}))
NOBODY = Principal(PrincipalKind.SERVICE, "token:nothing")
ALL = [ADMIN, WORKER, READER, WRITER, OPERATOR, API_KEY, NOBODY]

ALLOWED = {
    Access.ANYONE: ALL,
    Access.ANY_CREDENTIAL: ALL,
    Access.READ: [ADMIN, READER, API_KEY],
    Access.WRITE: [ADMIN, WRITER, API_KEY],
    Access.OPERATE: [ADMIN, OPERATOR],
    Access.ADMIN: [ADMIN],
    Access.WORKER: [WORKER],
}


def test_every_method_of_the_contract_has_a_row_and_no_row_is_left_over() -> None:
    methods = {
        f"/{service.full_name}/{method.name}"
        for file in CONTRACT
        for service in file.services_by_name.values()
        for method in service.methods
    }
    assert {method for method in ACCESS if method.startswith("/kongflow.")} == methods


@pytest.mark.parametrize("access", Access)
@pytest.mark.parametrize("principal", ALL, ids=lambda principal: principal.name)
def test_access_is_given_to_these_and_to_nobody_else(access: Access, principal: Principal) -> None:
    if principal in ALLOWED[access]:
        require_access(principal, access)
    else:
        with pytest.raises(PermissionDeniedError, match=access.value):
            require_access(principal, access)


@pytest.mark.parametrize("principal", ALL, ids=lambda principal: principal.name)
def test_a_method_without_a_row_is_denied_to_everybody(principal: Principal) -> None:
    with pytest.raises(PermissionDeniedError):
        require_access(principal, None)
