"""DispatcherService: validates, calls the operations, converts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kongflow.v1.dispatcher_service_pb2_grpc import DispatcherServiceServicer

if TYPE_CHECKING:
    from services.endpoints.operations.dispatchers import DispatcherOperations
    from services.endpoints.rpc.paging import Paging


class DispatcherServicer(DispatcherServiceServicer):
    """Serves dispatchers."""

    def __init__(self, *, operations: DispatcherOperations, paging: Paging) -> None:
        self._operations = operations
        self._paging = paging
