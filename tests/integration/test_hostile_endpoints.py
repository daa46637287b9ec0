"""Endpoints that misbehave: a stored reason, bounded time and memory, and neighbours that notice nothing."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import grpc
import pytest
from kongflow.v1 import endpoint_service_pb2

from services.endpoints.domain.endpoint_calls import INVALID_API_KEY_TEXT, UNPARSABLE_TEXT
from tests.support import fake_endpoint as fake
from tests.support.eventually import eventually
from tests.support.fake_endpoint import FakeEndpoint, event_job, index_of, on
from tests.support.pair import running_pair, state_name
from tests.support.processes import running_processes
from tests.support.rpc import refusal_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import asyncpg

    from tests.support.pair import Client, Pair, Tenant

BAD_KEY: Final = "Forbidden: client apiKey mismatch: Make sure you are using the correct API Key for your environment"
NO_ANSWER: Final = "Could not connect to endpoint {url}"
BOUNDED: Final = timedelta(seconds=20)
BOUNDED_BY_SIZE: Final = timedelta(seconds=30)
MEBIBYTE: Final = 1024 * 1024


@pytest.fixture
async def impatient(database_url: str, redis_url: str) -> AsyncIterator[Pair]:
    """Both services, which wait four seconds for an endpoint."""
    async with running_pair(
        database_url=database_url, redis_url=redis_url, endpoint_timeout_seconds=4, ping_total_seconds=6
    ) as pair:
        yield pair


@pytest.fixture
async def patient(database_url: str, redis_url: str) -> AsyncIterator[Pair]:
    """Both services, which wait so long for an endpoint that on a busy machine, too, an answer's size decides."""
    async with running_pair(database_url=database_url, redis_url=redis_url, endpoint_timeout_seconds=20) as pair:
        yield pair


async def only_queue_job(client: Client) -> Any:
    (queue_job,) = await client.queue_jobs(kind="indexEndpoint")
    return queue_job


def redirect_to_itself(number: int) -> fake.Behaviour:
    return fake.redirect("/api/trigger", number=number)


FAILED_FOR_GOOD: Final = {
    "refuses the key": (fake.refuse_key, BAD_KEY),
    "401": (fake.status(401), INVALID_API_KEY_TEXT),
    "404": (fake.status(404), NO_ANSWER + ". Status code: 404"),
    "redirect": (redirect_to_itself(302), NO_ANSWER + ". Status code: 302"),
    "permanent redirect": (redirect_to_itself(308), NO_ANSWER + ". Status code: 308"),
    "1-GB body": (fake.huge_body(), NO_ANSWER + " (answer larger than 8 MiB)"),
    "gzip bomb": (fake.gzip_bomb(), NO_ANSWER + " (answer larger than 8 MiB)"),
    "too many items": (
        fake.json_body(index_of(20_001)),
        "The endpoint offers 20,001 items; at most 20,000 are accepted.",
    ),
    "small as bytes and large as values": (
        fake.raw_body(b'{"jobs":[' + b"{}," * 1_000_000 + b"{}]}"),
        NO_ANSWER + " (answer with more than 1,048,576 values)",
    ),
    "no lists": (fake.json_body({"jobs": 7}), "There's an issue with the format of your Jobs: "),
    "no object": (
        fake.json_body(["jobs"]),
        "There's an issue with the format of your Jobs: Expected object, received array",
    ),
}

MAY_PASS: Final = {
    "500": (fake.status(500), NO_ANSWER + ". Status code: 500"),
    "HTML": (fake.html(), UNPARSABLE_TEXT),
    "hangs": (fake.hang, NO_ANSWER + " (timed out after 4 s)"),
    "drips": (fake.drip(pause=timedelta(milliseconds=100)), NO_ANSWER + " (timed out after 4 s)"),
    "endless headers": (fake.endless_headers, NO_ANSWER + " (not valid HTTP, or more than 128 header lines"),
    "not HTTP": (fake.not_http, NO_ANSWER + " (not valid HTTP"),
    "hangs up": (fake.hang_up, NO_ANSWER + " (the connection was closed before the answer)"),
    "breaks off": (fake.break_off, NO_ANSWER + " (the answer broke off"),
}


