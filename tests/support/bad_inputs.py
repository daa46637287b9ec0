"""The table of inputs that must be refused: where its rows are tried, and what a row says."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import asyncpg
import grpc

from tests.support import pair as pairs
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.pair import running_pair
from tests.support.rpc import ADMIN_TOKEN, Caller, Service, new_tenant
from tests.support.stage import STORED, Stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.support.pair import Pair

INVALID: Final = grpc.StatusCode.INVALID_ARGUMENT
ABSENT: Final = grpc.StatusCode.NOT_FOUND
FORBIDDEN: Final = grpc.StatusCode.PERMISSION_DENIED
IMPOSSIBLE: Final = grpc.StatusCode.FAILED_PRECONDITION
YEAR_SECONDS: Final = 366 * 86_400

_STORED: Final = (*STORED, "events", "external_accounts", "event_dispatchers", "event_dispatcher_names")


@dataclass(frozen=True, slots=True)
class Ground:
    """Both services with two tenants; a server beside them that may call no private address; and a caller for each."""

    pair: Pair
    stage: Stage
    guarded: Caller
    connection: asyncpg.Connection[asyncpg.Record]
    endpoint: FakeEndpoint

    @asynccontextmanager
    async def nothing_stored(self) -> AsyncIterator[None]:
        """Look at the end whether any table that calls write to has another number of rows."""
        before = await self._counts()
        yield
        assert await self._counts() == before

    async def _counts(self) -> dict[str, int]:
        return {table: await self.connection.fetchval(f"SELECT count(*) FROM {table}") for table in _STORED}


@dataclass(frozen=True, slots=True)
class Row:
    """One input of the table's row `number`, and what it must be answered; `fields` are those of the violations."""

    number: int
    name: str
    call: Callable[[Ground], Awaitable[Any]]
    code: grpc.StatusCode = INVALID
    reason: str = "INVALID_REQUEST"
    fields: tuple[str, ...] = ()


class _Door:
    """Opens callers of a pair, as a service of the tests' own does."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.callers: list[Caller] = []

    def caller(self, credential: str | None) -> Caller:
        caller = Caller(self._address, pairs.ADMIN_TOKEN if credential == ADMIN_TOKEN else credential)
        self.callers.append(caller)
        return caller


@asynccontextmanager
async def bad_input_ground(*, database_url: str, redis_url: str) -> AsyncIterator[Ground]:
    """Run what the table is tried on."""
    connection = await asyncpg.connect(database_url)
    doors: list[_Door] = []
    try:
        async with (
            running_pair(database_url=database_url, redis_url=redis_url) as pair,
            running_pair(database_url=database_url, redis_url=redis_url, workers=0, egress_allow="") as guarded,
        ):
            doors = [_Door(pair.grpc_target), _Door(guarded.grpc_target)]
            service = cast("Service", doors[0])
            stage = Stage(service, await new_tenant(service, "ours"), await new_tenant(service, "theirs"))
            async with FakeEndpoint(api_key=stage.ours.development_key, slug="app") as endpoint:
                yield Ground(pair, stage, doors[1].caller(stage.ours.service_token), connection, endpoint)
            for caller in (each for door in doors for each in door.callers):
                await caller.channel.close()
    finally:
        await connection.close()
