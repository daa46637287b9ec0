"""RunService: validates, calls the operations, converts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kongflow.v1.run_service_pb2_grpc import RunServiceServicer

if TYPE_CHECKING:
    from services.endpoints.operations.runs import RunOperations
    from services.endpoints.rpc.paging import Paging


class RunServicer(RunServiceServicer):
    """Serves runs."""

    def __init__(self, *, operations: RunOperations, paging: Paging) -> None:
        self._operations = operations
        self._paging = paging
