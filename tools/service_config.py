"""Renders what gRPC clients do by themselves: which methods they repeat, and how they share calls among servers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from google.protobuf.descriptor_pb2 import MethodOptions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.descriptor_pb2 import FileDescriptorProto

# Five attempts are the most that gRPC makes: 0.2, 0.4, 0.8 and 1.6 s apart, less up to a fifth.
_RETRY: Final = {
    "maxAttempts": 5,
    "initialBackoff": "0.2s",
    "maxBackoff": "2s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
_REPEATABLE: Final = (MethodOptions.NO_SIDE_EFFECTS, MethodOptions.IDEMPOTENT)


def render_service_config(files: Iterable[FileDescriptorProto]) -> str:
    """Return the service config: idempotent unary methods are repeated when a server was away or stopped.

    Watches are left out: they go on from their resume token. So is the call back, which the ledger repeats.
    Source: gRFC A6 and A17.
    """
    names = [
        {"service": f"{file.package}.{service.name}", "method": method.name}
        for file in files
        for service in file.service
        for method in service.method
        if method.options.idempotency_level in _REPEATABLE
        and not method.server_streaming
        and service.name != "WorkerService"
    ]
    config = {
        "loadBalancingConfig": [{"round_robin": {}}],
        # A server that stops says so by health first: clients are gone before it closes.
        "healthCheckConfig": {"serviceName": ""},
        "methodConfig": [{"name": names, "retryPolicy": _RETRY}],
    }
    return json.dumps(config, indent=2) + "\n"
