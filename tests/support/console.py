"""Somebody who looks at the console without a browser, and a pair with something to look at."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from dataclasses import dataclass
from html import unescape
from typing import TYPE_CHECKING, Any

import aiohttp
from kongflow.v1 import event_pb2, event_service_pb2, queue_service_pb2

from tests.support.eventually import eventually
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.offers import answer, dynamic, interval_trigger, job, source, static_trigger
from tests.support.pair import state_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.fake_endpoint import Behaviour
    from tests.support.pair import Client, Pair, Tenant

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7*7 }}"

FORMS = (
    "/sign-in",
    "/sign-out",
    "/endpoints/{id}/resume",
    "/queue-jobs/{id}/retry",
    "/queue-jobs/{id}/cancel",
    "/dead-letters/retry",
    "/queues/pause",
    "/queues/resume",
)
"""Where the console takes forms, below its root."""


@dataclass(slots=True)
class Page:
    """What a page answered; redirects are not followed."""

    status: int
    text: str
    headers: Any

    @property
    def words(self) -> str:
        """Return what a reader sees: no tags, single spaces."""
        body = re.sub(r"<head>.*?</head>", " ", self.text, flags=re.DOTALL)
        return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())

    @property
    def links(self) -> list[str]:
        return [unescape(link) for link in re.findall(r'href="([^"]*)"', self.text)]

    @property
    def csrf(self) -> str:
        found = re.search(r'name="csrf" value="([^"]*)"', self.text)
        assert found is not None, "the page has no form"
        return unescape(found.group(1))


class Visitor:
    """Looks at the console as a browser without JavaScript does."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session

    async def get(self, path: str, **options: Any) -> Page:
        async with self.session.get(path, allow_redirects=False, **options) as response:
            return Page(response.status, await response.text(), response.headers)

    async def post(self, path: str, form: dict[str, str], **options: Any) -> Page:
        async with self.session.post(path, data=form, allow_redirects=False, **options) as response:
            return Page(response.status, await response.text(), response.headers)

    async def sign_in(self, credential: str, **options: Any) -> Page:
        form = await self.get("/console/sign-in")
        return await self.post("/console/sign-in", {"csrf": form.csrf, "credential": credential}, **options)


@asynccontextmanager
async def visitor(http_url: str, credential: str | None = None) -> AsyncIterator[Visitor]:
    """Open the console, signed in when there is a credential."""
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(http_url, cookie_jar=jar) as session:
        somebody = Visitor(session)
        if credential is not None:
            assert (await somebody.sign_in(credential)).status == 303
        yield somebody


@dataclass(slots=True)
class Exhibition:
    """A tenant with an endpoint that was indexed, and an event that ran a job."""

    pair: Pair
    tenant: Tenant
    client: Client
    endpoint: FakeEndpoint
    endpoint_id: str
    index_id: str
    event_record_id: str

    @property
    def root(self) -> str:
        """Return the address of the environment."""
        return f"/console/environments/{self.tenant.environment_id}"

    async def dead_letter(self, behaviour: Behaviour) -> str:
        """Index the endpoint while it misbehaves, so that the queue job is discarded; return its id."""
        self.endpoint.behaviour = behaviour
        requested = await self.client.index(self.endpoint_id, force=True)
        request = queue_service_pb2.GetQueueJobRequest(queue_job_id=requested.queue_job_id)

        async def is_dead() -> bool:
            return state_name((await self.client.call(self.client.queue.GetQueueJob, request)).queue_job) == "DISCARDED"

        await eventually(is_dead)
        self.endpoint.behaviour = None
        return str(requested.queue_job_id)


@asynccontextmanager
async def exhibition(pair: Pair, *, text: str = "Welcome mail") -> AsyncIterator[Exhibition]:
    """Index an endpoint and send an event; `text` stands wherever a customer may write what they want."""
    tenant = await pair.new_tenant()
    client = pair.client(tenant.service_token)
    index = answer(
        jobs=[
            job("welcome", name=text),
            job("invoice", name="Invoice", trigger=static_trigger(payload={"plan": [text]})),
            job("hourly", trigger=interval_trigger(3600)),
            job("refused", trigger={"type": text}),
        ],
        sources=[source("acme.room-http")],
        dynamicTriggers=[dynamic("on-demand", jobs=[("welcome", "1.0.0")])],
    )
    async with FakeEndpoint(api_key=tenant.api_key, index=index) as endpoint:
        created = (await client.create_endpoint(tenant, endpoint.url)).endpoint
        (found,) = await client.indexes(created.id)
        await client.watch(found.id)
        request = event_service_pb2.SendEventRequest(
            environment_id=tenant.environment_id,
            event=event_service_pb2.NewEvent(name="user.created", payload_json='{"plan": "free"}', event_id=text),
        )
        sent = (await client.call(client.events.SendEvent, request)).event

        async def has_run() -> bool:
            event = await client.call(client.events.GetEvent, event_service_pb2.GetEventRequest(id=sent.id))
            return bool(event.event.state == event_pb2.EVENT_STATE_DELIVERED)

        await eventually(has_run)
        yield Exhibition(pair, tenant, client, endpoint, created.id, found.id, sent.id)
