"""A tenant that calls as fast as it can, in a process of its own so that it slows nobody down but the server.

Run `python -m tests.support.flood <target> <environment id> <callers>` with the tenant's token in `KONGFLOW_TOKEN`; it
ends when its standard input does and prints how many calls ended with which status, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from typing import Any

import grpc
from kongflow.v1 import endpoint_service_pb2, endpoint_service_pb2_grpc


async def flood(target: str, environment_id: str, *, callers: int, token: str) -> Counter[str]:
    """Call until standard input ends; returns how many calls ended with each status."""
    statuses: Counter[str] = Counter()
    is_over = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, is_over.set)
    metadata = (("authorization", f"Bearer {token}"),)
    request = endpoint_service_pb2.ListEndpointsRequest(environment_id=environment_id)
    async with grpc.aio.insecure_channel(target) as channel:
        stub: Any = endpoint_service_pb2_grpc.EndpointServiceStub(channel)

        async def call_until_over() -> None:
            while not is_over.is_set():
                try:
                    await stub.ListEndpoints(request, timeout=10, metadata=metadata)
                    statuses["OK"] += 1
                except grpc.aio.AioRpcError as error:
                    statuses[error.code().name] += 1

        await asyncio.gather(*(call_until_over() for _ in range(callers)))
    return statuses


if __name__ == "__main__":
    _, where, environment, number = sys.argv
    counted = asyncio.run(flood(where, environment, callers=int(number), token=os.environ["KONGFLOW_TOKEN"]))
    sys.stdout.write(json.dumps(counted))