@pytest.mark.parametrize(("behaviour", "text"), FAILED_FOR_GOOD.values(), ids=FAILED_FOR_GOOD)
async def test_answer_that_would_come_again_fails_the_index_at_once(
    patient: Pair, behaviour: fake.Behaviour, text: str
) -> None:
    tenant = await patient.new_tenant(environment_type="PRODUCTION")
    client = patient.client(tenant.api_key)
    async with FakeEndpoint(api_key=tenant.api_key, behaviour=on("INDEX_ENDPOINT", behaviour)) as endpoint:
        created = await client.create_endpoint(tenant, endpoint.url)
        async with asyncio.timeout(BOUNDED_BY_SIZE.total_seconds()):
            final = (await client.watch(created.index_id))[-1]

    assert state_name(final) == "FAILED"
    assert final.error.startswith(text.format(url=endpoint.url))
    assert tenant.api_key not in final.error
    queue_job = await only_queue_job(client)
    assert (state_name(queue_job), queue_job.attempt, queue_job.max_attempts) == ("DISCARDED", 1, 5)
    assert [(error.reason, error.message) for error in queue_job.errors] == [("FAILED_INDEX", final.error)]
    assert len(endpoint.calls("INDEX_ENDPOINT")) == 1
    assert await client.active_jobs(tenant) == {}


@pytest.mark.parametrize(("behaviour", "text"), MAY_PASS.values(), ids=MAY_PASS)
async def test_answer_that_may_pass_is_asked_for_again_in_production_only(
    impatient: Pair, behaviour: fake.Behaviour, text: str
) -> None:
    developing, producing = [
        await impatient.new_tenant(environment_type=each) for each in ("DEVELOPMENT", "PRODUCTION")
    ]
    developer, producer = impatient.client(developing.api_key), impatient.client(producing.api_key)
    twice = on("INDEX_ENDPOINT", fake.in_turn(behaviour, None))
    async with (
        FakeEndpoint(api_key=developing.api_key, behaviour=twice) as hostile,
        FakeEndpoint(api_key=producing.api_key, behaviour=on("INDEX_ENDPOINT", behaviour), index=index_of(1)) as moody,
        asyncio.timeout(BOUNDED.total_seconds()),
    ):
        failing = await developer.create_endpoint(developing, hostile.url)
        waiting = await producer.create_endpoint(producing, moody.url)
        failed = (await developer.watch(failing.index_id))[-1]
        await eventually(lambda: has_failed_once(producer))
        moody.behaviour = None
        states = await producer.watch(waiting.index_id)

    assert state_name(failed) == "FAILED"
    assert failed.error.startswith(text.format(url=hostile.url))
    assert len(hostile.calls("INDEX_ENDPOINT")) == 1
    queue_job = await only_queue_job(producer)
    assert queue_job.errors[0].message.startswith(text.format(url=moody.url))
    assert (queue_job.attempt, queue_job.max_attempts) == (len(moody.calls("INDEX_ENDPOINT")), 5)
    assert state_name(states[-1]) == "SUCCEEDED"
    assert states[-1].error == ""


async def has_failed_once(client: Client) -> bool:
    return bool((await only_queue_job(client)).errors)


async def test_index_that_waits_for_its_next_attempt_says_why(impatient: Pair) -> None:
    tenant = await impatient.new_tenant(environment_type="PRODUCTION")
    client = impatient.client(tenant.api_key)
    later = fake.status(503, headers={"Retry-After": "300"})
    async with FakeEndpoint(api_key=tenant.api_key, behaviour=on("INDEX_ENDPOINT", later)) as endpoint:
        created = await client.create_endpoint(tenant, endpoint.url)
        await eventually(lambda: has_failed_once(client))

    queue_job = await only_queue_job(client)
    (index,) = await client.indexes(created.endpoint.id)
    assert (state_name(index), index.error) == (
        "PENDING",
        f"Could not connect to endpoint {endpoint.url}. Status code: 503",
    )
    assert (state_name(queue_job), queue_job.attempt) == ("SCHEDULED", 1)
    assert 290 <= queue_job.run_time.ToSeconds() - index.create_time.ToSeconds() <= 310


async def test_endpoint_that_nobody_serves_fails_its_index(impatient: Pair) -> None:
    tenant = await impatient.new_tenant()
    client = impatient.client(tenant.api_key)
    async with FakeEndpoint() as gone:
        url = gone.url
    index_id = await upsert_and_index(client, tenant, url, slug="gone")
    final = (await client.watch(index_id))[-1]

    assert (state_name(final), final.error) == ("FAILED", f"Could not connect to endpoint {url} (connection refused)")


