"""Sends one event and reads it again: `python examples/clients/python/send_event.py NAME PAYLOAD_JSON`.

The address is KONGFLOW_TARGET, or `127.0.0.1:50051`; the API key or token is KONGFLOW_TOKEN.
"""

from __future__ import annotations

import os
import sys

import grpc
from kongflow.v1.event_service_pb2 import GetEventRequest, NewEvent, SendEventRequest
from kongflow.v1.event_service_pb2_grpc import EventServiceStub


def main(name: str, payload_json: str) -> None:
    """Send the event; print its id and its payload as it was stored."""
    metadata = (("authorization", f"Bearer {os.environ['KONGFLOW_TOKEN']}"),)
    with grpc.insecure_channel(os.environ.get("KONGFLOW_TARGET", "127.0.0.1:50051")) as channel:
        events = EventServiceStub(channel)
        request = SendEventRequest(event=NewEvent(name=name, payload_json=payload_json))
        sent = events.SendEvent(request, metadata=metadata, timeout=10)
        stored = events.GetEvent(GetEventRequest(id=sent.event.id), metadata=metadata, timeout=10)
        print(stored.event.id, stored.event.payload_json)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
