from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
from kongflow.v1 import worker_service_pb2_grpc

from services.endpoints.rpc.handlers import found_by_name

if TYPE_CHECKING:
    import grpc


class TakingServer:
    """A server that keeps what it is given, and cannot register methods."""

    def __init__(self) -> None:
        self.generic: list[grpc.GenericRpcHandler] = []

    def add_generic_rpc_handlers(self, handlers: tuple[grpc.GenericRpcHandler]) -> None:
        self.generic += handlers


@pytest.mark.parametrize(("method", "is_found"), [("RunQueueJobs", True), ("RunNothing", False)])
def test_generated_handlers_are_found_by_name_and_none_is_registered(method: str, is_found: bool) -> None:
    server = TakingServer()

    worker_service_pb2_grpc.add_WorkerServiceServicer_to_server(
        worker_service_pb2_grpc.WorkerServiceServicer(),  # type: ignore[abstract]
        found_by_name(cast("grpc.aio.Server", server)),
    )

    (handler,) = server.generic
    asked = cast("grpc.HandlerCallDetails", SimpleNamespace(method=f"/kongflow.v1.WorkerService/{method}"))
    assert (handler.service(asked) is not None) is is_found
