"""Keeps asking for indexes through every fault, and remembers what was answered."""

from __future__ import annotations

import asyncio
import random
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from kongflow.v1 import endpoint_service_pb2

from tests.support.passing import lasting

if TYPE_CHECKING:
    from tests.support.endpoint_farm import FarmEndpoint
    from tests.support.fault_stack import FaultStack
    from tests.support.pair import Tenant
    from tests.support.persistent_caller import PersistentCaller


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for an index that was answered."""

    endpoint_id: str
    index_id: str
    queue_job_id: str


@dataclass
class LoadedEndpoint:
    """An endpoint under load."""

    id: str
    tenant: Tenant
    farm: FarmEndpoint
    is_deleted: bool = False


class IndexLoad:
    """Some large and some small endpoints of two tenants."""

    def __init__(
        self, stack: FaultStack, caller: PersistentCaller, *, large: int, jobs: int, small: int, seed: int
    ) -> None:
        self._stack = stack
        self.caller = caller
        self._sizes = [jobs] * large + [2] * small
        self._chance = random.Random(seed)  # noqa: S311 - a seed repeats it
        self.endpoints: list[LoadedEndpoint] = []
        self.deleted: list[LoadedEndpoint] = []
        self.asked: list[Asked] = []
        self.doubled_answers: list[str] = []
        self._names = 0
        self.tenants: list[Tenant] = []

    async def open(self) -> None:
        """Register all endpoints."""
        self.tenants = [await self._stack.new_tenant() for _ in range(2)]
        self.endpoints = [await self._new(number) for number in range(len(self._sizes))]

    async def run(self, *, during: timedelta, requests_per_endpoint: int) -> None:
        """Ask for indexes of every endpoint at random times, each until it is answered."""
        async with asyncio.TaskGroup() as group:
            for number in range(len(self.endpoints)):
                for _ in range(requests_per_endpoint):
                    at = timedelta(seconds=self._chance.uniform(0, during.total_seconds()))
                    group.create_task(self._ask_later(number, at, twice=self._chance.random() < 0.2))

    async def delete_and_replace(self, target: int) -> None:
        """Delete an endpoint, whatever it is doing, and register another in its place."""
        number = target % len(self.endpoints)
        endpoint = self.endpoints[number]
        if endpoint.is_deleted:
            return
        endpoint.is_deleted = True
        request = endpoint_service_pb2.DeleteEndpointRequest(endpoint_id=endpoint.id)
        await self.caller.until_answered(
            endpoint.tenant,
            lambda client, timeout: client.call(client.endpoints.DeleteEndpoint, request, timeout=timeout),
            gone_is_well=True,
        )
        self.deleted.append(endpoint)
        self.endpoints[number] = await self._new(number)

    async def _new(self, number: int) -> LoadedEndpoint:
        tenant = self.tenants[number % 2]
        self._names += 1
        slug = f"endpoint-{self._names}"
        farm = self._stack.farm.add(
            slug, jobs=self._sizes[number], api_key=tenant.api_key, port=self._stack.to_endpoints.port
        )
        request = endpoint_service_pb2.CreateEndpointRequest(
            environment_id=tenant.environment_id, slug=slug, url=farm.url, request_id=str(uuid.uuid4())
        )
        created = await self.caller.until_answered(
            tenant, lambda client, timeout: client.call(client.endpoints.CreateEndpoint, request, timeout=timeout)
        )
        return LoadedEndpoint(created.endpoint.id, tenant, farm)

    async def _ask_later(self, number: int, at: timedelta, *, twice: bool) -> None:
        await lasting(at)
        endpoint = self.endpoints[number]
        request = endpoint_service_pb2.IndexEndpointRequest(endpoint_id=endpoint.id, request_id=str(uuid.uuid4()))
        answers = [await self._ask(endpoint, request) for _ in range(1 + twice)]
        known = [answer for answer in answers if answer is not None]
        for answer in known:
            self.asked.append(Asked(endpoint.id, answer.index.id, answer.queue_job_id))
        if len({answer.queue_job_id for answer in known}) > 1:
            self.doubled_answers.append(str(request))

    async def _ask(self, endpoint: LoadedEndpoint, request: Any) -> Any:
        return await self.caller.until_answered(
            endpoint.tenant,
            lambda client, timeout: client.call(client.endpoints.IndexEndpoint, request, timeout=timeout),
            gone_is_well=True,
        )
