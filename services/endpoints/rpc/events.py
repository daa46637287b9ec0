"""EventService: validates, calls the operations, converts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kongflow.v1.event_service_pb2_grpc import EventServiceServicer

if TYPE_CHECKING:
    from services.endpoints.operations.events import EventOperations
    from services.endpoints.operations.explanations import EventExplanations
    from services.endpoints.rpc.paging import Paging


class EventServicer(EventServiceServicer):
    """Serves events."""

    def __init__(self, *, operations: EventOperations, explanations: EventExplanations, paging: Paging) -> None:
        self._operations = operations
        self._explanations = explanations
        self._paging = paging
