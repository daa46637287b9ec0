"""What callers get for dispatchers that must not be written, shown or changed; nothing of a refused call is stored."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import grpc
import pytest
import pytest_asyncio
from kongflow.v1 import dispatcher_service_pb2 as messages
from kongflow.v1.dispatcher_pb2 import DISPATCHER_ORIGIN_API

from tests.support.dispatchers import DispatcherStage, catalog_of
from tests.support.offers import dynamic, job
from tests.support.rpc import new_tenant, refused, running_service
from tests.support.servers import fresh_database
from tests.support.stage import Row, Stage, differing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from services.embedded.postgres import EmbeddedPostgres
    from tests.support.catalog import Tenant

INVALID = grpc.StatusCode.INVALID_ARGUMENT
FORBIDDEN = grpc.StatusCode.PERMISSION_DENIED
ABSENT = grpc.StatusCode.NOT_FOUND
IMPOSSIBLE = grpc.StatusCode.FAILED_PRECONDITION

NIL = "00000000-0000-0000-0000-000000000000"
STORED = ("event_dispatchers", "event_dispatcher_names", "external_accounts", "request_ids")


@pytest.fixture
async def dispatching(stage: Stage, connection: asyncpg.Connection[asyncpg.Record]) -> DispatcherStage:
    return await DispatcherStage(stage, connection).prepare()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_dispatching(postgres: EmbeddedPostgres) -> AsyncIterator[DispatcherStage]:
    """One service for calls that are all refused."""
    async with fresh_database(postgres) as url, running_service(url) as service:
        stage = Stage(service, await new_tenant(service, "ours"), await new_tenant(service, "theirs"))
        connection = await asyncpg.connect(url)
        yield await DispatcherStage(stage, connection).prepare()
        await connection.close()


@asynccontextmanager
async def nothing_changed(dispatching: DispatcherStage) -> AsyncIterator[None]:
    async def stored() -> dict[str, list[str]]:
        return {
            table: [row["t"] for row in await dispatching.connection.fetch(f"SELECT t::text FROM {table} t ORDER BY t")]
            for table in STORED
        }

    before = await stored()
    yield
    assert await stored() == before


async def test_refused_fields(dispatching: DispatcherStage) -> None:
    create, invalid = dispatching.create, "INVALID_REQUEST"
    names = [f"name-{number}" for number in range(101)]
    rows: dict[str, Row] = {
        "no dispatcher": (
            dispatching.stage.writer.dispatchers.CreateDispatcher(
                messages.CreateDispatcherRequest(environment_id=dispatching.stage.ours.development.id)
            ),
            INVALID,
            invalid,
            ["dispatcher"],
        ),
        "nothing in it": (
            create(event_names=None, job_version_id=None),
            INVALID,
            invalid,
            ["dispatcher.dispatchable", "dispatcher.event_names"],
        ),
        "101 names": (create(event_names=names), INVALID, invalid, ["dispatcher.event_names"]),
        "an empty name": (create(event_names=["a", ""]), INVALID, invalid, ["dispatcher.event_names[1]"]),
        "257 characters": (create(event_names=["a" * 257]), INVALID, invalid, ["dispatcher.event_names[0]"]),
        "a name twice": (create(event_names=["a", "b", "a"]), INVALID, invalid, ["dispatcher.event_names[2]"]),
        "NUL": (create(event_names=["a\x00"]), INVALID, invalid, ["dispatcher.event_names[0]"]),
        "line feeds": (
            create(event_names=["a\n"], source="a\nb", account_id="\x7f"),
            INVALID,
            invalid,
            ["dispatcher.event_names[0]", "dispatcher.source", "dispatcher.account_id"],
        ),
        "long source and account": (
            create(source="a" * 257, account_id="a" * 257),
            INVALID,
            invalid,
            ["dispatcher.source", "dispatcher.account_id"],
        ),
        "an environment that is no UUID": (create(environment_id="x"), INVALID, invalid, ["environment_id"]),
        "no environment": (create(environment_id=""), INVALID, invalid, ["environment_id"]),
        "a request id of another version": (
            create(request_id="01890a5d-ac96-774b-bcce-b302099a8057"),
            INVALID,
            invalid,
            ["request_id"],
        ),
        "a job version that is no UUID": (
            create(job_version_id="hello"),
            INVALID,
            invalid,
            ["dispatcher.job_version_id"],
        ),
        "an empty job version": (create(job_version_id=""), INVALID, invalid, ["dispatcher.job_version_id"]),
        "a nil dynamic trigger": (
            create(job_version_id=None, dynamic_trigger_id=NIL),
            INVALID,
            invalid,
            ["dispatcher.dynamic_trigger_id"],
        ),
        "all of it at once": (
            create(
                environment_id="x",
                request_id="y",
                event_names=[""],
                source="\n",
                payload_filter_json="{",
                context_filter_json="[]",
                account_id="\n",
                job_version_id="z",
            ),
            INVALID,
            invalid,
            [
                "environment_id",
                "request_id",
                "dispatcher.job_version_id",
                "dispatcher.event_names[0]",
                "dispatcher.source",
                "dispatcher.payload_filter_json",
                "dispatcher.context_filter_json",
                "dispatcher.account_id",
            ],
        ),
    }
    async with nothing_changed(dispatching):
        assert await differing(rows) == {}


async def test_names_at_their_limits(dispatching: DispatcherStage) -> None:
    widest = ["\U0001f680" * 253 + f"{number:03}" for number in range(100)]
    created = await dispatching.created(event_names=widest, source="\U0001f680" * 256, account_id="\U0001f680" * 256)
    assert list(created.event_names) == widest
    assert await dispatching.listed(event_name=widest[99], source="\U0001f680" * 256) == [created.id]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.xdist_group("bad filters")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "must be JSON: "),
        ("{} {}", "must be JSON: Extra data"),
        ("\ufeff{}", "must be JSON: It starts with a byte order mark."),
        ('{"a": [NaN]}', "must be JSON: It holds NaN"),
        ('{"a": [1e400]}', "must be JSON: It holds a number beyond"),
        ('{"a": ["\\u0000"]}', "must be JSON: It holds a NUL character."),
        ('{"a": ["\\ud800"]}', "must be JSON: It holds a lone surrogate."),
        ('{"a":' * 70 + "{}" + "}" * 70, "must be JSON: It is nested deeper"),
        ("null", "must be an object"),
        ("[]", "must be an object"),
        ('"x"', "must be an object"),
        ('{"a": "bare"}', "['a'] must be an object or an array"),
        ('{"a": null}', "['a'] must be an object or an array"),
        ('{"a": {"b": []}}', "['a']['b'] must not be empty"),
        ('{"a": ["x", 1]}', "['a'] must hold only strings"),
        ('{"a": ["x", {"$gt": 1}]}', "['a'] must hold only strings"),
        ('{"a": [null]}', "['a'] must hold only strings"),
        ('{"a": [{"$regex": "(a+)+$"}]}', "['a'][0]['$regex'] is no operator"),
        ('{"a": [{"$gt": 1}, {"gt": 1}]}', "['a'][1]['gt'] is no operator"),
        ('{"a": [{}]}', "['a'][0] must hold an operator"),
        ('{"a": [{"$gt": "1"}]}', "['a'][0]['$gt'] must be a number"),
        ('{"a": [{"$gt": true}]}', "['a'][0]['$gt'] must be a number"),
        ('{"a": [{"$startsWith": 1}]}', "['a'][0]['$startsWith'] must be a string"),
        ('{"a": [{"$exists": "yes"}]}', "['a'][0]['$exists'] must be true or false"),
        ('{"a": [{"$between": [1]}]}', "['a'][0]['$between'] must be an array of two numbers"),
        ('{"a": [{"$between": [2, 1]}]}', "['a'][0]['$between'] must hold the lower number first"),
        ('{"a": [{"$includes": ["x"]}]}', "['a'][0]['$includes'] must be "),
        ('{"a": [{"$not": null}]}', "['a'][0]['$not'] must be "),
        ('{"a": [{"$gt": 1, "$lt": 5}]}', "['a'][0] must hold one operator"),
        ('{"a": [' + ", ".join(["1"] * 1_000) + "]}", "must hold at most 1,000 values"),
    ],
)
async def test_refused_filters(shared_dispatching: DispatcherStage, text: str, said: str) -> None:
    async with nothing_changed(shared_dispatching):
        for field in ("payload_filter_json", "context_filter_json"):
            told: dict[str, Any] = {field: text}
            calls = {
                "create": shared_dispatching.create(**told),
                "update": shared_dispatching.update(shared_dispatching.index_dispatcher_id, field, **told),
            }
            for name, call in calls.items():
                refusal = await refused(call)
                assert (refusal.code, refusal.reason) == (INVALID, "INVALID_REQUEST"), name
                assert refusal.fields == [f"dispatcher.{field}"], name
                assert refusal.message.startswith(f"dispatcher.{field}: {said}"), refusal.message


async def test_filters_that_are_too_large(dispatching: DispatcherStage) -> None:
    huge = '{"a": ["' + "x" * (512 * 1024) + '"]}'
    rows: dict[str, Row] = {
        "filter": (
            dispatching.create(payload_filter_json=huge),
            INVALID,
            "PAYLOAD_TOO_LARGE",
            ["dispatcher.payload_filter_json"],
        ),
        "filter and more": (
            dispatching.create(payload_filter_json=huge, event_names=[]),
            INVALID,
            "INVALID_REQUEST",
            ["dispatcher.event_names", "dispatcher.payload_filter_json"],
        ),
    }
    async with nothing_changed(dispatching):
        assert await differing(rows) == {}
        deep = '{"' + '": {"'.join("k" * 100 for _ in range(60)) + '": 1' + "}" * 60
        refusal = await refused(dispatching.create(payload_filter_json=deep))
        assert refusal.fields == ["dispatcher.payload_filter_json"]
        assert len(refusal.message) < 500


async def test_a_filter_of_1000_values_is_taken(dispatching: DispatcherStage) -> None:
    text = '{"a": [' + ", ".join(map(str, range(998))) + "]}"
    assert (await dispatching.created(payload_filter_json=text)).payload_filter_json == text


async def test_what_is_to_start_must_be_in_the_environment(dispatching: DispatcherStage) -> None:
    stage = dispatching.stage
    elsewhere = catalog_of(dispatching.connection, stage.ours, in_production=True)
    foreign = catalog_of(dispatching.connection, stage.theirs)
    version, trigger = "job version", "dynamic trigger"
    rows = {"unknown": (str(uuid4()), str(uuid4()))}
    for name, catalog in {"our production's": elsewhere, "another tenant's": foreign}.items():
        rows[name] = await _offered(catalog)
    rows["of the wrong kind"] = (dispatching.dynamic_trigger_id, dispatching.job_version_id)
    async with nothing_changed(dispatching):
        for name, (version_id, trigger_id) in rows.items():
            for call, kind, wanted in (
                (dispatching.create(job_version_id=version_id, account_id="new"), version, version_id),
                (dispatching.create(job_version_id=None, dynamic_trigger_id=trigger_id), trigger, trigger_id),
            ):
                refusal = await refused(call)
                assert (refusal.code, refusal.reason, refusal.fields) == (ABSENT, "NOT_FOUND", []), name
                assert refusal.message == f"There is no {kind} '{wanted}' here."
                assert refusal.metadata == {"resource": kind, "name": wanted}


async def _offered(catalog: Tenant) -> tuple[str, str]:
    app = await catalog.endpoint("elsewhere")
    await catalog.register(app, jobs=[job("elsewhere")], dynamicTriggers=[dynamic("elsewhere")])
    version = await catalog.row("SELECT id FROM job_versions WHERE endpoint_id = $1", app)
    trigger = await catalog.row("SELECT id FROM dynamic_triggers WHERE endpoint_id = $1", app)
    return str(version["id"]), str(trigger["id"])


async def test_reused_request_ids(dispatching: DispatcherStage) -> None:
    request_id = str(uuid4())
    created = await dispatching.created(request_id=request_id)
    others: dict[str, Any] = {
        "event_names": ["other"],
        "enabled": False,
        "context_filter_json": '{"a": [1]}',
        "account_id": "acme",
    }
    async with nothing_changed(dispatching):
        rows: dict[str, Row] = {
            f"other {field}": (
                dispatching.create(request_id=request_id, **{field: value}),
                INVALID,
                "REQUEST_ID_REUSED",
                ["request_id"],
            )
            for field, value in others.items()
        }
        assert await differing(rows) == {}
    await dispatching.delete(created.id)
    refusal = await refused(dispatching.create(request_id=request_id))
    assert (refusal.code, refusal.message) == (ABSENT, f"There is no dispatcher '{created.id}' here.")


async def test_refused_masks(dispatching: DispatcherStage) -> None:
    own, mask = await dispatching.created(), ["update_mask"]

    def update(*paths: str, **fields: Any) -> Awaitable[Any]:
        return dispatching.update(own.id, *paths, **fields)

    rows: dict[str, Row] = {
        "none": (update(enabled=True, source="x"), INVALID, "INVALID_REQUEST", mask),
        "unknown": (update("nothing"), INVALID, "INVALID_REQUEST", mask),
        "the oneof": (update("dispatchable"), INVALID, "INVALID_REQUEST", mask),
        "some good, two bad": (update("enabled", "a", "b"), INVALID, "INVALID_REQUEST", mask * 2),
        "no id": (dispatching.update("", "enabled"), INVALID, "INVALID_REQUEST", ["dispatcher.id"]),
        "no names": (update("event_names"), INVALID, "INVALID_REQUEST", ["dispatcher.event_names"]),
        "everything, but no names": (update("*"), INVALID, "INVALID_REQUEST", ["dispatcher.event_names"]),
        "bad values": (
            update("event_names", "source", "account_id", event_names=["a", "a"], source="\n", account_id="a" * 257),
            INVALID,
            "INVALID_REQUEST",
            ["dispatcher.event_names[1]", "dispatcher.source", "dispatcher.account_id"],
        ),
    }
    rows |= {
        f"immutable {path}": (update(path), INVALID, "INVALID_REQUEST", mask)
        for path in ("id", "environment_id", "origin", "job_version_id", "dynamic_trigger_id")
    }
    async with nothing_changed(dispatching):
        assert await differing(rows) == {}
        refusal = await refused(update("origin"))
        assert refusal.message == "update_mask: must not name 'origin', which never changes"
        refusal = await refused(update("oops"))
        assert refusal.message == "update_mask: must not name 'oops', which is no field of a dispatcher"


async def test_an_indexs_dispatcher_can_only_be_enabled_and_disabled(dispatching: DispatcherStage) -> None:
    own = dispatching.index_dispatcher_id
    told: dict[str, Any] = {"event_names": ["user.created"], "source": "trigger.dev", "enabled": True}
    rows: dict[str, Row] = {
        path: (dispatching.update(own, path, "enabled", **told), IMPOSSIBLE, "WRONG_STATE", [])
        for path in ("event_names", "source", "payload_filter_json", "context_filter_json", "manual", "account_id", "*")
    }
    rows["deleting"] = (dispatching.delete(own), IMPOSSIBLE, "WRONG_STATE", [])
    rows["deleting what may be missing"] = (dispatching.delete(own, allow_missing=True), IMPOSSIBLE, "WRONG_STATE", [])
    async with nothing_changed(dispatching):
        assert await differing(rows) == {}
        refusal = await refused(dispatching.update(own, "manual", manual=True))
        assert refusal.metadata == {"resource": "dispatcher", "dispatcher_id": own, "origin": "INDEX"}
        assert refusal.details == ["google.rpc.ErrorInfo", "google.rpc.PreconditionFailure"]
        ignored = await dispatching.updated(own, "update_time")
    assert ignored == await dispatching.shown(own)


async def test_refused_reads(dispatching: DispatcherStage) -> None:
    for _ in range(2):
        await dispatching.created()
    listing, production = dispatching.list_them, dispatching.stage.ours.production.id
    token = (await listing(page_size=1)).next_page_token
    theirs = dispatching.stage.service.caller(dispatching.stage.theirs.development_key)
    page, invalid = ["page_token"], "INVALID_REQUEST"
    rows: dict[str, Row] = {
        "no id": (dispatching.get(""), INVALID, invalid, ["dispatcher_id"]),
        "no UUID": (dispatching.get("x"), INVALID, invalid, ["dispatcher_id"]),
        "deleting no UUID": (dispatching.delete("x"), INVALID, invalid, ["dispatcher_id"]),
        "unknown origin": (listing(origin=9), INVALID, invalid, ["origin"]),
        "all wrong": (
            listing(environment_id="x", event_name="\x00", source="a" * 1001, origin=3, page_size=-1, page_token="t"),
            INVALID,
            invalid,
            ["environment_id", "event_name", "source", "origin", "page_size", "page_token"],
        ),
        "no environment": (listing(environment_id=""), INVALID, invalid, ["environment_id"]),
        "unknown environment": (listing(environment_id=str(uuid4())), ABSENT, "NOT_FOUND", []),
        "forged token": (listing(page_token=token[:-2] + "zz"), INVALID, invalid, page),
        "another tenant's token": (
            listing(caller=theirs, environment_id="", page_token=token),
            INVALID,
            invalid,
            page,
        ),
        "token of another event": (listing(event_name="a", page_token=token), INVALID, invalid, page),
        "token of another source": (listing(source="a", page_token=token), INVALID, invalid, page),
        "token of another origin": (listing(origin=DISPATCHER_ORIGIN_API, page_token=token), INVALID, invalid, page),
        "token of another environment": (listing(environment_id=production, page_token=token), INVALID, invalid, page),
    }
    assert await differing(rows) == {}
    assert len((await listing(page_size=5_000)).dispatchers) == 3


async def test_another_tenants_dispatchers_read_as_absent(dispatching: DispatcherStage) -> None:
    stage = dispatching.stage
    callers = [stage.service.caller(stage.theirs.service_token), stage.service.caller(stage.theirs.development_key)]
    created, absent = (await dispatching.created()).id, str(uuid4())

    async def message(name: str, call: Callable[[str], Awaitable[Any]]) -> str:
        refusal = await refused(call(name))
        assert (refusal.code, refusal.reason) == (ABSENT, "NOT_FOUND")
        assert refusal.metadata == {"resource": "dispatcher", "name": name}
        return refusal.message.replace(name, "")

    async with nothing_changed(dispatching):
        for caller in callers:
            calls: tuple[Callable[[str], Awaitable[Any]], ...] = (
                lambda name, caller=caller: dispatching.get(name, caller=caller),  # type: ignore[misc]
                lambda name, caller=caller: dispatching.update(name, "manual", caller=caller),  # type: ignore[misc]
                lambda name, caller=caller: dispatching.update(name, "enabled", caller=caller),  # type: ignore[misc]
                lambda name, caller=caller: dispatching.delete(name, caller=caller),  # type: ignore[misc]
            )
            for call in calls:
                expected = await message(absent, call)
                assert await message(created, call) == expected
                assert await message(dispatching.index_dispatcher_id, call) == expected
            await dispatching.delete(created, caller=caller, allow_missing=True)
            refusal = await refused(dispatching.list_them(caller=caller))
            assert (refusal.code, refusal.reason) == (ABSENT, "NOT_FOUND")
            refusal = await refused(dispatching.create(caller=caller))
            assert (refusal.code, refusal.reason, refusal.metadata["resource"]) == (ABSENT, "NOT_FOUND", "environment")


async def test_who_may_do_what(dispatching: DispatcherStage) -> None:
    stage, created = dispatching.stage, (await dispatching.created()).id
    production = stage.service.caller(stage.ours.production_key)
    denied = (FORBIDDEN, "PERMISSION_DENIED")
    rows: dict[str, Row] = {}
    for name, caller in {"reader": stage.reader, "worker": stage.worker, "another environment": production}.items():
        rows |= {
            f"{name} creates": (dispatching.create(caller=caller), *denied, []),
            f"{name} updates": (dispatching.update(created, "manual", caller=caller), *denied, []),
            f"{name} deletes": (dispatching.delete(created, caller=caller), *denied, []),
            f"{name} deletes at will": (
                dispatching.delete(created, caller=caller, allow_missing=True),
                *denied,
                [],
            ),
        }
        if caller is not stage.reader:
            rows |= {
                f"{name} gets": (dispatching.get(created, caller=caller), *denied, []),
                f"{name} lists": (dispatching.list_them(caller=caller), *denied, []),
            }
    async with nothing_changed(dispatching):
        assert await differing(rows) == {}
        refusal = await refused(dispatching.get(created, caller=production))
        assert refusal.message == "This API key is of another environment than the dispatcher."
    for caller in (stage.reader, stage.developer, stage.admin):
        assert (await dispatching.get(created, caller=caller)).dispatcher.id == created
        assert len((await dispatching.list_them(caller=caller)).dispatchers) == 2


async def test_deleting_what_is_not_there(dispatching: DispatcherStage) -> None:
    created = await dispatching.created()
    await dispatching.delete(created.id)
    refusal = await refused(dispatching.delete(created.id))
    assert (refusal.code, refusal.reason) == (ABSENT, "NOT_FOUND")
    assert refusal.message == f"There is no dispatcher '{created.id}' here."
    await dispatching.delete(created.id, allow_missing=True)
    for call in (dispatching.get(created.id), dispatching.update(created.id, "enabled")):
        assert (await refused(call)).code is ABSENT