async def test_neighbours_are_indexed_while_many_endpoints_hang(pair: Pair) -> None:
    hostile, neighbour = await pair.new_tenant(), await pair.new_tenant()
    async with AsyncExitStack() as stack:
        hanging = [
            await stack.enter_async_context(
                FakeEndpoint(api_key=hostile.api_key, slug=f"hangs-{number}", behaviour=on("INDEX_ENDPOINT", fake.hang))
            )
            for number in range(20)
        ]
        created = [await pair.client(hostile.api_key).create_endpoint(hostile, e.url, slug=e.slug) for e in hanging]
        await eventually(lambda: all(endpoint.calls("INDEX_ENDPOINT") for endpoint in hanging))
        for tenant, slug in ((neighbour, "of-another-tenant"), (hostile, "of-the-same-tenant")):
            client = pair.client(tenant.api_key)
            kind = await stack.enter_async_context(FakeEndpoint(api_key=tenant.api_key, slug=slug, index=index_of(300)))
            async with asyncio.timeout(5):
                asked = await client.create_endpoint(tenant, kind.url, slug=slug)
                final = (await client.watch(asked.index_id))[-1]
            assert (state_name(final), final.stats.jobs) == ("SUCCEEDED", 300)
        (index,) = await pair.client(hostile.api_key).indexes(created[0].endpoint.id)
        assert state_name(index) == "FETCHING"


async def test_hostile_answers_cost_the_server_little_memory(database_url: str, redis_url: str, tmp_path: Path) -> None:
    async with running_processes(database_url=database_url, redis_url=redis_url, directory=tmp_path) as processes:
        tenant = await processes.pair.new_tenant()
        client = processes.pair.client(tenant.api_key)
        async with FakeEndpoint(api_key=tenant.api_key, index=index_of(10)) as endpoint:
            created = await client.create_endpoint(tenant, endpoint.url)
            await client.watch(created.index_id)
            before = processes.server.peak_memory_bytes()
            for behaviour in (fake.huge_body(), fake.gzip_bomb(), fake.endless_header_line):
                endpoint.behaviour = on("INDEX_ENDPOINT", behaviour)
                asked = await client.index(created.endpoint.id, force=True)
                async with asyncio.timeout(BOUNDED_BY_SIZE.total_seconds()):
                    assert state_name((await client.watch(asked.index.id))[-1]) == "FAILED"
            after = processes.server.peak_memory_bytes()

    assert after - before < 48 * MEBIBYTE


