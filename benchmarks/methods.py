"""Every unary method of the contract, by name, callable with any request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from google.protobuf.message_factory import GetMessageClass
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

if TYPE_CHECKING:
    from collections.abc import Mapping

    import grpc
    from google.protobuf.descriptor import MethodDescriptor
    from google.protobuf.message import Message

_FILES: Final = (
    tenancy_service_pb2.DESCRIPTOR,
    endpoint_service_pb2.DESCRIPTOR,
    catalog_service_pb2.DESCRIPTOR,
    event_service_pb2.DESCRIPTOR,
    dispatcher_service_pb2.DESCRIPTOR,
    run_service_pb2.DESCRIPTOR,
    queue_service_pb2.DESCRIPTOR,
    worker_service_pb2.DESCRIPTOR,
)


@dataclass(frozen=True, slots=True)
class UnaryMethod:
    """One unary method."""

    descriptor: MethodDescriptor

    @property
    def name(self) -> str:
        """Return the method's name without its service's."""
        return self.descriptor.name

    @property
    def service(self) -> str:
        """Return its service's name without the package."""
        return str(self.descriptor.containing_service.name)

    def on(self, channel: grpc.aio.Channel) -> grpc.aio.UnaryUnaryMultiCallable[Message, Message]:
        """Return what calls the method on a channel."""
        path = f"/{self.descriptor.containing_service.full_name}/{self.name}"
        response = GetMessageClass(self.descriptor.output_type)
        return channel.unary_unary(
            path,
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=response.FromString,
        )


def unary_methods() -> Mapping[str, UnaryMethod]:
    """Return every unary method of the contract by its name, in the order of the protos."""
    return {
        descriptor.name: UnaryMethod(descriptor)
        for file in _FILES
        for service in file.services_by_name.values()
        for descriptor in service.methods
        if not descriptor.server_streaming
    }
