"""DispatcherService: validates, calls the operations, converts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from kongflow.v1 import dispatcher_service_pb2 as messages
from kongflow.v1.dispatcher_service_pb2_grpc import DispatcherServiceServicer

from services.endpoints.operations.dispatchers import CreateDispatcher, DispatcherWish
from services.endpoints.rpc import enums
from services.endpoints.rpc.auth import current_principal
from services.endpoints.rpc.convert_dispatchers import dispatcher_message, read_changes, read_dispatcher
from services.endpoints.rpc.validate import Checks

if TYPE_CHECKING:
    import grpc

    from services.endpoints.operations.dispatchers import DispatcherOperations
    from services.endpoints.rpc.paging import Paging

    Context = grpc.aio.ServicerContext[Any, Any]

_ORIGINS: Final = enums.members(enums.DISPATCHER_ORIGIN)


class DispatcherServicer(DispatcherServiceServicer):
    """Serves dispatchers."""

    def __init__(self, *, operations: DispatcherOperations, paging: Paging) -> None:
        self._operations = operations
        self._paging = paging

    async def CreateDispatcher(
        self, request: messages.CreateDispatcherRequest, context: Context
    ) -> messages.CreateDispatcherResponse:
        """Write a dispatcher."""
        checks = Checks()
        environment_id = checks.optional_uuid("environment_id", request.environment_id)
        request_id = checks.request_id("request_id", request.request_id)
        if not request.HasField("dispatcher"):
            checks.refuse("dispatcher", "must be given")
            checks.finish()
        wanted = CreateDispatcher(environment_id, read_dispatcher(checks, request.dispatcher), request_id)
        checks.finish()
        dispatcher = await self._operations.create(current_principal(), wanted)
        return messages.CreateDispatcherResponse(dispatcher=dispatcher_message(dispatcher))

    async def GetDispatcher(
        self, request: messages.GetDispatcherRequest, context: Context
    ) -> messages.GetDispatcherResponse:
        """Return one dispatcher."""
        checks = Checks()
        dispatcher_id = checks.uuid("dispatcher_id", request.dispatcher_id)
        checks.finish()
        dispatcher = await self._operations.get(current_principal(), dispatcher_id)
        return messages.GetDispatcherResponse(dispatcher=dispatcher_message(dispatcher))

    async def ListDispatchers(
        self, request: messages.ListDispatchersRequest, context: Context
    ) -> messages.ListDispatchersResponse:
        """List dispatchers."""
        principal, checks = current_principal(), Checks()
        wish = DispatcherWish(
            environment_id=checks.optional_uuid("environment_id", request.environment_id),
            event_name=checks.filter_text("event_name", request.event_name),
            source=checks.filter_text("source", request.source),
            origin=checks.enum("origin", request.origin, _ORIGINS),
        )
        asked = self._paging.request(checks, principal, request)
        checks.finish()
        page = await self._operations.list_dispatchers(principal, wish, asked)
        return messages.ListDispatchersResponse(
            dispatchers=map(dispatcher_message, page.items),
            next_page_token=self._paging.next_token(principal, request, page),
        )

    async def UpdateDispatcher(
        self, request: messages.UpdateDispatcherRequest, context: Context
    ) -> messages.UpdateDispatcherResponse:
        """Change a dispatcher."""
        checks = Checks()
        dispatcher_id = checks.uuid("dispatcher.id", request.dispatcher.id)
        changes = read_changes(checks, request.dispatcher, request.update_mask.paths)
        checks.finish()
        dispatcher = await self._operations.update(current_principal(), dispatcher_id, changes)
        return messages.UpdateDispatcherResponse(dispatcher=dispatcher_message(dispatcher))

    async def DeleteDispatcher(
        self, request: messages.DeleteDispatcherRequest, context: Context
    ) -> messages.DeleteDispatcherResponse:
        """Delete a dispatcher."""
        checks = Checks()
        dispatcher_id = checks.uuid("dispatcher_id", request.dispatcher_id)
        checks.finish()
        await self._operations.delete(current_principal(), dispatcher_id, allow_missing=request.allow_missing)
        return messages.DeleteDispatcherResponse()
