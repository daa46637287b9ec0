"""The pair while it waits for a thousand customers to answer."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import aiohttp
import grpc
from kongflow.v1 import endpoint_service_pb2, environment_pb2, tenancy_service_pb2
from kongflow.v1.endpoint_service_pb2_grpc import EndpointServiceStub
from kongflow.v1.tenancy_service_pb2_grpc import TenancyServiceStub

from benchmarks.sides.pair import Pair
from benchmarks.stack import running_customer
from services.embedded.process import EmbeddedServerError

if TYPE_CHECKING:
    from kongflow.v1.endpoint_service_pb2_grpc import EndpointServiceAsyncStub
    from kongflow.v1.tenancy_service_pb2_grpc import TenancyServiceAsyncStub

    from benchmarks.sides.place import Place
    from services.embedded.development import Development

_IN_FLIGHT: Final = "SELECT count(*) FROM queue_jobs WHERE queue = 'execution' AND state = 'RUNNING'"
_IN_FLIGHT_WITHIN: Final = timedelta(seconds=60)
_LOOK_AGAIN_AFTER: Final = timedelta(milliseconds=50)
_AT_ONCE: Final = 16
# Less than the most that one environment may hold.
_CALLS_OF_AN_ENVIRONMENT: Final = 20
_PATIENCE_SECONDS: Final = "120"


class BusyPair(Pair):
    """The pair with `calls` index requests in flight to a customer that holds its answers until the end."""

    def __init__(self, place: Place, *, calls: int) -> None:
        super().__init__(
            place,
            name=f"pair, {calls:,} calls in flight",
            redis_number=4,
            more_variables={
                "KONGFLOW_WORKER_QUEUES": f"default:10,execution:{max(100, calls)},events:10,maintenance:1",
                "KONGFLOW_WORKER_CALL_TIMEOUT_SECONDS": _PATIENCE_SECONDS,
                "KONGFLOW_ENDPOINT_TIMEOUT_SECONDS": _PATIENCE_SECONDS,
            },
        )
        self._calls = calls
        self._rounds = itertools.count(1)
        self._customer = AsyncExitStack()
        self._customer_url = ""

    async def start(self) -> None:
        """Start everything, and wait until every call is in flight."""
        await super().start()
        self._customer_url = await self._customer.enter_async_context(running_customer(self._place.directory))
        if self.development is None:
            raise EmbeddedServerError("The pair has no environment.")
        async with grpc.aio.insecure_channel(self.grpc_target) as channel:
            await self._hold_calls(channel, self.development)
        await self._all_in_flight()

    async def _hold_calls(self, channel: grpc.aio.Channel, development: Development) -> None:
        tenancy: TenancyServiceAsyncStub = TenancyServiceStub(channel)
        endpoints: EndpointServiceAsyncStub = EndpointServiceStub(channel)
        admin = (("authorization", f"Bearer {self.admin_token}"),)
        service = (("authorization", f"Bearer {development.service_token}"),)
        one_round = next(self._rounds)
        slots = asyncio.Semaphore(_AT_ONCE)

        async def hold(number: int, environment_id: str) -> None:
            slug = f"held-{one_round}-{number}"
            async with slots:
                stored = await endpoints.UpsertEndpoint(
                    endpoint_service_pb2.UpsertEndpointRequest(
                        environment_id=environment_id, slug=slug, url=f"{self._customer_url}/holds/1/{slug}"
                    ),
                    metadata=service,
                )
                await endpoints.IndexEndpoint(
                    endpoint_service_pb2.IndexEndpointRequest(endpoint_id=stored.endpoint.id, force=True),
                    metadata=service,
                )

        for first in range(0, self._calls, _CALLS_OF_AN_ENVIRONMENT):
            created = await tenancy.CreateEnvironment(
                tenancy_service_pb2.CreateEnvironmentRequest(
                    project_id=development.project_id,
                    slug=f"held-{one_round}-{first}",
                    type=environment_pb2.ENVIRONMENT_TYPE_DEVELOPMENT,
                ),
                metadata=admin,
            )
            numbers = range(first, min(first + _CALLS_OF_AN_ENVIRONMENT, self._calls))
            await asyncio.gather(*(hold(number, created.environment.id) for number in numbers))

    async def stop(self) -> None:
        """Let the customer answer, then end everything."""
        if self._customer_url:
            async with aiohttp.ClientSession() as session, session.post(f"{self._customer_url}/release") as response:
                response.raise_for_status()
            self._customer_url = ""
        await super().stop()
        await self._customer.aclose()

    async def forget(self) -> None:
        """Keep what is in flight."""

    async def _all_in_flight(self) -> None:
        connection = await self.connected()
        try:
            async with asyncio.timeout(_IN_FLIGHT_WITHIN.total_seconds()):
                while await connection.fetchval(_IN_FLIGHT) < self._calls:  # noqa: ASYNC110 - a server takes them up
                    await asyncio.sleep(_LOOK_AGAIN_AFTER.total_seconds())
        except TimeoutError as error:
            raise EmbeddedServerError(f"{self._calls} calls were never in flight at once.") from error
