"""What `/metrics` tells operators after real work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from services.endpoints.domain.catalog import REGISTER_JOB, new_queue_job
from services.endpoints.domain.identifiers import new_uuid7
from services.endpoints.store.observation import observe_database
from services.endpoints.telemetry.metrics import Metrics
from tests.support.eventually import eventually
from tests.support.fake_endpoint import EMPTY_INDEX, FakeEndpoint, event_job, on, status
from tests.support.pair import Pair, running_pair

if TYPE_CHECKING:
    from collections.abc import Mapping

    import asyncpg

    from services.endpoints.store.postgres import PostgresStore

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


async def scrape(pair: Pair) -> Samples:
    url = f"http://127.0.0.1:{pair.listening.metrics_port}/metrics"
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        text = await response.text()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, labels: Mapping[str, str] | None = None) -> float | None:
    return samples.get((name, tuple(sorted((labels or {}).items()))))


GIVES_WAY_ONCE = """
CREATE SEQUENCE commits_of_endpoints;
CREATE FUNCTION give_way_once() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('commits_of_endpoints') = 1 THEN
        RAISE EXCEPTION 'It gives way.' USING ERRCODE = 'serialization_failure';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER gives_way_once AFTER INSERT ON endpoints
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION give_way_once()
"""


async def test_an_endpoint_whose_transaction_was_repeated_counts_once(
    database_url: str, redis_url: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    await connection.execute(GIVES_WAY_ONCE)
    async with running_pair(
        database_url=database_url, redis_url=redis_url, workers=0, metrics_address="127.0.0.1:0"
    ) as pair:
        tenant = await pair.new_tenant()
        async with FakeEndpoint(api_key=tenant.api_key) as endpoint:
            await pair.client(tenant.api_key).create_endpoint(tenant, endpoint.url)
            samples = await scrape(pair)
    assert await connection.fetchval("SELECT last_value FROM commits_of_endpoints") == 2
    owner = {"environment": tenant.environment_id, "organization": tenant.organization_id}
    assert value(samples, "kongflow_endpoint_created_total", owner) == 1


async def test_operators_see_what_was_made_called_given_up_and_lent(database_url: str, redis_url: str) -> None:
    async with running_pair(
        database_url=database_url, redis_url=redis_url, metrics_address="127.0.0.1:0", metrics_read_every_seconds=0
    ) as pair:
        tenant = await pair.new_tenant()
        client = pair.client(tenant.api_key)
        index = {**EMPTY_INDEX, "jobs": [event_job("welcome")]}
        async with FakeEndpoint(api_key=tenant.api_key, index=index) as endpoint:
            created = await client.create_endpoint(tenant, endpoint.url)
            await client.watch(created.index_id)
            endpoint.behaviour = on("INDEX_ENDPOINT", status(400))
            failed = await client.index(created.endpoint.id, force=True)
            await client.watch(failed.index.id)

            async def given_up() -> Samples | None:
                samples = await scrape(pair)
                labels = {"kind": "indexEndpoint", "reason": "FAILED_INDEX"}
                return samples if value(samples, "kongflow_queue_discards_total", labels) else None

            samples = await eventually(given_up)
    assert samples is not None
    owner = {"environment": tenant.environment_id, "organization": tenant.organization_id}
    assert value(samples, "kongflow_endpoint_created_total", owner) == 1
    assert value(samples, "kongflow_endpoint_ping_duration_seconds_count", {"status": "ok"}) == 1
    assert value(samples, "kongflow_endpoint_index_duration_seconds_count", {"status": "ok"}) == 1
    assert value(samples, "kongflow_endpoint_index_duration_seconds_count", {"status": "STATUS"}) == 1
    completed = {"kind": "registerJob", "result": "completed"}
    assert value(samples, "kongflow_queue_attempts_total", completed) == 1
    assert value(samples, "kongflow_queue_attempts_total", {"kind": "indexEndpoint", "result": "failed"}) == 1
    assert value(samples, "kongflow_ring_lag_seconds", {"queue": "execution"}) == 0
    assert value(samples, "kongflow_oldest_snapshot_seconds") is not None
    assert value(samples, "kongflow_endpoints", {"state": "HEALTHY"}) == 1
    assert value(samples, "kongflow_endpoints", {"state": "FAILING"}) == 0
    callers = {"server": "postgresql", "pool": "callers"}
    assert (value(samples, "kongflow_pool_size", callers) or 0) >= 1
    assert value(samples, "kongflow_pool_waiting", callers) == 0
    assert (value(samples, "kongflow_pool_size", {"server": "redis", "pool": "callers"}) or 0) >= 1
    assert value(samples, "kongflow_watches_open") == 0


async def test_what_is_read_of_the_database_is_read_once_for_all_who_scrape(
    database_url: str, redis_url: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    async with running_pair(
        database_url=database_url,
        redis_url=redis_url,
        workers=0,
        metrics_address="127.0.0.1:0",
        metrics_read_every_seconds=300,
    ) as pair:
        waiting = {"queue": "execution", "state": "AVAILABLE"}
        assert value(await scrape(pair), "kongflow_queue_jobs", waiting) == 0
        tenant = await pair.new_tenant()
        async with FakeEndpoint(api_key=tenant.api_key, index=EMPTY_INDEX) as endpoint:
            await pair.client(tenant.api_key).create_endpoint(tenant, endpoint.url)
        assert await connection.fetchval("SELECT count(*) FROM queue_jobs WHERE queue = 'execution'") == 1
        later = await scrape(pair)
    assert value(later, "kongflow_queue_jobs", waiting) == 0
    assert value(later, "kongflow_endpoint_ping_duration_seconds_count", {"status": "ok"}) == 1


async def test_a_queue_job_that_nobody_rings_shows_as_lag(
    store: PostgresStore, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    queue_job = new_queue_job(REGISTER_JOB, {}, queue_job_id=new_uuid7(), lane="endpoint-unrung")
    async with store.transaction() as tx:
        await tx.ledger.enqueue([queue_job])
    await connection.execute("UPDATE queue_jobs SET run_at = run_at - interval '1 minute'")
    assert (await observe_database(store)).ring_lag_seconds["default"] >= 60
    assert (await observe_database(store)).ring_lag_seconds["events"] == 0

    async with connection.transaction(isolation="repeatable_read"):
        await connection.execute("SELECT 1")
        assert (await observe_database(store)).oldest_snapshot_seconds > 0


def test_names_that_nobody_knows_are_one_label() -> None:
    metrics = Metrics()
    for number in range(100):
        metrics.count_discarded(f"kind-{number}", f"reason-{number}")
        metrics.count_attempts(f"kind-{number}", "failed", 1)
    labels = {"kind": "other", "reason": "other"}
    assert metrics.registry.get_sample_value("kongflow_queue_discards_total", labels) == 100
    assert (
        metrics.registry.get_sample_value("kongflow_queue_attempts_total", {"kind": "other", "result": "failed"}) == 100
    )
