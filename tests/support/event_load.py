"""Keeps sending events through every fault, to jobs of which it is known who wants what."""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.duration_pb2 import Duration
from kongflow.v1 import endpoint_service_pb2, event_service_pb2

from tests.support.endpoint_farm import MARKER
from tests.support.passing import lasting

if TYPE_CHECKING:
    from tests.support.fault_stack import FaultStack
    from tests.support.pair import Tenant
    from tests.support.persistent_caller import PersistentCaller

NAME: Final = "order.created"
_UNFILTERED: Final = 3
_BATCH: Final = 10
_LONGEST_DELAY: Final = timedelta(seconds=3)


@dataclass(frozen=True, slots=True)
class Sent:
    """An event that was taken in, and how many jobs want it."""

    id: uuid.UUID
    event_id: str
    runs: int


class EventLoad:
    """In each of two tenants one endpoint that is left alone: three jobs want every event, one wants every other."""

    def __init__(self, stack: FaultStack, caller: PersistentCaller, *, seed: int) -> None:
        self._stack = stack
        self._caller = caller
        self._chance = random.Random(seed)  # noqa: S311 - a seed repeats it
        self._tenants: list[Tenant] = []
        self.sent: list[Sent] = []
        self.doubled_answers: list[str] = []

    async def open(self) -> None:
        """Register the endpoints."""
        for number in range(2):
            tenant = await self._stack.new_tenant()
            slug = f"listener-{number}"
            farm = self._stack.farm.add(slug, jobs=0, api_key=tenant.api_key, port=self._stack.to_endpoints.port)
            for job in range(_UNFILTERED):
                farm.listen(f"{slug}-all-{job}", NAME, {})
            farm.listen(f"{slug}-odd", NAME, {"parity": ["odd"]})
            farm.listen(f"{slug}-none", "order.cancelled", {})
            request = endpoint_service_pb2.CreateEndpointRequest(
                environment_id=tenant.environment_id, slug=slug, url=farm.url, request_id=str(uuid.uuid4())
            )
            await self._call(tenant, "endpoints", "CreateEndpoint", request)
            self._tenants.append(tenant)

    async def run(self, *, during: timedelta, events: int) -> None:
        """Send `events` events at random times, each until it is answered: some twice, some later, some together."""
        async with asyncio.TaskGroup() as group:
            for _ in range(events // 2 // _BATCH):
                group.create_task(self._send_together(self._moment(during)))
            for _ in range(events // 2):
                group.create_task(self._send_one(self._moment(during), twice=self._chance.random() < 0.3))

    async def _send_one(self, at: timedelta, *, twice: bool) -> None:
        tenant, event = self._chance.choice(self._tenants), self._new_event()
        await lasting(at)
        request = event_service_pb2.SendEventRequest(environment_id=tenant.environment_id, event=event)
        answers = [await self._call(tenant, "events", "SendEvent", request) for _ in range(1 + twice)]
        if len({answer.event.id for answer in answers}) > 1:
            self.doubled_answers.append(event.event_id)
        self._note(event, answers[0].event.id)

    async def _send_together(self, at: timedelta) -> None:
        tenant, events = self._chance.choice(self._tenants), [self._new_event() for _ in range(_BATCH)]
        await lasting(at)
        request = event_service_pb2.SendEventsRequest(environment_id=tenant.environment_id, events=events)
        answer = await self._call(tenant, "events", "SendEvents", request)
        for event, sent in zip(events, answer.events, strict=True):
            assert sent.event_id == event.event_id
            self._note(event, sent.id)

    def _new_event(self) -> event_service_pb2.NewEvent:
        parity = self._chance.choice(["odd", "even"])
        event = event_service_pb2.NewEvent(
            name=NAME, event_id=str(uuid.uuid4()), payload_json=json.dumps({"parity": parity, "word": MARKER})
        )
        if self._chance.random() < 0.3:
            delay = Duration()
            delay.FromTimedelta(self._chance.random() * _LONGEST_DELAY)
            event.deliver_delay.CopyFrom(delay)
        return event

    def _note(self, event: event_service_pb2.NewEvent, id_: str) -> None:
        is_odd = json.loads(event.payload_json)["parity"] == "odd"
        self.sent.append(Sent(uuid.UUID(id_), event.event_id, _UNFILTERED + is_odd))

    def _moment(self, during: timedelta) -> timedelta:
        return self._chance.random() * during

    async def _call(self, tenant: Tenant, service: str, method: str, request: Any) -> Any:
        return await self._caller.until_answered(
            tenant,
            lambda client, timeout: client.call(getattr(getattr(client, service), method), request, timeout=timeout),
        )