async def test_many_dense_answers_at_once_cost_neighbours_and_memory_little(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    one_job = b'{"id":"dense","version":"1.0.0","values":[' + b'{"a":0},' * 500_000 + b"{}]}"
    dense = fake.raw_body(json.dumps(fake.EMPTY_INDEX).encode().replace(b'"jobs": []', b'"jobs": [' + one_job + b"]"))
    async with running_processes(database_url=database_url, redis_url=redis_url, directory=tmp_path) as processes:
        hostile, neighbour = await processes.pair.new_tenant(), await processes.pair.new_tenant()
        attacker, bystander = (processes.pair.client(tenant.api_key) for tenant in (hostile, neighbour))
        async with (
            FakeEndpoint(api_key=hostile.api_key, behaviour=dense) as endpoint,
            FakeEndpoint(api_key=neighbour.api_key, index=index_of(100)) as kind,
        ):
            before = processes.server.peak_memory_bytes()
            asked = [await upsert_and_index(attacker, hostile, endpoint.url, slug=f"dense-{n}") for n in range(8)]
            async with asyncio.timeout(BOUNDED.total_seconds()):
                created = await bystander.create_endpoint(neighbour, kind.url)
                unharmed = (await bystander.watch(created.index_id))[-1]
            async with asyncio.timeout(60):
                ends = await asyncio.gather(*(attacker.watch(index_id) for index_id in asked))
            growth = processes.server.peak_memory_bytes() - before

    assert state_name(unharmed) == "SUCCEEDED"
    assert {state_name(states[-1]) for states in ends} == {"FAILED"}
    assert len(endpoint.calls("INDEX_ENDPOINT")) == len(asked)
    assert growth < 320 * MEBIBYTE


async def upsert_and_index(client: Client, tenant: Tenant, url: str, *, slug: str) -> str:
    """Register an endpoint without a ping and ask for its index."""
    upserted = await client.call(
        client.endpoints.UpsertEndpoint,
        endpoint_service_pb2.UpsertEndpointRequest(environment_id=tenant.environment_id, slug=slug, url=url),
    )
    return str((await client.index(upserted.endpoint.id)).index.id)


# Their endpoints, which are in this process, keep it busy: those of others would be called too late.
BUSY: Final = ("1-GB body", "gzip bomb")
REFUSED_PINGS: Final = {
    "refuses the key": (fake.refuse_key, BAD_KEY, "401"),
    "401": (fake.status(401), INVALID_API_KEY_TEXT, "401"),
    "another slug": (
        fake.json_body({"ok": False, "error": "Endpoint ID mismatch error. Expected a, got b"}),
        "Endpoint ID mismatch error. Expected a, got b",
        "200",
    ),
    "404": (fake.status(404), NO_ANSWER + ". Status code: 404", "404"),
    "500": (fake.status(500), NO_ANSWER + ". Status code: 500", "500"),
    "redirect": (redirect_to_itself(307), NO_ANSWER + ". Status code: 307", "307"),
    "HTML": (fake.html(), UNPARSABLE_TEXT, "200"),
    "wrong shape": (
        fake.json_body({"ok": 1}),
        'Endpoint {url} responded with error: Input should be a valid boolean at "ok"',
        "200",
    ),
    "hangs": (fake.hang, NO_ANSWER, None),
    "drips": (fake.drip(pause=timedelta(milliseconds=100)), NO_ANSWER, None),
    "hangs up": (fake.hang_up, NO_ANSWER, None),
    "1-GB body": (fake.huge_body(), NO_ANSWER, None),
    "gzip bomb": (fake.gzip_bomb(), NO_ANSWER, None),
}


async def test_failed_ping_is_told_in_the_protocols_words_and_nothing_is_stored(
    impatient: Pair, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    tenant = await impatient.new_tenant()
    refusals: dict[str, tuple[str, str, str, str | None]] = {}
    for names in (BUSY, [name for name in REFUSED_PINGS if name not in BUSY]):
        refused = [refused_creation(impatient, tenant, name, REFUSED_PINGS[name][0]) for name in names]
        refusals.update(zip(names, await asyncio.gather(*refused), strict=True))

    assert refusals == {
        name: ("FAILED_PRECONDITION", "FAILED_PING", text, http_status)
        for name, (_, text, http_status) in REFUSED_PINGS.items()
    }
    stored = (
        "SELECT (SELECT count(*) FROM endpoints) + (SELECT count(*) FROM endpoint_indexes)"
        " + (SELECT count(*) FROM queue_jobs WHERE queue <> 'maintenance')"
    )
    assert await connection.fetchval(stored) == 0


async def refused_creation(
    pair: Pair, tenant: Tenant, name: str, behaviour: fake.Behaviour
) -> tuple[str, str, str, str | None]:
    slug = name.lower().replace(" ", "-")
    async with FakeEndpoint(api_key=tenant.api_key, slug=slug, behaviour=behaviour) as endpoint:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async with asyncio.timeout(BOUNDED.total_seconds()):
                await pair.client(tenant.api_key).create_endpoint(tenant, endpoint.url, slug=slug)
    refusal = refusal_of(caught.value)
    return (
        caught.value.code().name,
        refusal.reason,
        refusal.message.replace(endpoint.url, "{url}"),
        refusal.metadata.get("http_status"),
    )


async def test_one_bad_job_of_fifty_costs_nothing_but_itself(pair: Pair) -> None:
    tenant = await pair.new_tenant()
    client = pair.client(tenant.api_key)
    jobs = index_of(49)["jobs"]
    index = {**fake.EMPTY_INDEX, "jobs": [*jobs[:25], {**event_job("bad"), "trigger": {"type": "none"}}, *jobs[25:]]}
    async with FakeEndpoint(api_key=tenant.api_key, index=index) as endpoint:
        created = await client.create_endpoint(tenant, endpoint.url)
        final = (await client.watch(created.index_id))[-1]

    items = await client.items(created.index_id)
    assert (state_name(final), final.stats.jobs, final.stats.failed_items) == ("PARTIALLY_SUCCEEDED", 49, 1)
    assert sorted(await client.active_jobs(tenant)) == sorted(job["id"] for job in jobs)
    assert state_name(items.pop("bad")) == "REFUSED"
    assert {state_name(item) for item in items.values()} == {"REGISTERED"}
    assert "trigger" in (await client.items(created.index_id))["bad"].reason


async def test_index_of_items_that_are_all_refused_fails(pair: Pair) -> None:
    tenant = await pair.new_tenant()
    client = pair.client(tenant.api_key)
    index = {**fake.EMPTY_INDEX, "jobs": [{**event_job(f"bad-{number}"), "version": "new"} for number in range(50)]}
    async with FakeEndpoint(api_key=tenant.api_key, index=index) as endpoint:
        created = await client.create_endpoint(tenant, endpoint.url)
        final = (await client.watch(created.index_id))[-1]

    assert (state_name(final), final.stats.failed_items) == ("FAILED", 50)
    assert final.error == "None of the 50 items the endpoint offers was accepted."
    assert await client.active_jobs(tenant) == {}
