"""Registers an endpoint and lists what is registered: `python examples/clients/python/endpoints.py SLUG URL`.

The address is KONGFLOW_TARGET, or `127.0.0.1:50051`; the API key is KONGFLOW_TOKEN. A refusal is exit code 1.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from kongflow.v1.endpoint_pb2 import EndpointState
from kongflow.v1.endpoint_service_pb2 import CreateEndpointRequest, ListEndpointsRequest
from kongflow.v1.endpoint_service_pb2_grpc import EndpointServiceStub

# It lets gRPC repeat what is safe to repeat.
SERVICE_CONFIG = Path(__file__).parents[3] / "gen" / "kongflow" / "v1" / "service_config.json"


def main(slug: str, url: str) -> None:
    """Register the endpoint, then print every endpoint with its state and url."""
    metadata = (("authorization", f"Bearer {os.environ['KONGFLOW_TOKEN']}"),)
    target = os.environ.get("KONGFLOW_TARGET", "127.0.0.1:50051")
    options = [("grpc.service_config", SERVICE_CONFIG.read_text())]
    with grpc.insecure_channel(target, options=options) as channel:
        stub = EndpointServiceStub(channel)
        request = CreateEndpointRequest(slug=slug, url=url)
        made = stub.CreateEndpoint(request, metadata=metadata, timeout=40)
        print("created" if made.created else "updated", made.endpoint.slug)
        for one in stub.ListEndpoints(ListEndpointsRequest(), metadata=metadata, timeout=40).endpoints:
            print(one.slug, EndpointState.Name(one.state).removeprefix("ENDPOINT_STATE_"), one.url)


def explain(error: grpc.RpcError) -> str:
    """Return why a call was refused: the reason, which docs/errors.md explains, and the fields it is about.

    What never reached the server has no reason but gRPC's status.
    """
    reason, lines = error.code().name, []
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if detail.Unpack(info):
            reason = info.reason
        elif detail.Unpack(bad_request):
            lines = [f"  {violation.field}: {violation.description}" for violation in bad_request.field_violations]
    return "\n".join([f"refused: {reason}: {error.details()}", *lines])


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2])
    except grpc.RpcError as refusal:
        sys.exit(explain(refusal))
