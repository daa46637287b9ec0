"""Upkeep deletes what has been kept long enough and nothing else."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from kongflow.v1 import endpoint_service_pb2, event_service_pb2

from services.endpoints.domain.identifiers import new_uuid7
from services.endpoints.domain.ledger_settings import Retention
from services.endpoints.domain.ports.ledger import UniqueKey
from services.endpoints.operations.prune import Prune, Upkeep
from tests.support.catalog import Tenant
from tests.support.clinic import clinic_of
from tests.support.eventually import eventually
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.ledger import queue_job
from tests.support.offers import answer, job
from tests.support.operator import Operator

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from tests.support.ledger import World
    from tests.support.pair import Pair
    from tests.support.stage import Stage


async def test_final_queue_jobs_are_kept_as_long_as_their_state_asks(world: World) -> None:
    await world.enqueue(*(queue_job(name) for name in ("completed", "cancelled", "discarded", "fresh", "waiting")))
    for name, state, age in (
        ("completed", "COMPLETED", "25 hours"),
        ("cancelled", "CANCELLED", "25 hours"),
        ("discarded", "DISCARDED", "31 days"),
        ("fresh", "COMPLETED", "23 hours"),
    ):
        await world.connection.execute(
            "UPDATE queue_jobs SET state = $2, finalized_at = clock_timestamp() - $3::text::interval"
            " WHERE args ->> 'name' = $1",
            name,
            state,
            age,
        )
    await _prune(world)

    assert set(await world.states()) == {"cancelled", "fresh", "waiting"}


async def test_what_is_retried_while_a_prune_waits_for_it_is_kept(world: World) -> None:
    given_up = queue_job("given up")
    await world.enqueue(given_up)
    await world.connection.execute("UPDATE queue_jobs SET state = 'DISCARDED', finalized_at = '2024-01-01'")

    async with world.store.transaction() as tx:
        await tx.queue_control.retry([given_up.id])
        pruning = asyncio.create_task(_prune(world))
        await eventually(world.somebody_waits_for_a_lock)
    await pruning

    assert await world.states() == {"given up": "AVAILABLE"}


async def test_key_that_is_claimed_anew_while_a_prune_waits_for_it_is_kept(world: World) -> None:
    await world.connection.execute(
        "INSERT INTO queue_uniques (key, value, queue_job_id, expires_at)"
        " VALUES ('key', 'value', gen_random_uuid(), '2024-01-01')"
    )

    async with world.store.transaction() as tx:
        await tx.ledger.claim(UniqueKey("key", "value", new_uuid7(), timedelta(minutes=15)))
        pruning = asyncio.create_task(_prune(world))
        await eventually(world.somebody_waits_for_a_lock)
    await pruning

    assert await world.connection.fetchval("SELECT count(*) FROM queue_uniques") == 1


async def test_a_bite_is_bounded_in_rows_of_every_table(world: World) -> None:
    await world.enqueue(*(queue_job(f"{state} {n}") for state in ("COMPLETED", "CANCELLED") for n in range(4)))
    await world.connection.execute(
        "UPDATE queue_jobs SET state = split_part(args ->> 'name', ' ', 1), finalized_at = '2024-01-01'"
    )
    await _insert_old_indexes(world.connection, await _insert_endpoint(world.connection), items=[3, 3, 3])
    bite = Prune(retention=Retention(indexes_kept=1, max_rows_at_once=5), new_id=new_uuid7)
    counts = "SELECT ARRAY[(SELECT count(*) FROM endpoint_index_items), count(*),"
    counts += " (SELECT count(*) FROM queue_jobs WHERE kind <> 'prune')]"

    left = []
    for _ in range(3):
        async with world.store.transaction() as tx:
            await bite.run(tx, [])
        left.append(await world.connection.fetchval(f"{counts} FROM endpoint_indexes"))

    assert left == [[4, 2, 3], [3, 1, 0], [3, 1, 0]]


async def test_full_bite_is_followed_by_another_at_once_and_the_last_by_none(world: World) -> None:
    await world.enqueue(*(queue_job(f"old {n}") for n in range(12)))
    await world.connection.execute("UPDATE queue_jobs SET state = 'COMPLETED', finalized_at = '2024-01-01'")

    assert await _bites(world) == 3
    assert not await world.states()


async def test_bite_full_of_keys_that_ran_out_is_followed_by_another(world: World) -> None:
    await world.connection.execute(
        "INSERT INTO queue_uniques (key, value, queue_job_id, expires_at)"
        " SELECT 'key', n::text, gen_random_uuid(), '2024-01-01' FROM generate_series(1, 12) AS n"
    )

    assert await _bites(world) == 3
    assert await world.connection.fetchval("SELECT count(*) FROM queue_uniques") == 0


async def test_bite_full_of_items_of_one_index_is_followed_by_another(world: World) -> None:
    await _insert_old_indexes(world.connection, await _insert_endpoint(world.connection), items=[12])

    assert await _bites(world) == 3
    assert await world.connection.fetchval("SELECT count(*) FROM endpoint_indexes") == 0


async def test_surplus_indexes_behind_many_kept_ones_go_after_some_prunes(world: World) -> None:
    tenant = Tenant(world.connection)
    await tenant.create()
    quiet = [await tenant.endpoint(f"quiet-{number}") for number in range(40)]
    for endpoint_id in quiet:
        await _insert_old_indexes(world.connection, endpoint_id, items=[0, 0])
    busy = await tenant.endpoint("busy")
    await _insert_old_indexes(world.connection, busy, items=[0] * 5)
    await world.connection.execute(
        "UPDATE endpoint_indexes SET created_at = created_at + interval '1 second' * place"
        " FROM (SELECT id, row_number() OVER (ORDER BY id) AS place FROM endpoint_indexes) AS placed"
        " WHERE placed.id = endpoint_indexes.id"
    )
    prune = Prune(retention=Retention(indexes_kept=2, max_rows_at_once=3), new_id=new_uuid7)

    left = []
    for _ in range(7):
        async with world.store.transaction() as tx:
            await prune.run(tx, [])
        left.append(await world.connection.fetchval("SELECT count(*) FROM endpoint_indexes"))
    assert left == [85, 85, 82, 82, 82, 82, 82]
    assert await world.connection.fetchval("SELECT count(*) FROM endpoint_indexes WHERE endpoint_id = $1", busy) == 2

    await _insert_old_indexes(world.connection, quiet[0], items=[0])
    for _ in range(3):
        async with world.store.transaction() as tx:
            await prune.run(tx, [])
    assert await world.connection.fetchval("SELECT count(*) FROM endpoint_indexes") == 82


async def test_surplus_index_that_another_transaction_has_is_left_to_a_later_prune(world: World) -> None:
    await _insert_old_indexes(world.connection, await _insert_endpoint(world.connection), items=[0, 0, 0])
    prune = Prune(retention=Retention(indexes_kept=1), new_id=new_uuid7)

    left = []
    async with world.connection.transaction():
        await world.connection.execute("SELECT FROM endpoint_indexes ORDER BY id LIMIT 1 FOR UPDATE")
        async with world.store.transaction() as tx:
            await prune.run(tx, [])
        left.append(await world.connection.fetchval("SELECT count(*) FROM endpoint_indexes"))
    async with world.store.transaction() as tx:
        await prune.run(tx, [])
    left.append(await world.connection.fetchval("SELECT count(*) FROM endpoint_indexes"))

    assert left == [2, 1]


async def test_prune_is_asked_for_once_in_its_period_by_all_servers(world: World) -> None:
    servers = [Upkeep(store=world.store, new_id=new_uuid7, retention=Retention()) for _ in range(3)]

    assert [await server.run_once() for server in servers] == [True, False, False]
    await world.connection.execute("UPDATE queue_uniques SET expires_at = clock_timestamp() - interval '1 second'")
    assert await servers[1].run_once()


async def test_running_service_prunes_old_indexes_but_keeps_the_last_ten(
    pair: Pair, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    tenant = await pair.new_tenant()
    client = pair.client(tenant.api_key)
    async with FakeEndpoint(api_key=tenant.api_key) as endpoint:
        created = await client.create_endpoint(tenant, endpoint.url)
        await client.watch(created.index_id)
        for _ in range(11):
            requested = await client.index(created.endpoint.id, force=True)
            await client.watch(requested.index.id)
    await connection.execute("UPDATE endpoint_indexes SET created_at = created_at - interval '8 days'")
    await connection.execute("DELETE FROM queue_uniques WHERE key = 'prune'")
    async with connection.transaction():
        await connection.execute(
            "INSERT INTO queue_jobs (id, environment_id, kind, args, queue, lane, priority, state, max_attempts)"
            " VALUES ($1, $2, 'prune', '{}', 'maintenance', 'maintenance', 4, 'AVAILABLE', 3)",
            new_uuid7(),
            UUID(int=0),
        )

    async def ten_are_left() -> bool:
        request = endpoint_service_pb2.ListEndpointIndexesRequest(endpoint_id=created.endpoint.id)
        response = await client.call(client.endpoints.ListEndpointIndexes, request)
        return len(response.indexes) == 10

    await eventually(ten_are_left)


async def test_history_of_an_endpoint_goes_in_bites(world: World) -> None:
    endpoint_id = await _insert_endpoint(world.connection)
    await _insert_old_indexes(world.connection, endpoint_id, items=[3, 3, 0])
    counts = "SELECT ARRAY[(SELECT count(*) FROM endpoint_index_items), count(*)] FROM endpoint_indexes"

    left = []
    while await world.store.transact(lambda tx: tx.indexes.delete_final(endpoint_id, limit=4)):
        left.append(await world.connection.fetchval(counts))

    assert left == [[2, 1], [0, 0]]


async def test_history_is_long_when_an_index_item_or_run_is_too_many(world: World) -> None:
    endpoint_id = await _insert_endpoint(world.connection)
    await _insert_old_indexes(world.connection, endpoint_id, items=[3, 0, 1])
    await world.connection.execute("UPDATE endpoint_indexes SET state = 'PARTIALLY_SUCCEEDED'")

    async with world.store.reading() as tx:
        found = {rows: await tx.endpoints.has_long_history(endpoint_id, rows=rows) for rows in (4, 5)}
        of_none = await tx.endpoints.has_long_history(new_uuid7(), rows=0)

    # An index without items counts as one row, too.
    assert found == {4: True, 5: False}
    assert not of_none


async def test_deleted_endpoint_has_lost_a_long_history_before_its_last_transaction(
    stage: Stage, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    endpoint = await stage.store_endpoint()
    await _insert_old_indexes(connection, UUID(endpoint.id), items=[1_000, 0])
    await _refuse_deletion_of_endpoints_with(connection, "endpoint_indexes")

    await stage.writer.endpoints.DeleteEndpoint(endpoint_service_pb2.DeleteEndpointRequest(endpoint_id=endpoint.id))

    assert await connection.fetchval("SELECT count(*) FROM endpoints") == 0


async def test_deleted_endpoint_has_lost_its_many_runs_before_its_last_transaction(
    stage: Stage, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    async with clinic_of(Operator(stage, connection)) as clinic:
        clinic.endpoint.index = answer(jobs=[job("welcome")])
        await clinic.ask(force=True)
        await clinic.operator.work_off()
        event = event_service_pb2.NewEvent(name="user.created")
        await stage.writer.events.SendEvent(
            event_service_pb2.SendEventRequest(environment_id=stage.ours.production.id, event=event)
        )
        await clinic.operator.work_off()
    await connection.execute(
        "INSERT INTO job_runs (id, number, job_id, version_id, event_record_id, dispatcher_id, endpoint_id,"
        " environment_id, organization_id, project_id)"
        " SELECT gen_random_uuid(), 1 + n, job_id, version_id, event_record_id, gen_random_uuid(), endpoint_id,"
        " environment_id, organization_id, project_id FROM job_runs CROSS JOIN generate_series(1, 1000) AS n"
    )
    assert await connection.fetchval("SELECT count(*) FROM job_runs") == 1_001
    await _refuse_deletion_of_endpoints_with(connection, "job_runs")

    await stage.writer.endpoints.DeleteEndpoint(endpoint_service_pb2.DeleteEndpointRequest(endpoint_id=clinic.id))

    assert await connection.fetchval("SELECT count(*) FROM endpoints") == 0


async def test_deleted_endpoint_has_lost_its_many_old_versions_before_its_last_transaction(
    stage: Stage, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    async with clinic_of(Operator(stage, connection)) as clinic:
        clinic.endpoint.index = answer(jobs=[job("welcome")])
        await clinic.ask(force=True)
        await clinic.operator.work_off()
    await connection.execute(
        "INSERT INTO job_versions (id, job_id, version, environment_id, endpoint_id, organization_id, project_id,"
        " queue_id, event_specification, trigger, state, content_hash, index_sequence)"
        " SELECT gen_random_uuid(), job_id, '0.' || n || '.0', environment_id, endpoint_id, organization_id,"
        " project_id, queue_id, event_specification, trigger, 'DISABLED', content_hash, index_sequence"
        " FROM job_versions CROSS JOIN generate_series(1, 1001) AS n"
    )
    # Only the last transaction disables the others.
    old = "(SELECT v.endpoint_id FROM job_versions v WHERE v.version < '1') AS rest"
    await _refuse_deletion_of_endpoints_with(connection, old)

    await stage.writer.endpoints.DeleteEndpoint(endpoint_service_pb2.DeleteEndpointRequest(endpoint_id=clinic.id))

    assert await connection.fetchval("SELECT count(*) FROM endpoints") == 0


async def _refuse_deletion_of_endpoints_with(connection: asyncpg.Connection[asyncpg.Record], rows: str) -> None:
    await connection.execute(
        f"""
        CREATE FUNCTION refuse_with_rows() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF EXISTS (SELECT FROM {rows} WHERE endpoint_id = OLD.id) THEN
                RAISE 'It still has rows.';
            END IF;
            RETURN OLD;
        END $$;
        CREATE TRIGGER refuse_with_rows BEFORE DELETE ON endpoints
            FOR EACH ROW EXECUTE FUNCTION refuse_with_rows();
        """
    )


async def _prune(world: World) -> None:
    async with world.store.transaction() as tx:
        await Prune(retention=Retention(), new_id=new_uuid7).run(tx, [])


async def _bites(world: World) -> int:
    """Prune five rows at once as long as one `prune` asks for the next, and return how often that was."""
    prune = Prune(retention=Retention(indexes_kept=0, max_rows_at_once=5), new_id=new_uuid7)
    count, due = 0, True
    while due:
        async with world.store.transaction() as tx:
            await prune.run(tx, [])
        count += 1
        due = bool(
            await world.connection.fetch(
                "DELETE FROM queue_jobs WHERE kind = 'prune' AND state = 'AVAILABLE' AND run_at <= clock_timestamp()"
                " RETURNING id"
            )
        )
    return count


async def _insert_endpoint(connection: asyncpg.Connection[asyncpg.Record]) -> UUID:
    tenant = Tenant(connection)
    await tenant.create()
    return await tenant.endpoint()


async def _insert_old_indexes(
    connection: asyncpg.Connection[asyncpg.Record], endpoint_id: UUID, *, items: Sequence[int]
) -> None:
    """Insert a final index of 2024 for each number, with so many items."""
    for count in items:
        index_id = new_uuid7()
        await connection.execute(
            "INSERT INTO endpoint_indexes (id, endpoint_id, state, queue_job_id, created_at)"
            " VALUES ($1, $2, 'SUCCEEDED', $1, '2024-01-01')",
            index_id,
            endpoint_id,
        )
        await connection.execute(
            "INSERT INTO endpoint_index_items (index_id, ordinal, kind, key, state)"
            " SELECT $1, n, 'JOB', n::text, 'REGISTERED' FROM generate_series(1, $2::integer) AS n",
            index_id,
            count,
        )
